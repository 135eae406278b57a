"""Request bodies and answers of every wire form that is measured. Pure.

Rows are drawn inside the bounds, with enough pods that no action is masked: so every system has the
same right answer, the highest Q-value, whether it knows of bounds or not.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from nimbusguard.contract.features import MAXIMUM, MINIMUM, NAMES, POD_COUNT, STATE_DIM

MODEL: Final = "nimbusguard-dqn"
V1_PATH: Final = f"/v1/models/{MODEL}:predict"
V2_PATH: Final = f"/v2/models/{MODEL}/infer"
READY_PATH: Final = f"/v1/models/{MODEL}"
JSON_LENGTH_HEADER: Final = "inference-header-content-length"
_DTYPES: Final[dict[str, np.dtype[Any]]] = {"FP32": np.dtype("<f4"), "INT64": np.dtype("<i8")}


class Form(Enum):
    """How rows travel."""

    NAMED = "V1 named JSON"
    ARRAYS = "V1 arrays"
    V2_JSON = "V2 JSON"
    V2_BINARY = "V2 binary"

    @property
    def path(self) -> str:
        """The path a body of this form is posted to."""
        return V1_PATH if self in {Form.NAMED, Form.ARRAYS} else V2_PATH


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """One request body and the headers that belong to it."""

    content: bytes
    headers: tuple[tuple[str, str], ...]


class Answer(NamedTuple):
    """What a server answered."""

    q_values: NDArray[np.float64]
    """(B, A)."""
    action: NDArray[np.int64] | None
    """Action index (B,); None from a predictor."""


def draw_rows(rng: np.random.Generator, count: int) -> NDArray[np.float64]:
    """Raw features (B, F), uniform inside the bounds; pods from 10 to 40, so nothing is masked."""
    rows = rng.uniform(MINIMUM, MAXIMUM, size=(count, STATE_DIM))
    rows[:, POD_COUNT] = rng.integers(10, 41, size=count)
    return rows


def render(form: Form, tensor: str, rows: NDArray[np.float64]) -> Body:
    """Write rows as one request body.

    Args:
        form: The wire form.
        tensor: Name of the V2 input: `raw_metrics` at a transformer, `state` at a predictor.
        rows: Features (B, F).
    """
    if form is Form.NAMED:
        instances: list[Any] = [dict(zip(NAMES, row, strict=True)) for row in rows.tolist()]
        return _json({"instances": instances})
    if form is Form.ARRAYS:
        return _json({"instances": rows.tolist()})
    entry: dict[str, Any] = {"name": tensor, "shape": list(rows.shape), "datatype": "FP32"}
    if form is Form.V2_JSON:
        return _json({"inputs": [entry | {"data": rows.ravel().tolist()}]})
    raw = rows.astype("<f4").tobytes()
    entry["parameters"] = {"binary_data_size": len(raw)}
    header = orjson.dumps({"inputs": [entry], "parameters": {"binary_data_output": True}})
    return Body(
        content=header + raw,
        headers=(
            ("content-type", "application/octet-stream"),
            (JSON_LENGTH_HEADER, str(len(header))),
        ),
    )


def _json(document: dict[str, Any]) -> Body:
    return Body(content=orjson.dumps(document), headers=(("content-type", "application/json"),))


def http_request(path: str, body: Body) -> bytes:
    """The complete bytes of one POST on a connection that stays open."""
    lines = [f"POST {path} HTTP/1.1", "host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in body.headers]
    lines.append(f"content-length: {len(body.content)}")
    return "\r\n".join([*lines, "", ""]).encode() + body.content


def parse_answer(form: Form, content: bytes, json_length: int | None = None) -> Answer:
    """Read an answer of a wire form.

    Args:
        form: The form of the request.
        content: The body of the answer.
        json_length: Value of the answer's `Inference-Header-Content-Length`, if it has one.

    Raises:
        KeyError: The answer lacks the Q-values.
    """
    if form in {Form.NAMED, Form.ARRAYS}:
        return _parse_v1(orjson.loads(content)["predictions"])
    head = content if json_length is None else content[:json_length]
    tail = b"" if json_length is None else content[json_length:]
    tensors: dict[str, NDArray[Any]] = {}
    for output in orjson.loads(head)["outputs"]:
        size = (output.get("parameters") or {}).get("binary_data_size")
        dtype = _DTYPES.get(output["datatype"])
        if dtype is not None:
            values = (
                np.array(output["data"], dtype=dtype)
                if size is None
                else np.frombuffer(tail[:size], dtype=dtype)
            )
            tensors[output["name"]] = values.reshape(output["shape"])
        tail = tail[size or 0 :]
    # The SDK's own response builder calls its only output `output-0`.
    q_values = tensors["q_values"] if "q_values" in tensors else tensors["output-0"]
    return Answer(q_values.astype(np.float64), tensors.get("action_index"))


def _parse_v1(predictions: list[Any]) -> Answer:
    if isinstance(predictions[0], dict):
        q_values = np.array([prediction["q_values"] for prediction in predictions])
        action = np.array([prediction["action_index"] for prediction in predictions])
        return Answer(q_values, action)
    return Answer(np.array(predictions), None)
