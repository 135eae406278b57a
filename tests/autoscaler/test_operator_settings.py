"""The operator's settings: checked at start, refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from autoscaler.settings import OperatorSettings, operator_settings
from nimbusguard.contract.errors import InvalidRequest


def test_an_empty_environment_gives_the_defaults() -> None:
    """Keys of other programs are left alone."""
    assert operator_settings({"PATH": "/bin", "AUTOSCALER_PORT": ""}) == OperatorSettings()


def test_every_key_is_read() -> None:
    """Text becomes typed values."""
    settings = operator_settings(
        {
            "AUTOSCALER_NAMESPACES": "shop, api",
            "AUTOSCALER_KUBE_API": "http://127.0.0.1:1",
            "AUTOSCALER_LEASE": "ns/lease",
            "AUTOSCALER_IDENTITY": "pod-1",
            "AUTOSCALER_LISTEN": "127.0.0.1",
            "AUTOSCALER_PORT": "0",
            "AUTOSCALER_MODEL_STORE": "s3://models",
            "AUTOSCALER_MODEL_NAME": "dqn",
            "AUTOSCALER_MODEL_VERSION": "7",
            "AUTOSCALER_EXPERIENCE_STORE": "/data/experience.db",
            "AUTOSCALER_EXPERIENCE_DAYS": "1.5",
            "AUTOSCALER_EXPORT_TO": "s3://experience",
            "AUTOSCALER_CANARY_ENDPOINT": "http://canary",
            "AUTOSCALER_SHADOW_CANARY": "True",
            "ABSENT_AS_ZERO": "error_rate,response_time_p95",
        }
    )

    assert settings == OperatorSettings(
        namespaces=("shop", "api"),
        kube_api="http://127.0.0.1:1",
        lease="ns/lease",
        identity="pod-1",
        listen="127.0.0.1",
        port=0,
        model_store="s3://models",
        model_name="dqn",
        model_version="7",
        experience_store=Path("/data/experience.db"),
        experience_days=1.5,
        export_to="s3://experience",
        canary_endpoint="http://canary",
        shadow_canary=True,
        absent_as_zero=("error_rate", "response_time_p95"),
    )


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("AUTOSCALER_LEASE", "operator", "namespace/name"),
        ("AUTOSCALER_LEASE", "a/b/c", "namespace/name"),
        ("AUTOSCALER_PORT", "65536", "a whole number from 0 to 65535"),
        ("AUTOSCALER_PORT", "http", "a whole number from 0"),
        ("AUTOSCALER_EXPERIENCE_DAYS", "0", "a finite number above 0"),
        ("AUTOSCALER_EXPERIENCE_DAYS", "inf", "a finite number above 0"),
        ("AUTOSCALER_EXPERIENCE_DAYS", "two", "a finite number above 0"),
        ("AUTOSCALER_SHADOW_CANARY", "perhaps", "one of true, 1"),
        ("ABSENT_AS_ZERO", "latency", "features out of network_io_rate"),
        ("ABSENT_AS_ZERO", "cpu_utilization", "features out of network_io_rate"),
    ],
)
def test_a_value_that_breaks_its_rule_stops_the_start(key: str, value: str, rule: str) -> None:
    """The message names the key, the rule and what came."""
    with pytest.raises(InvalidRequest, match=f"{key}: expected .*{rule}.*, got '{value}'"):
        operator_settings({key: value})


def test_a_misspelt_key_stops_the_start() -> None:
    """It would otherwise be a default that nobody asked for."""
    with pytest.raises(
        InvalidRequest,
        match=r"AUTOSCALER_NAMESPACE: no such setting; expected one of .*AUTOSCALER_NAMESPACES",
    ):
        operator_settings({"AUTOSCALER_NAMESPACE": "shop"})
