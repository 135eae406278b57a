"""Where traces go and how many: two settings that every service reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from nimbusguard import environment
from nimbusguard.environment import Key, number, read_keys

PREFIX: Final = "NIMBUSGUARD_TRACING_"
ENDPOINT: Final = "NIMBUSGUARD_TRACING_ENDPOINT"
RATIO: Final = "NIMBUSGUARD_TRACING_RATIO"


@dataclass(frozen=True, slots=True, kw_only=True)
class TracingSettings:
    """Traces of one service."""

    endpoint: str | None = None
    """`NIMBUSGUARD_TRACING_ENDPOINT`. OTLP over gRPC: `http://collector:4317`, `https://` with TLS.
    Without it nothing is traced, and OpenTelemetry is not even imported."""
    ratio: float = 0.01
    """`NIMBUSGUARD_TRACING_RATIO`. Share of requests that begin a trace here, 0 to 1, four in a row
    each time; a caller that sends `traceparent` decides for itself. What one in a hundred costs:
    docs/metrics.md."""


def _collector(text: str) -> str:
    """An address as OTLP over gRPC has it: no path."""
    rule = "http(s)://host[:port]"
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port  # reading the port checks it
    except ValueError:
        raise ValueError(rule) from None
    if parts.scheme not in ("http", "https") or not host or parts.path not in ("", "/"):
        raise ValueError(rule)
    return text


KEYS: Final = (
    Key(ENDPOINT, _collector, prefix=PREFIX),
    Key(RATIO, number(0, 1), prefix=PREFIX),
)


def tracing_settings(environ: Mapping[str, str]) -> TracingSettings:
    """Read and check the settings; an empty value counts as unset.

    Raises:
        InvalidSetting: A value breaks its rule; the message names key, rule and value.
    """
    return TracingSettings(**read_keys(environ, KEYS))


def example() -> str:
    """The block of `.env.example` with these keys."""
    title = "Read by predictor, transformer, autoscaler"
    return environment.example(title, KEYS, TracingSettings())
