"""Bodies and answers of every wire form."""

import numpy as np
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.payloads import (
    JSON_LENGTH_HEADER,
    Form,
    draw_rows,
    http_request,
    parse_answer,
    render,
)
from nimbusguard.contract.features import MAXIMUM, MINIMUM, NAMES
from nimbusguard.contract.normalization import normalize


def rows_of(count: int) -> np.ndarray:
    return draw_rows(np.random.default_rng(3), count)


def test_drawn_rows_lie_inside_the_bounds_and_far_from_a_mask() -> None:
    """So nothing is clipped or masked, and every system has the same right answer."""
    rows = rows_of(200)

    assert not normalize(rows).clipped.any()
    assert rows[:, 4].min() >= 10
    assert rows[:, 4].max() <= 40
    assert ((rows >= MINIMUM) & (rows <= MAXIMUM)).all()


def test_named_json_holds_every_feature_by_its_name() -> None:
    """A named body is read back as the rows it was made of."""
    rows = rows_of(3)

    instances = orjson.loads(render(Form.NAMED, "raw_metrics", rows).content)["instances"]

    assert [list(instance) for instance in instances] == [list(NAMES)] * 3
    np.testing.assert_array_equal([list(instance.values()) for instance in instances], rows)


def test_a_binary_body_is_a_json_header_and_the_tensor_behind_it() -> None:
    """The header's length is declared, and the rest is float32 in row order."""
    rows = rows_of(4)

    body = render(Form.V2_BINARY, "state", rows)

    length = int(dict(body.headers)[JSON_LENGTH_HEADER])
    (entry,) = orjson.loads(body.content[:length])["inputs"]
    tensor = np.frombuffer(body.content[length:], dtype="<f4").reshape(entry["shape"])
    assert entry["name"] == "state"
    assert entry["parameters"]["binary_data_size"] == len(body.content) - length
    np.testing.assert_array_equal(tensor, rows.astype(np.float32))


@pytest.mark.parametrize("form", list(Form))
def test_a_request_declares_the_length_of_its_body(form: Form) -> None:
    """A wrong length would make the server wait or cut the next request short."""
    body = render(form, "state", rows_of(2))

    head, _, content = http_request(form.path, body).partition(b"\r\n\r\n")

    assert content == body.content
    assert f"content-length: {len(body.content)}".encode() in head.split(b"\r\n")
    assert head.startswith(b"POST /v")


@given(st.integers(1, 6), st.integers(0, 2**32 - 1))
def test_a_binary_answer_is_read_back_as_it_was_written(batch: int, seed: int) -> None:
    """Tensors of other names and kinds between the two that matter do not shift them."""
    rng = np.random.default_rng(seed)
    q_values = rng.normal(size=(batch, 5)).astype("<f4")
    action = q_values.argmax(axis=1).astype("<i8")
    names = b"\x05\x00\x00\x00ABCDE" * batch
    tensors = [
        ("action_index", "INT64", [batch], action.tobytes()),
        ("action", "BYTES", [batch], names),
        ("q_values", "FP32", [batch, 5], q_values.tobytes()),
    ]
    head = orjson.dumps(
        {
            "outputs": [
                {
                    "name": name,
                    "datatype": datatype,
                    "shape": shape,
                    "parameters": {"binary_data_size": len(raw)},
                }
                for name, datatype, shape, raw in tensors
            ]
        }
    )

    answer = parse_answer(
        Form.V2_BINARY, head + b"".join(raw for *_, raw in tensors), json_length=len(head)
    )

    np.testing.assert_array_equal(answer.q_values, q_values)
    assert answer.action is not None
    np.testing.assert_array_equal(answer.action, action)


def test_a_predictor_answer_has_q_values_and_no_action() -> None:
    """V1 lists and the SDK's `output-0` mean the same."""
    v1 = parse_answer(Form.ARRAYS, b'{"predictions":[[1,2,3,4,5]]}')
    v2 = parse_answer(
        Form.V2_JSON,
        b'{"outputs":[{"name":"output-0","datatype":"FP32","shape":[1,5],"data":[1,2,3,4,5]}]}',
    )

    assert v1.action is None
    assert v2.action is None
    np.testing.assert_array_equal(v1.q_values, v2.q_values)
