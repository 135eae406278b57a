"""The transformer's own settings: what absence means to its operator, and where Prometheus is."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from nimbusguard.contract.features import FEATURES, INDEX, Absence
from serving.settings import InvalidSetting

_NEVER_ZERO = frozenset({"cpu_utilization", "memory_utilization", "request_rate", "pod_count"})
"""Without these there is nothing to decide on; an idle service would be read into an outage."""

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


def transformer_settings(environ: Mapping[str, str]) -> TransformerSettings:
    """Read and check the settings.

    Raises:
        InvalidSetting: A value breaks its rule; the message names key, rule and value.
    """
    return TransformerSettings(
        prometheus_endpoint=_endpoint(environ.get("PROMETHEUS_ENDPOINT", "")),
        absent_as_zero=_features(environ.get("ABSENT_AS_ZERO", "")),
    )


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


def _endpoint(text: str) -> str | None:
    text = text.strip().rstrip("/")
    if not text:
        return None
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        message = f"PROMETHEUS_ENDPOINT: expected a URL like http://prometheus:9090, got {text!r}"
        raise InvalidSetting(message)
    return text


def _features(text: str) -> tuple[str, ...]:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    allowed = [f.name for f in FEATURES if f.name not in _NEVER_ZERO]
    for name in names:
        if name not in INDEX or name in _NEVER_ZERO:
            message = f"ABSENT_AS_ZERO: expected features out of {', '.join(allowed)}, got {name!r}"
            raise InvalidSetting(message)
        if FEATURES[INDEX[name]].absence is Absence.ZERO:
            continue  # it is so anyway
    return names
