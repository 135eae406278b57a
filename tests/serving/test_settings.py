"""Settings are right or stop the start; a misspelt one is never a silent default."""

from __future__ import annotations

import pytest

from serving.settings import InvalidSetting, ServerSettings, server_settings

LINKS = {
    "NIMBUSGUARD_DQN_MODEL_SERVICE_HOST": "10.0.0.1",
    "NIMBUSGUARD_DQN_MODEL_SERVICE_PORT": "80",
    "NIMBUSGUARD_DQN_MODEL_SERVICE_PORT_HTTP": "80",
    "NIMBUSGUARD_DQN_MODEL_PORT": "tcp://10.0.0.1:80",
    "NIMBUSGUARD_DQN_MODEL_PORT_80_TCP": "tcp://10.0.0.1:80",
    "NIMBUSGUARD_DQN_MODEL_PORT_80_TCP_PROTO": "tcp",
    "NIMBUSGUARD_DQN_MODEL_PORT_80_TCP_PORT": "80",
    "NIMBUSGUARD_DQN_MODEL_PORT_80_TCP_ADDR": "10.0.0.1",
}


def test_nothing_set_means_the_defaults() -> None:
    """And a blank value counts as not set, as an empty key of a ConfigMap."""
    assert server_settings({}) == ServerSettings()
    blank = {"NIMBUSGUARD_HOST": " ", "NIMBUSGUARD_MAX_ROWS": "", "NIMBUSGUARD_LOG_LEVEL": ""}
    assert server_settings(blank) == ServerSettings()


def test_every_setting_is_read() -> None:
    """Each field of the settings has its key, so that none can only be dreamt of."""
    environ = {
        "NIMBUSGUARD_HOST": "127.0.0.1",
        "NIMBUSGUARD_MAX_ROWS": "20",
        "NIMBUSGUARD_MAX_BODY_BYTES": "2048",
        "NIMBUSGUARD_MAX_WAITING": "7",
        "NIMBUSGUARD_MAX_WAITING_ROWS": "70",
        "NIMBUSGUARD_MAX_BATCH_ROWS": "64",
        "NIMBUSGUARD_DEADLINE_S": "0.5",
        "NIMBUSGUARD_KEEP_ALIVE_S": "10",
        "NIMBUSGUARD_RECEIVE_TIMEOUT_S": "11",
        "NIMBUSGUARD_GRACE_S": "12",
        "NIMBUSGUARD_CONSOLE": "True",
        "NIMBUSGUARD_DRAIN_IDLE_S": "0",
        "NIMBUSGUARD_LOG_LEVEL": "DEBUG",
    }

    settings = server_settings(environ)

    assert settings == ServerSettings(
        host="127.0.0.1",
        max_rows=20,
        max_body_bytes=2048,
        max_waiting=7,
        max_waiting_rows=70,
        max_batch_rows=64,
        deadline_s=0.5,
        keep_alive_s=10.0,
        receive_timeout_s=11.0,
        grace_s=12.0,
        drain_idle_s=0.0,
        console=True,
        log_level="debug",
    )
    assert len(environ) == len(ServerSettings.__dataclass_fields__)


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("NIMBUSGUARD_MAX_ROWS", "0", "a whole number from 1 to 1000000"),
        ("NIMBUSGUARD_MAX_ROWS", "10.5", "a whole number"),
        ("NIMBUSGUARD_MAX_ROWS", "many", "a whole number"),
        ("NIMBUSGUARD_MAX_BODY_BYTES", "8Mi", "a whole number from 1024"),
        ("NIMBUSGUARD_DEADLINE_S", "0", "a number from 0.01 to 600"),
        ("NIMBUSGUARD_DEADLINE_S", "nan", "a number from 0.01"),
        ("NIMBUSGUARD_DEADLINE_S", "inf", "a number from 0.01"),
        ("NIMBUSGUARD_DEADLINE_S", "2s", "a number from 0.01"),
        ("NIMBUSGUARD_GRACE_S", "-1", "a number from 0 to 3600"),
        ("NIMBUSGUARD_LOG_LEVEL", "verbose", "one of debug, info, warning, error"),
    ],
)
def test_a_value_that_breaks_its_rule_stops_the_start(key: str, value: str, rule: str) -> None:
    """The message names the key, the rule and what came."""
    with pytest.raises(InvalidSetting) as caught:
        server_settings({key: value})

    assert str(caught.value).startswith(f"{key}: expected {rule}")
    assert str(caught.value).endswith(f"got {value!r}")


@pytest.mark.parametrize(
    "key", ["NIMBUSGUARD_MAX_ROW", "NIMBUSGUARD_HTTP_PORT", "NIMBUSGUARD_", "NIMBUSGUARD_PORT"]
)
def test_an_unknown_key_with_our_prefix_stops_the_start(key: str) -> None:
    """Also one that looks like a variable of a Service, when there is no such Service."""
    with pytest.raises(InvalidSetting, match=f"^{key}: no such setting; expected one of NIMBUS"):
        server_settings({key: "1"})


def test_variables_of_services_are_no_settings() -> None:
    """Kubernetes sets them in every pod for each Service of the namespace; ours begin so too."""
    assert server_settings(LINKS) == ServerSettings()
    assert server_settings({"NIMBUSGUARD_SERVICE_HOST": "::1", "NIMBUSGUARD_PORT": "tcp://x"})


def test_other_programs_variables_are_left_alone() -> None:
    """Only keys with our prefix are ours to judge."""
    assert server_settings({"PATH": "/bin", "OTEL_EXPORTER": "x"}) == ServerSettings()
