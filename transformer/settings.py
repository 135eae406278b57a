"""The transformer's own settings: what absence means to its operator, and where Prometheus is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nimbusguard import environment
from nimbusguard.environment import InvalidSetting, Key, absent_as_zero, read_keys, web_address

_ADDRESS = re.compile(
    r"(?:\[(?P<ipv6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9_.-]+))(?::(?P<port>[0-9]{1,5}))?"
)
_LAST_PORT = 65_535


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerSettings:
    """Settings of the transformer alone."""

    prometheus_endpoint: str | None = None
    """`PROMETHEUS_ENDPOINT`. Base URL for instances that name a workload; without it those are
    answered with 503."""
    absent_as_zero: tuple[str, ...] = ()
    """`ABSENT_AS_ZERO`. Features, comma-separated, whose absence means 0, for a service that has no
    such metric at all."""


KEYS: Final = (
    Key("PROMETHEUS_ENDPOINT", web_address),
    Key("ABSENT_AS_ZERO", absent_as_zero),
)


def transformer_settings(environ: Mapping[str, str]) -> TransformerSettings:
    """Read and check the settings.

    Raises:
        InvalidSetting: A value breaks its rule; the message names key, rule and value.
    """
    return TransformerSettings(**read_keys(environ, KEYS))


def example() -> str:
    """The block of `.env.example` with the keys that no shared table has."""
    return environment.example("Read by transformer, autoscaler", KEYS[1:], TransformerSettings())


def predictor_address(text: str) -> tuple[str, int | None]:
    """Host and port of `--predictor_host`: `host`, `host:port`, `[IPv6]` or `[IPv6]:port`.

    Raises:
        InvalidSetting: It is none of these.
    """
    match = _ADDRESS.fullmatch(text.strip())
    port = int(match["port"]) if match and match["port"] else None
    if match is None or not (port is None or 0 < port <= _LAST_PORT):
        message = f"--predictor_host: expected a host or host:port, got {text!r}"
        raise InvalidSetting(message)
    return match["host"] or match["ipv6"], port
