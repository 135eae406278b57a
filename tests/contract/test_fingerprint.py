"""One hash for one meaning of states and actions."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.packaged import packaged_path
from nimbusguard.contract.features import NAMES
from nimbusguard.contract.fingerprint import (
    FINGERPRINT,
    action_table,
    feature_table,
    fingerprint_of,
)

FEATURE_CHANGES: dict[str, Any] = {
    "name": "renamed",
    "unit": "furlongs",
    "min": -1.0,
    "max": 12345.0,
    "absent": "guess",
}


def test_the_fingerprint_is_this_one() -> None:
    """Written down, so that a change of the table cannot go by unnoticed: it is a new contract."""
    assert fingerprint_of(feature_table(), action_table()) == FINGERPRINT
    assert FINGERPRINT == (
        "sha256:c41c46f7d4552b380be013500ebcaf82fbf8aaa7ae80e7ff7dd66a227e364023"
    )


def test_the_packaged_model_was_made_for_it() -> None:
    """What is shipped can be served."""
    metadata = json.loads((packaged_path() / "nimbusguard-dqn" / "1" / "metadata.json").read_text())

    assert metadata["fingerprint"] == FINGERPRINT


@pytest.mark.parametrize("key", FEATURE_CHANGES)
@pytest.mark.parametrize("name", NAMES)
def test_it_changes_with_every_field_of_every_feature(name: str, key: str) -> None:
    """Name, unit, bounds and the meaning of absence."""
    table = feature_table()
    table[NAMES.index(name)][key] = FEATURE_CHANGES[key]

    assert fingerprint_of(table, action_table()) != FINGERPRINT


@pytest.mark.parametrize("index", range(5))
@pytest.mark.parametrize(("key", "value"), [("name", "SCALE_AWAY"), ("change", 7)])
def test_it_changes_with_every_field_of_every_action(index: int, key: str, value: object) -> None:
    """Name and change."""
    actions = action_table()
    actions[index][key] = value

    assert fingerprint_of(feature_table(), actions) != FINGERPRINT


@given(order=st.permutations(range(11)))
def test_it_changes_with_the_order_of_the_features(order: list[int]) -> None:
    """The order of the table is the order of the state."""
    table = feature_table()
    shuffled = [table[index] for index in order]

    same = order == sorted(order)
    assert (fingerprint_of(shuffled, action_table()) == FINGERPRINT) == same


def test_it_changes_with_the_order_of_the_actions() -> None:
    """The order of the actions is the order of the Q-values."""
    assert fingerprint_of(feature_table(), action_table()[::-1]) != FINGERPRINT


@given(keys=st.permutations(["name", "unit", "min", "max", "absent"]))
def test_it_does_not_depend_on_the_order_of_keys(keys: list[str]) -> None:
    """JSON objects have none."""
    table = [{key: feature[key] for key in keys} for feature in feature_table()]

    assert fingerprint_of(table, action_table()) == FINGERPRINT


def test_it_does_not_depend_on_how_a_number_is_written() -> None:
    """A bound of 1 is one of 1.0, as it comes back from another JSON writer."""
    table: list[dict[str, Any]] = [
        feature | {"min": int(feature["min"])} for feature in feature_table()
    ]

    assert fingerprint_of(table, action_table()) == FINGERPRINT


def test_a_bound_that_is_no_number_has_no_fingerprint() -> None:
    """NaN is no JSON and equals nothing."""
    table = feature_table()
    table[0]["max"] = float("nan")

    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint_of(table, action_table())
