"""What models, versions, aliases and files may be called."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.names import (
    is_file_name,
    is_version,
    require_alias,
    require_model,
    require_version,
)
from nimbusguard.contract.errors import InvalidRequest

ESCAPES = ["../1", "..", ".", "1/..", "/1", "a/b", "a\\b", "", " 1", "1\n", "\x00", "%2e%2e", "~"]


@pytest.mark.parametrize("text", ["1", "2", "10", "999999999"])
def test_positive_integers_as_text_are_versions(text: str) -> None:
    """1, 2, 3 and so on, as they are written."""
    assert is_version(text)
    assert require_version(text) == text


@pytest.mark.parametrize(
    "text", [*ESCAPES, "0", "01", "-1", "+1", "1.0", "v1", "1e3", "\u0661", "1" * 10]
)
def test_anything_else_is_no_version(text: str) -> None:
    """Signs, zeros in front, other digits and other folders are refused."""
    assert not is_version(text)
    with pytest.raises(InvalidRequest, match="version: expected a positive integer"):
        require_version(text)


@pytest.mark.parametrize("text", [*ESCAPES, "-a", "a-", "A", "a_b", "a.b", "é", "a" * 64])
def test_a_model_is_a_dns_label(text: str) -> None:
    """A model's name is a folder, a path of a URL and a Kubernetes name at once."""
    with pytest.raises(InvalidRequest, match="model name: expected"):
        require_model(text)


@pytest.mark.parametrize("text", ["nimbusguard-dqn", "a", "a1", "0", "a" * 63])
def test_dns_labels_are_model_names(text: str) -> None:
    """Letters, digits and inner hyphens, up to 63."""
    assert require_model(text) == text


@pytest.mark.parametrize("text", [*ESCAPES, "1", "latest", "Production", "stable"])
def test_only_known_aliases_may_be_set(text: str) -> None:
    """`production` and `canary` are what somebody follows."""
    with pytest.raises(InvalidRequest, match="alias: expected one of production, canary"):
        require_alias(text)


@given(st.text())
def test_no_name_that_is_accepted_leaves_its_folder(text: str) -> None:
    """Whatever passes as a file name holds no separator and is no step up."""
    if is_file_name(text):
        assert not set(text) & set("/\\\x00")
        assert not text.startswith(".")
    if is_version(text):
        assert str(int(text)) == text
