"""Settings that both servers share. The only reader of the environment in this package.

The settings that KServe's users know keep their names (`MODEL_DIR`, `PROMETHEUS_ENDPOINT`, …); all
others begin with `NIMBUSGUARD_`, and one of those that nobody knows stops the start: a misspelt
limit must not be a silent default.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeVar

from nimbusguard.contract.errors import InvalidRequest

PREFIX: Final = "NIMBUSGUARD_"
_SERVICE_LINK: Final = re.compile(
    r"(?P<service>\w+?)_"
    r"(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)"
)
_READ_ELSEWHERE: Final = frozenset(
    {
        "NIMBUSGUARD_RAY_CPUS_PER_REPLICA",
        "NIMBUSGUARD_RAY_MAX_REPLICAS",
        "NIMBUSGUARD_RAY_MIN_REPLICAS",
        "NIMBUSGUARD_RAY_TARGET_ONGOING_REQUESTS",
        "NIMBUSGUARD_TRACES",
        "NIMBUSGUARD_TRACING_ENDPOINT",
        "NIMBUSGUARD_TRACING_RATIO",
    }
)
LOG_LEVELS: Final = ("debug", "info", "warning", "error")

T = TypeVar("T")


class InvalidSetting(InvalidRequest):
    """A setting has a value that its rule does not allow; the message names both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerSettings:
    """Limits, timeouts and addresses of one server."""

    host: str = "0.0.0.0"  # noqa: S104 - a pod is reached through its own address; `serve` binds loopback
    """`NIMBUSGUARD_HOST`. Address to bind; the SDK's default, as a pod needs it."""
    max_rows: int = 10_000
    """`NIMBUSGUARD_MAX_ROWS`. Rows of one request; DESIGN 2."""
    max_body_bytes: int = 8 * 1024 * 1024
    """`NIMBUSGUARD_MAX_BODY_BYTES`. Bytes of one body; DESIGN 2, and gRPC's limit in the SDK."""
    max_waiting: int = 512
    """`NIMBUSGUARD_MAX_WAITING`. Requests that may wait for a batch; at 10,000 requests/s the last
    of them waits 50 ms."""
    max_waiting_rows: int = 20_000
    """`NIMBUSGUARD_MAX_WAITING_ROWS`. Rows from which on another request is refused; at 140,000
    rows/s the last of them waits 150 ms."""
    max_batch_rows: int = 4096
    """`NIMBUSGUARD_MAX_BATCH_ROWS`. Rows of one forward pass; 4,096 take about 4 ms on a core."""
    deadline_s: float = 2.0
    """`NIMBUSGUARD_DEADLINE_S`. From a request's arrival to its answer; DESIGN 4."""
    keep_alive_s: float = 65.0
    """`NIMBUSGUARD_KEEP_ALIVE_S`. Idle connections are closed after this; above the 60 s of common
    proxies, so that they close first."""
    receive_timeout_s: float = 30.0
    """`NIMBUSGUARD_RECEIVE_TIMEOUT_S`. A request that takes longer to arrive is cut off."""
    grace_s: float = 30.0
    """`NIMBUSGUARD_GRACE_S`. The longest drain after SIGTERM; the SDK's default."""
    drain_idle_s: float = 0.5
    """`NIMBUSGUARD_DRAIN_IDLE_S`. How long an idle connection stays open after SIGTERM, for a
    request that is on its way."""
    log_level: str = "info"
    """`NIMBUSGUARD_LOG_LEVEL`. debug, info, warning or error; requests are logged at debug only."""


def server_settings(environ: Mapping[str, str]) -> ServerSettings:
    """Read and check the settings that both servers share.

    Raises:
        InvalidSetting: A value breaks its rule; the message names key, rule and value.
    """
    read = Reader(environ)
    default = ServerSettings()
    settings = ServerSettings(
        host=environ.get("NIMBUSGUARD_HOST", "").strip() or default.host,
        max_rows=read.integer("NIMBUSGUARD_MAX_ROWS", default.max_rows, 1, 1_000_000),
        max_body_bytes=read.integer(
            "NIMBUSGUARD_MAX_BODY_BYTES", default.max_body_bytes, 1024, 1 << 30
        ),
        max_waiting=read.integer("NIMBUSGUARD_MAX_WAITING", default.max_waiting, 1, 1_000_000),
        max_waiting_rows=read.integer(
            "NIMBUSGUARD_MAX_WAITING_ROWS", default.max_waiting_rows, 1, 100_000_000
        ),
        max_batch_rows=read.integer(
            "NIMBUSGUARD_MAX_BATCH_ROWS", default.max_batch_rows, 1, 1_000_000
        ),
        deadline_s=read.number("NIMBUSGUARD_DEADLINE_S", default.deadline_s, 0.01, 600),
        keep_alive_s=read.number("NIMBUSGUARD_KEEP_ALIVE_S", default.keep_alive_s, 1, 3600),
        receive_timeout_s=read.number(
            "NIMBUSGUARD_RECEIVE_TIMEOUT_S", default.receive_timeout_s, 1, 3600
        ),
        grace_s=read.number("NIMBUSGUARD_GRACE_S", default.grace_s, 0, 3600),
        drain_idle_s=read.number("NIMBUSGUARD_DRAIN_IDLE_S", default.drain_idle_s, 0, 60),
        log_level=read.choice("NIMBUSGUARD_LOG_LEVEL", default.log_level, LOG_LEVELS),
    )
    read.refuse_unknown(_READ_ELSEWHERE)
    return settings


def _is_service_link(key: str, environ: Mapping[str, str]) -> bool:
    """Whether Kubernetes set a variable, as it does for each Service of a pod's namespace.

    It sets `…_SERVICE_HOST` beside all others of a Service, which tells them from a misspelt
    setting such as `NIMBUSGUARD_HTTP_PORT`.
    """
    link = _SERVICE_LINK.fullmatch(key)
    return link is not None and f"{link['service']}_SERVICE_HOST" in environ


class Reader:
    """Reads typed values out of an environment and remembers which keys are known."""

    def __init__(self, environ: Mapping[str, str], known: Iterable[str] = ()) -> None:
        self._environ = environ
        self._known = {"NIMBUSGUARD_HOST", *known}

    def integer(self, key: str, default: int, low: int, high: int) -> int:
        """A whole number between two bounds."""
        rule = f"a whole number from {low} to {high}"
        return self._parse(key, default, int, lambda value: low <= value <= high, rule)

    def number(self, key: str, default: float, low: float, high: float) -> float:
        """A number between two bounds."""
        rule = f"a number from {low:g} to {high:g}"
        return self._parse(
            key, default, float, lambda value: math.isfinite(value) and low <= value <= high, rule
        )

    def choice(self, key: str, default: str, choices: tuple[str, ...]) -> str:
        """One of several words, in any case."""
        rule = f"one of {', '.join(choices)}"
        return self._parse(key, default, str.lower, choices.__contains__, rule)

    def refuse_unknown(self, read_elsewhere: frozenset[str]) -> None:
        """Refuse a key with our prefix that nobody reads.

        Raises:
            InvalidSetting: There is one.
        """
        for key in sorted(self._environ):
            if not key.startswith(PREFIX) or key in self._known | read_elsewhere:
                continue
            if _is_service_link(key, self._environ):
                continue
            expected = ", ".join(sorted(self._known | read_elsewhere))
            message = f"{key}: no such setting; expected one of {expected}"
            raise InvalidSetting(message)

    def _parse(
        self,
        key: str,
        default: T,
        convert: Callable[[str], T],
        is_valid: Callable[[T], bool],
        rule: str,
    ) -> T:
        self._known.add(key)
        text = self._environ.get(key)
        if text is None or not text.strip():
            return default
        message = f"{key}: expected {rule}, got {text!r}"
        try:
            value = convert(text.strip())
        except ValueError:
            raise InvalidSetting(message) from None
        if not is_valid(value):
            raise InvalidSetting(message)
        return value
