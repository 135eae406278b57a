"""The shared settings: read once, checked at start, refused by name."""

from __future__ import annotations

import pytest

from nimbusguard.client import ClientSettings, Endpoint
from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.settings import Settings, from_environ


def test_an_empty_environment_gives_the_defaults() -> None:
    """Unset and empty are the same."""
    assert from_environ({"TRAINING_EPOCHS": " ", "KSERVE_ENDPOINT": ""}) == Settings()


def test_every_kind_of_value_is_read() -> None:
    """Text becomes typed values; keys of other programs are left alone."""
    settings = from_environ(
        {
            "KSERVE_ENDPOINT": "http://127.0.0.1:8080/",
            "FALLBACK_TO_LOCAL": "Off",
            "MODEL_VALIDATION_INTERVAL": "12.5",
            "PROMETHEUS_ENDPOINT": "https://p/prefix/",
            "LEARNING_RATE_MIN": "1e-4",
            "KATIB_MAX_TRIAL_COUNT": " 7 ",
            "PATH": "/bin",
        }
    )

    assert settings == Settings(
        kserve_endpoint="http://127.0.0.1:8080/v1/models/nimbusguard-dqn:predict",
        fallback_to_local=False,
        model_validation_interval=12.5,
        prometheus_endpoint="https://p/prefix",
        learning_rate_min=1e-4,
        katib_max_trial_count=7,
    )


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("KSERVE_ENDPOINT", "nimbusguard:8080", "a URL"),
        ("FALLBACK_TO_LOCAL", "perhaps", "one of true, 1"),
        ("MODEL_VALIDATION_INTERVAL", "0", "a finite number above 0"),
        ("MODEL_VALIDATION_INTERVAL", "inf", "a finite number above 0"),
        ("MODEL_VALIDATION_INTERVAL", "five", "a finite number above 0"),
        ("PROMETHEUS_ENDPOINT", "prometheus:9090", "a URL"),
        ("TRAINING_EPOCHS", "0", "a whole number of at least 1"),
        ("TRAINING_EPOCHS", "1.5", "a whole number of at least 1"),
        ("DATA_COLLECTION_HOURS", "-1", "a finite number above 0"),
        ("DQN_STATE_DIM", "12", "11, which the contract fixes"),
        ("DQN_ACTION_DIM", "3", "5, which the contract fixes"),
        ("KATIB_PARALLEL_TRIAL_COUNT", "21", "at most KATIB_MAX_TRIAL_COUNT"),
        ("LEARNING_RATE_MIN", "0.1", "at most LEARNING_RATE_MAX"),
    ],
)
def test_a_value_that_breaks_its_rule_stops_the_start(key: str, value: str, rule: str) -> None:
    """The message names the key, the rule and what came."""
    with pytest.raises(InvalidRequest, match=f"{key}: expected .*{rule}") as caught:
        from_environ({key: value})

    assert value in str(caught.value)


def test_the_client_is_made_from_the_shared_settings() -> None:
    """`KSERVE_ENDPOINT` decides whom the client asks."""
    settings = from_environ({"KSERVE_ENDPOINT": "http://h:1/v1/models/other:predict"})

    assert ClientSettings.of(settings).endpoint == Endpoint(base_url="http://h:1", model="other")
