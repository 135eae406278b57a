"""`KSERVE_ENDPOINT`: one URL from which every path follows."""

from __future__ import annotations

import pytest

from nimbusguard.client.endpoint import DEFAULT_ENDPOINT, Endpoint
from nimbusguard.contract.errors import InvalidRequest


def test_the_default_endpoint_is_the_in_cluster_name() -> None:
    """Parsing the default gives it back."""
    endpoint = Endpoint.parse(DEFAULT_ENDPOINT)

    assert endpoint.predict_url == DEFAULT_ENDPOINT
    assert endpoint.model == "nimbusguard-dqn"


@pytest.mark.parametrize(
    ("url", "base", "model"),
    [
        ("http://h:8080", "http://h:8080", "nimbusguard-dqn"),
        ("http://h:8080/", "http://h:8080", "nimbusguard-dqn"),
        ("https://h/gate/way", "https://h/gate/way", "nimbusguard-dqn"),
        ("http://[::1]:8080/v1/models/m:predict", "http://[::1]:8080", "m"),
        ("https://h/gate/v1/models/other:predict", "https://h/gate", "other"),
        ("http://h/v1/models/a%20b:predict", "http://h", "a b"),
    ],
)
def test_an_endpoint_is_a_predict_url_or_what_stands_before_it(
    url: str, base: str, model: str
) -> None:
    """Both forms are read."""
    assert Endpoint.parse(url) == Endpoint(base_url=base, model=model)


def test_every_path_follows_from_the_endpoint() -> None:
    """Prediction and readiness are V1, metadata is V2."""
    endpoint = Endpoint(base_url="http://h", model="m")

    assert endpoint.predict_url == "http://h/v1/models/m:predict"
    assert endpoint.ready_url == "http://h/v1/models/m"
    assert endpoint.metadata_url == "http://h/v2/models/m"


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:8080",
        "ftp://h/v1/models/m:predict",
        "http://",
        "http://h:port",
        "http://h:99999",
        "http://h/v1/models/m",
        "http://h/v1/models/:predict",
        "http://h/v1/models/a/b:predict",
        "http://h/v1/models/m:predict?x=1",
        "http://[::1",
    ],
)
def test_anything_else_is_refused_with_the_setting_to_change(url: str) -> None:
    """The message holds what came and the name of the setting."""
    with pytest.raises(InvalidRequest, match="KSERVE_ENDPOINT") as caught:
        Endpoint.parse(url)

    assert repr(url) in str(caught.value)
