"""`metadata.json`: round trips, and an error that names the field for everything else."""

from __future__ import annotations

import copy
import hashlib
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.metadata import Draft, FileRecord, Metadata, Network
from nimbusguard.contract.errors import ArtifactCorrupted, InvalidRequest
from nimbusguard.contract.fingerprint import FINGERPRINT, action_table, feature_table

NOW = datetime(2026, 1, 2, 3, 4, 5, 678, tzinfo=UTC)
FILES = {"model.pt": FileRecord.of(b"pt"), "model.onnx": FileRecord.of(b"onnx")}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.text()
    | st.floats(allow_nan=False, allow_infinity=False),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
documents = st.dictionaries(st.text(), json_values, max_size=3)


def draft(**changes: Any) -> Draft:
    fields: dict[str, Any] = {
        "name": "nimbusguard-dqn",
        "features": tuple(feature_table()),
        "actions": tuple(action_table()),
        "network": Network(layers=(11, 128, 5), weights="sha256:00"),
        "training": {"algorithm": "dqn", "seed": 3},
        "evaluation": {"gate": {"passed": True}},
    }
    return Draft(**{**fields, **changes})


def published(**changes: Any) -> Metadata:
    return draft(**changes).published("4", NOW, FILES)


def with_field(path: str, value: object) -> bytes:
    """The document of a sound version with one field replaced, or removed for `...`."""
    document: Any = copy.deepcopy(published().to_json())
    *parents, last = path.split("/")
    place = document
    for key in parents:
        place = place[int(key)] if isinstance(place, list) else place[key]
    key = int(last) if isinstance(place, list) else last
    if value is ...:
        del place[key]
    else:
        place[key] = value
    return orjson.dumps(document)


@given(training=documents, evaluation=documents, extra=documents, network=documents)
def test_every_document_survives_a_round_trip(
    training: dict[str, Any],
    evaluation: dict[str, Any],
    extra: dict[str, Any],
    network: dict[str, Any],
) -> None:
    """What is written is read back equal, with keys that this code has never seen."""
    before = published(
        training={**training, "algorithm": "dqn", "seed": 3},
        evaluation={**evaluation, "gate": {"passed": False}},
        extra={f"future {key}": value for key, value in extra.items()},
        network=Network(
            layers=(11, 5),
            weights="sha256:11",
            extra={f"future {key}": value for key, value in network.items()},
        ),
    )

    after = Metadata.from_bytes(before.to_bytes())

    assert after == before
    assert after.to_bytes() == before.to_bytes()


def test_unknown_keys_are_kept() -> None:
    """A version of a newer program is copied without loss."""
    document = {**published().to_json(), "signature": {"by": "somebody"}}
    document["network"]["precision"] = "float16"
    document["files"]["model.pt"]["codec"] = "none"
    document["files"]["tokenizer.json"] = {"sha256": "0" * 64, "size": 1}

    copied = orjson.loads(Metadata.from_bytes(orjson.dumps(document)).to_bytes())

    assert copied["signature"] == {"by": "somebody"}
    assert copied["network"]["precision"] == "float16"
    assert copied["files"]["model.pt"]["codec"] == "none"
    assert copied["files"]["tokenizer.json"]["size"] == 1


def test_the_document_holds_what_the_contract_of_a_version_names() -> None:
    """Name, version, time, contract, network, digests, training and evaluation are all there."""
    document = published().to_json()

    assert list(document) == [
        *("name", "version", "created", "fingerprint", "features", "actions", "network", "files"),
        *("training", "evaluation"),
    ]
    assert document["created"] == "2026-01-02T03:04:05.000678Z"
    assert document["fingerprint"] == FINGERPRINT
    assert document["files"]["model.pt"] == {
        "sha256": hashlib.sha256(b"pt").hexdigest(),
        "size": 2,
    }


def test_a_time_of_another_zone_is_kept_as_utc() -> None:
    """Times compare whatever zone they were written in."""
    content = with_field("created", "2026-01-02T05:04:05+02:00")

    assert Metadata.from_bytes(content).created == datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    east = datetime(2026, 1, 2, 5, 4, 5, tzinfo=timezone(timedelta(hours=2)))
    assert draft().published("1", east, FILES).to_json()["created"] == "2026-01-02T03:04:05Z"


def test_a_time_without_zone_is_refused() -> None:
    """A publisher passes an instant, not the face of a clock."""
    with pytest.raises(ArtifactCorrupted, match=r"created: expected a time with its zone"):
        draft().published("1", NOW.replace(tzinfo=None), FILES)


@pytest.mark.parametrize(
    ("path", "value", "field"),
    [
        ("name", ..., "name"),
        ("name", "../x", "name"),
        ("name", 7, "name"),
        ("version", ..., "version"),
        ("version", 4, "version"),
        ("version", "04", "version"),
        ("version", "../4", "version"),
        ("created", ..., "created"),
        ("created", "yesterday", "created"),
        ("created", "2026-01-02T03:04:05", "created"),
        ("fingerprint", ..., "fingerprint"),
        ("fingerprint", "sha256:00", "fingerprint"),
        ("features", ..., "features"),
        ("features", [], "features"),
        ("features", "cpu", "features"),
        ("features/2", 5, "features[2]"),
        ("features/2/name", "", "features[2].name"),
        ("features/2/unit", ..., "features[2].unit"),
        ("features/2/absent", None, "features[2].absent"),
        ("features/2/min", True, "features[2].min"),
        ("features/2/max", "1", "features[2].max"),
        ("features/2/max", 0.0, "features[2].max"),
        ("actions", {}, "actions"),
        ("actions/1/name", 3, "actions[1].name"),
        ("actions/1/change", 1.5, "actions[1].change"),
        ("actions/1/change", True, "actions[1].change"),
        ("network", ..., "network"),
        ("network", [], "network"),
        ("network/layers", ..., "network.layers"),
        ("network/layers", 11, "network.layers"),
        ("network/layers", "11", "network.layers"),
        ("network/layers", [11], "network.layers"),
        ("network/layers", [10, 5], "network.layers"),
        ("network/layers", [11, 4], "network.layers"),
        ("network/layers", [11, 0, 5], "network.layers"),
        ("network/layers", [11, "128", 5], "network.layers"),
        ("network/weights", None, "network.weights"),
        ("files", ..., "files"),
        ("files", [], "files"),
        ("files/model.pt", ..., "files.model.pt"),
        ("files/model.onnx", ..., "files.model.onnx"),
        ("files/model.pt", "abc", "files.model.pt"),
        ("files/model.pt/sha256", ..., "files.model.pt.sha256"),
        ("files/model.pt/sha256", "ABC", "files.model.pt.sha256"),
        ("files/model.pt/size", -1, "files.model.pt.size"),
        ("files/model.pt/size", True, "files.model.pt.size"),
        ("files/..", {"sha256": "0" * 64, "size": 1}, "files"),
        ("files/metadata.json", {"sha256": "0" * 64, "size": 1}, "files"),
        ("training", ..., "training"),
        ("training/algorithm", ..., "training.algorithm"),
        ("training/seed", ..., "training.seed"),
        ("training/seed", -1, "training.seed"),
        ("training/seed", 1.0, "training.seed"),
        ("evaluation", None, "evaluation"),
        ("evaluation/gate", "passed", "evaluation.gate"),
        ("evaluation/gate/passed", "yes", "evaluation.gate.passed"),
        ("evaluation/gate/passed", 1, "evaluation.gate.passed"),
    ],
)
def test_a_wrong_field_is_named(path: str, value: object, field: str) -> None:
    """The message says which field, what was expected and what came."""
    with pytest.raises(ArtifactCorrupted) as refusal:
        Metadata.from_bytes(with_field(path, value))

    message = str(refusal.value)
    assert message.startswith(f"metadata.json: {field}: "), message
    assert "expected" in message
    assert ", got " in message


@pytest.mark.parametrize("content", [b"", b"{", b"null", b"[]", b'"x"', b'{"name": NaN}', b"\xff"])
def test_what_is_no_json_object_is_refused(content: bytes) -> None:
    """Half a document, another type and NaN are no metadata."""
    with pytest.raises(ArtifactCorrupted, match=r"^metadata\.json: "):
        Metadata.from_bytes(content)


@given(st.binary(max_size=200))
def test_no_bytes_end_in_another_error(content: bytes) -> None:
    """Whatever lies in the file, the answer is a refusal with a reason."""
    with pytest.raises(ArtifactCorrupted, match=r"^metadata\.json: "):
        Metadata.from_bytes(content)


@given(st.sampled_from(sorted(published().to_json())), json_values)
def test_no_value_of_a_field_ends_in_another_error(key: str, value: object) -> None:
    """Any JSON in the place of any field is read or refused, never a crash."""
    content = with_field(key, value)

    try:
        assert Metadata.from_bytes(content).version
    except ArtifactCorrupted as refusal:
        assert str(refusal).startswith("metadata.json: ")  # noqa: PT017 - both ends are right


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"training": {"algorithm": "dqn", "seed": 1, "loss": float("nan")}}, "training.loss"),
        ({"evaluation": {"traces": [{"cost": float("inf")}]}}, r"evaluation.traces\[0\].cost"),
        ({"extra": {"made": datetime(2026, 1, 1, tzinfo=UTC)}}, "extra.made"),
        ({"extra": {"by": {1: 2}}}, "extra.by"),
        ({"network": Network(layers=(11, 5), weights="x", extra={"p": {1}})}, "network.p"),
    ],
)
def test_a_draft_holds_only_what_json_can(changes: dict[str, Any], field: str) -> None:
    """NaN, infinity and objects are found by the trainer, not by the first reader."""
    with pytest.raises(ArtifactCorrupted, match=rf"^metadata\.json: {field}: expected"):
        draft(**changes)


@pytest.mark.parametrize("key", ["version", "fingerprint", "network"])
def test_a_further_key_may_not_shadow_a_field(key: str) -> None:
    """What is written is what is checked."""
    with pytest.raises(ArtifactCorrupted, match=f"metadata.json: extra.{key}: expected"):
        draft(extra={key: "sha256:00"})


def test_a_draft_is_read_from_the_document_of_a_version() -> None:
    """A version can be published again elsewhere: number, time and digests are left out."""
    metadata = published(extra={"note": "kept"})

    copied = Draft.from_json(metadata.to_json())

    assert copied == draft(extra={"note": "kept"})


@pytest.mark.parametrize(
    ("evaluation", "passed"),
    [
        ({}, False),
        ({"gate": {}}, False),
        ({"gate": {"passed": None}}, False),
        ({"gate": {"passed": False}}, False),
        ({"gate": {"passed": True}}, True),
    ],
)
def test_only_a_gate_that_says_true_has_passed(evaluation: dict[str, Any], passed: bool) -> None:
    """No gate, no verdict and a bad verdict are all no."""
    assert draft(evaluation=evaluation).gate_passed is passed


@pytest.mark.parametrize("verdict", [None, False])
def test_a_forced_version_says_so_and_keeps_the_verdict(verdict: bool | None) -> None:
    """The verdict and its figures stay beside the reason; forcing never makes a pass of it."""
    gate = {"passed": verdict, "violations": 0.2}

    forced = draft(evaluation={"gate": gate, "cost": 1}).forced("a rehearsal")

    assert forced.evaluation == {
        "cost": 1,
        "gate": {**gate, "forced": True, "reason": "a rehearsal"},
    }
    assert not forced.gate_passed


def test_forcing_without_a_gate_leaves_the_verdict_open() -> None:
    """`passed` is null where nothing was judged."""
    assert draft(evaluation={}).forced("no traffic yet").evaluation["gate"]["passed"] is None


@pytest.mark.parametrize("reason", ["", "  "])
def test_forcing_needs_a_reason(reason: str) -> None:
    """A later reader must learn why."""
    with pytest.raises(InvalidRequest, match="reason: expected why"):
        draft().forced(reason)
