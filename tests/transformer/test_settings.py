"""What the transformer alone is told: its predictor, its Prometheus, what absence means."""

from __future__ import annotations

import argparse

import pytest

from serving.settings import InvalidSetting, ServerSettings
from transformer.__main__ import make_client, with_deadline
from transformer.hop_grpc import GrpcPredictorClient
from transformer.hop_rest import RestPredictorClient
from transformer.settings import predictor_address, transformer_settings


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("predictor", ("predictor", None)),
        ("nimbusguard-dqn-model-predictor.ns", ("nimbusguard-dqn-model-predictor.ns", None)),
        ("predictor:8082", ("predictor", 8082)),
        ("127.0.0.1:80", ("127.0.0.1", 80)),
        ("[::1]:8082", ("::1", 8082)),
        ("[fe80::1]", ("fe80::1", None)),
    ],
)
def test_the_predictor_may_be_named_in_every_usual_way(
    text: str, address: tuple[str, int | None]
) -> None:
    """The controller injects a bare name; people give ports and IPv6."""
    assert predictor_address(text) == address


@pytest.mark.parametrize(
    "text", ["", " ", "http://predictor", "predictor:http", "predictor:0", "p:65536", "::1", "a b"]
)
def test_a_predictor_that_cannot_be_reached_stops_the_start(text: str) -> None:
    """Not after the start, as an endless failure to connect."""
    with pytest.raises(InvalidSetting, match="--predictor_host: expected a host or host:port"):
        predictor_address(text)


def flags(**values: object) -> argparse.Namespace:
    given = {"predictor_host": "p", "predictor_protocol": "v2", "model_name": "m"} | values
    return argparse.Namespace(**given)


async def test_the_protocol_chooses_the_hop() -> None:
    """V2 over REST or gRPC."""
    assert isinstance(make_client(flags()), RestPredictorClient)
    assert isinstance(make_client(flags(predictor_protocol="grpc-v2")), GrpcPredictorClient)


@pytest.mark.parametrize("protocol", ["v1", "", "V2", "grpc"])
def test_a_protocol_that_cannot_name_the_version_stops_the_start(protocol: str) -> None:
    """A decision without version and fingerprint is none."""
    with pytest.raises(InvalidSetting, match="--predictor_protocol: expected v2 or grpc-v2"):
        make_client(flags(predictor_protocol=protocol))


def test_the_sdks_timeout_goes_before_our_deadline() -> None:
    """`--predictor_request_timeout_seconds`, where it is given."""
    settings = ServerSettings()

    given = with_deadline(settings, flags(predictor_request_timeout_seconds=5))
    left_out = with_deadline(settings, flags(predictor_request_timeout_seconds=None))

    assert given.deadline_s == 5.0
    assert left_out == settings
    with pytest.raises(InvalidSetting, match="expected more than 0, got 0"):
        with_deadline(settings, flags(predictor_request_timeout_seconds=0))


def test_prometheus_is_a_base_url() -> None:
    """Without a trailing slash; nothing set means that workloads cannot be looked up."""
    own = transformer_settings({"PROMETHEUS_ENDPOINT": " http://prometheus:9090/ "})

    assert own.prometheus_endpoint == "http://prometheus:9090"
    assert transformer_settings({"PROMETHEUS_ENDPOINT": ""}).prometheus_endpoint is None


@pytest.mark.parametrize("text", ["prometheus:9090", "ftp://prometheus", "http://", "9090"])
def test_what_is_no_url_stops_the_start(text: str) -> None:
    """The message shows what one looks like."""
    with pytest.raises(InvalidSetting, match="PROMETHEUS_ENDPOINT: expected a URL like http://"):
        transformer_settings({"PROMETHEUS_ENDPOINT": text})


def test_absence_may_be_declared_to_mean_zero() -> None:
    """For features that a service may really lack, separated by commas."""
    own = transformer_settings({"ABSENT_AS_ZERO": "response_time_p95, error_rate,"})

    assert own.absent_as_zero == ("response_time_p95", "error_rate")


@pytest.mark.parametrize(
    "text", ["latency", "error_rate,cpu_utilization", "request_rate", "pod_count", "Error_Rate"]
)
def test_a_declaration_that_hides_an_outage_stops_the_start(text: str) -> None:
    """Without CPU, memory, requests or pods there is nothing to decide on."""
    with pytest.raises(InvalidSetting, match="ABSENT_AS_ZERO: expected features out of network_io"):
        transformer_settings({"ABSENT_AS_ZERO": text})
