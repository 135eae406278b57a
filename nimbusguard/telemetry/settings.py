"""Where traces go and how many: two settings that every service reads."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from nimbusguard.contract.errors import InvalidRequest

ENDPOINT: Final = "NIMBUSGUARD_TRACING_ENDPOINT"
RATIO: Final = "NIMBUSGUARD_TRACING_RATIO"
KEYS: Final = frozenset({ENDPOINT, RATIO})


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingSettings:
    """Traces of one service."""

    endpoint: str | None = None
    """`NIMBUSGUARD_TRACING_ENDPOINT`. OTLP over gRPC: `http://collector:4317`, `https://` with TLS.
    Without it nothing is traced, and OpenTelemetry is not even imported."""
    ratio: float = 0.01
    """`NIMBUSGUARD_TRACING_RATIO`. Share of requests that begin a trace here, 0 to 1; a caller that
    sends `traceparent` decides for itself. One in a hundred costs a request 0.65 µs of CPU
    on average, about 2 % at the limit of one pod (docs/metrics.md)."""


def tracing_settings(environ: Mapping[str, str]) -> TracingSettings:
    """Read and check the settings; an empty value counts as unset.

    Raises:
        InvalidRequest: A value breaks its rule; the message names key, rule and value.
    """
    endpoint = environ.get(ENDPOINT, "").strip()
    if endpoint and not _is_address(endpoint):
        message = f"{ENDPOINT}: expected http(s)://host[:port], got {endpoint!r}"
        raise InvalidRequest(message)
    text = environ.get(RATIO, "").strip()
    ratio = _number(text) if text else TracingSettings().ratio
    if not 0.0 <= ratio <= 1.0:
        message = f"{RATIO}: expected a number from 0 to 1, got {text!r}"
        raise InvalidRequest(message)
    return TracingSettings(endpoint=endpoint or None, ratio=ratio)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _is_address(text: str) -> bool:
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(host) and parts.path in ("", "/")
