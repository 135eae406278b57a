"""V2 tensors: what is written can be read, as JSON and as bytes, and nothing else gets through."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.tensors import (
    NUMPY_TYPES,
    InferRequest,
    InferResponse,
    OutputTensor,
    TensorSpec,
    array_of_bytes,
    bytes_of,
    check_outputs,
    infer_document,
    parse_infer,
)

DATA = Path(__file__).parents[1] / "data" / "v2"
NOTHING = memoryview(b"")
SPECS = (
    TensorSpec("raw", ("FP64", "FP32"), (-1, 3)),
    TensorSpec("count", ("INT64",), (-1,), required=False),
)
OUTPUTS = (TensorSpec("q", ("FP32",), (-1, 2)), TensorSpec("name", ("BYTES",), (-1,)))
MATRICES = st.sampled_from(["FP32", "FP64"]).flatmap(
    lambda datatype: st.tuples(
        st.just(datatype),
        hnp.arrays(NUMPY_TYPES[datatype], st.tuples(st.integers(0, 6), st.just(3))),
    )
)
COUNTS = hnp.arrays(np.int64, st.integers(0, 6))
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**63), 2**64 - 1), st.floats(), st.text(max_size=3)
)
KEYS = st.sampled_from(
    ["inputs", "outputs", "name", "shape", "datatype", "data", "parameters", "id",
     "binary_data_size", "binary_data", "binary_data_output"]
)  # fmt: skip
WORDS = st.sampled_from(["raw", "count", "q", "name", "FP32", "FP64", "INT64", "BYTES"])
JSON = st.recursive(
    st.one_of(SCALARS, WORDS),
    lambda part: st.one_of(st.lists(part, max_size=6), st.dictionaries(KEYS, part, max_size=6)),
    max_leaves=20,
)


def outcome(document: Any, tail: bytes) -> tuple[InferRequest | None, str]:
    """What was understood, or None and the reason."""
    try:
        request = parse_infer(document, memoryview(tail), SPECS)
        check_outputs(request, OUTPUTS)
    except InvalidRequest as refused:
        return None, str(refused)
    return request, ""


def binary_entry(name: str, datatype: str, array: np.ndarray) -> dict[str, Any]:
    return {
        "name": name,
        "datatype": datatype,
        "shape": list(array.shape),
        "parameters": {"binary_data_size": array.nbytes},
    }


def json_entry(name: str, datatype: str, array: np.ndarray, *, nested: bool) -> dict[str, Any]:
    data = (array if nested else array.ravel()).tolist()
    return {"name": name, "datatype": datatype, "shape": list(array.shape), "data": data}


@given(matrix=MATRICES)
def test_binary_tensors_come_out_bit_by_bit(matrix: tuple[str, np.ndarray]) -> None:
    """NaN and infinities included; the bytes are not copied."""
    datatype, array = matrix
    document = {"inputs": [binary_entry("raw", datatype, array)]}

    parsed = parse_infer(document, memoryview(array.tobytes()), SPECS).inputs["raw"]

    assert parsed.tobytes() == array.tobytes()
    assert parsed.shape == array.shape
    assert parsed.dtype == array.dtype
    assert not parsed.flags.writeable


@given(matrix=MATRICES, nested=st.booleans())
def test_json_tensors_come_out_as_they_were(matrix: tuple[str, np.ndarray], nested: bool) -> None:
    """Flat or nested; null is NaN, since JSON has no word for it."""
    datatype, array = matrix
    assume(np.isfinite(array).all() or not np.isinf(array).any())
    entry = json_entry("raw", datatype, array, nested=nested)
    with_nulls = json.loads(json.dumps(entry).replace("NaN", "null"))

    parsed = parse_infer({"inputs": [with_nulls]}, NOTHING, SPECS).inputs["raw"]

    np.testing.assert_array_equal(parsed, array)
    assert parsed.dtype == array.dtype


@given(counts=COUNTS, order=st.permutations(["raw", "count"]))
def test_several_binary_tensors_share_the_tail_in_their_order(
    counts: np.ndarray, order: list[str]
) -> None:
    """Each takes as many bytes as it says, and all of them are used up."""
    raw = np.arange(3 * len(counts), dtype=np.float64).reshape(-1, 3)
    arrays = {"raw": ("FP64", raw), "count": ("INT64", counts)}
    document = {"inputs": [binary_entry(name, *arrays[name]) for name in order]}
    tail = b"".join(arrays[name][1].tobytes() for name in order)

    inputs = parse_infer(document, memoryview(tail), SPECS).inputs

    np.testing.assert_array_equal(inputs["raw"], raw)
    np.testing.assert_array_equal(inputs["count"], counts)


@given(counts=COUNTS)
def test_json_and_binary_tensors_may_be_mixed(counts: np.ndarray) -> None:
    """As the extension allows."""
    raw = np.ones((len(counts), 3), dtype=np.float32)
    document = {
        "inputs": [
            json_entry("count", "INT64", counts, nested=False),
            binary_entry("raw", "FP32", raw),
        ]
    }

    inputs = parse_infer(document, memoryview(raw.tobytes()), SPECS).inputs

    np.testing.assert_array_equal(inputs["count"], counts)
    np.testing.assert_array_equal(inputs["raw"], raw)


@given(
    q_values=hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 5), st.just(2)),
        elements=st.floats(allow_nan=False, allow_infinity=False, width=32),
    ),
    binary=st.booleans(),
)
def test_what_is_answered_can_be_read_back(q_values: np.ndarray, binary: bool) -> None:
    """As JSON or as bytes, the numbers and the names are those of the answer."""
    names = np.array([f"action {row}".encode() for row in range(len(q_values))], dtype=object)
    response = InferResponse(
        "m", "3", (OutputTensor("q", "FP32", q_values), OutputTensor("name", "BYTES", names))
    )

    document, tail = infer_document(response, InferRequest({}, "id-1", None, binary))

    document = json.loads(json.dumps(document))
    q_entry, name_entry = document["outputs"]
    if binary:
        assert len(b"".join(tail)) == sum(
            entry["parameters"]["binary_data_size"] for entry in document["outputs"]
        )
        read = array_of_bytes(tail[0], "FP32", q_entry["shape"], "q")
        assert tail[1] == b"".join(len(n).to_bytes(4, "little") + n for n in names)
    else:
        read = np.array(q_entry["data"], dtype=np.float32).reshape(q_entry["shape"])
        assert name_entry["data"] == [name.decode() for name in names]
    np.testing.assert_array_equal(read, q_values)
    assert (document["model_name"], document["model_version"], document["id"]) == ("m", "3", "id-1")


def response() -> InferResponse:
    return InferResponse(
        "m",
        None,
        (
            OutputTensor("q", "FP32", np.zeros((1, 2), dtype=np.float32)),
            OutputTensor("name", "BYTES", np.array([b"a"], dtype=object)),
        ),
    )


def request_with(**more: Any) -> InferRequest:
    entry = json_entry("raw", "FP32", np.zeros((1, 3), dtype=np.float32), nested=False)
    return parse_infer({"inputs": [entry], **more}, NOTHING, SPECS)


def test_outputs_come_in_the_order_in_which_they_were_asked_for() -> None:
    """Only those, and each as JSON or binary as it was asked for."""
    request = request_with(
        outputs=[{"name": "name", "parameters": {"binary_data": True}}, {"name": "q"}]
    )

    document, tail = infer_document(response(), request)

    assert [entry["name"] for entry in document["outputs"]] == ["name", "q"]
    assert tail == [b"\x01\x00\x00\x00a"]
    assert document["outputs"][1]["data"] == [0.0, 0.0]


def test_binary_output_for_all_gives_way_to_the_single_output() -> None:
    """`binary_data_output` is the default of each `binary_data`."""
    request = request_with(
        parameters={"binary_data_output": True},
        outputs=[{"name": "q"}, {"name": "name", "parameters": {"binary_data": False}}],
    )

    document, tail = infer_document(response(), request)

    assert len(tail) == 1
    assert document["outputs"][1]["data"] == ["a"]


@pytest.mark.parametrize("outputs", [None, []])
def test_no_wish_means_all_outputs(outputs: object) -> None:
    """As the protocol says."""
    document, _ = infer_document(response(), request_with(outputs=outputs))

    assert [entry["name"] for entry in document["outputs"]] == ["q", "name"]
    assert "id" not in document
    assert "model_version" not in document


def test_an_output_that_there_is_not_is_refused() -> None:
    """Before any work is done."""
    with pytest.raises(InvalidRequest, match=r"outputs: expected names out of \['q', 'name'\]"):
        check_outputs(request_with(outputs=[{"name": "p"}]), OUTPUTS)


@given(document=JSON, tail=st.binary(max_size=40))
def test_whatever_json_comes_it_is_understood_or_refused_in_words(
    document: Any, tail: bytes
) -> None:
    """No input leads to any other error."""
    request, reason = outcome(document, tail)

    assert len(reason) < 1000
    assert request is None or request.inputs["raw"].shape[1] == 3


@given(
    entry=st.fixed_dictionaries(
        {"name": st.just("raw")},
        optional={
            "shape": st.one_of(JSON, st.lists(st.integers(-1, 3), max_size=3)),
            "datatype": st.one_of(JSON, WORDS),
            "data": st.one_of(JSON, st.lists(st.floats(), max_size=6)),
            "parameters": st.one_of(
                JSON, st.fixed_dictionaries({"binary_data_size": st.integers(-1, 50)})
            ),
        },
    ),
    tail=st.binary(max_size=50),
)
def test_whatever_tensor_comes_it_is_understood_or_refused_in_words(
    entry: dict[str, Any], tail: bytes
) -> None:
    """As above, closer to what is accepted."""
    request, reason = outcome({"inputs": [entry]}, tail)

    assert len(reason) < 1000
    assert request is None or list(request.inputs["raw"].shape) == entry["shape"]


@given(datatype=st.sampled_from(sorted(NUMPY_TYPES)), count=st.integers(0, 5))
def test_bytes_are_little_endian(datatype: str, count: int) -> None:
    """On any machine, as the protocol says."""
    array = np.arange(count, dtype=NUMPY_TYPES[datatype])

    data = bytes_of(OutputTensor("x", datatype, array))

    assert data == b"".join(
        value.astype(NUMPY_TYPES[datatype].newbyteorder("<")).tobytes() for value in array
    )
    np.testing.assert_array_equal(array_of_bytes(data, datatype, (count,), "x"), array)


@pytest.mark.parametrize("name", ["raw-metrics", "raw-metrics-options", "state"])
def test_the_payload_files_are_good_requests(name: str) -> None:
    """Each file of `tests/data/v2` has the tensors that one of the services takes."""
    body = json.loads((DATA / f"{name}.json").read_text())
    specs = (
        TensorSpec("raw_metrics", ("FP64", "FP32"), (-1, 11), required=name != "state"),
        TensorSpec("state", ("FP32",), (-1, 11), required=name == "state"),
        *(
            TensorSpec(option, ("INT64",), (-1,), required=False)
            for option in ("current_replicas", "min_replicas", "max_replicas")
        ),
    )

    inputs = parse_infer(body, NOTHING, specs).inputs

    assert set(inputs) == {entry["name"] for entry in body["inputs"]}


def test_a_number_too_large_for_single_precision_is_infinity() -> None:
    """What that means is decided where the number is used; nothing is warned of."""
    entry = {"name": "raw", "datatype": "FP32", "shape": [1, 3], "data": [1e300, -1e300, None]}

    parsed = parse_infer({"inputs": [entry]}, NOTHING, SPECS).inputs["raw"]

    assert parsed.tolist()[0][:2] == [math.inf, -math.inf]
    assert math.isnan(parsed[0, 2])
