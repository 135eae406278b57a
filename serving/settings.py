"""Settings that both servers share. The only reader of the environment in this package.

The settings that KServe's users know keep their names (`MODEL_DIR`, `PROMETHEUS_ENDPOINT`, …); all
others begin with `NIMBUSGUARD_`, and one of those that nobody knows stops the start: a misspelt
limit must not be a silent default.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nimbusguard import environment
from nimbusguard.environment import (
    InvalidSetting,
    Key,
    Read,
    choice,
    number,
    read_keys,
    refuse_unknown,
    truth,
    whole,
)
from nimbusguard.telemetry import settings as tracing

__all__ = ["KEYS", "LOG_LEVELS", "InvalidSetting", "ServerSettings", "example", "server_settings"]

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
        *(key.name for key in tracing.KEYS),
    }
)
LOG_LEVELS: Final = ("debug", "info", "warning", "error")


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
    console: bool = False
    """`NIMBUSGUARD_CONSOLE`. Whether the transformer keeps its last decisions and
    shows them under `/console/`. `nimbusguard serve` sets it; a pod shows them to nobody."""
    log_level: str = "info"
    """`NIMBUSGUARD_LOG_LEVEL`. debug, info, warning or error; requests are logged at debug only."""


def _own(name: str, read: Read) -> Key:
    return Key(name, read, prefix=PREFIX)


KEYS: Final = (
    _own("NIMBUSGUARD_HOST", str),
    _own("NIMBUSGUARD_MAX_ROWS", whole(1, 1_000_000)),
    _own("NIMBUSGUARD_MAX_BODY_BYTES", whole(1024, 1 << 30)),
    _own("NIMBUSGUARD_MAX_WAITING", whole(1, 1_000_000)),
    _own("NIMBUSGUARD_MAX_WAITING_ROWS", whole(1, 100_000_000)),
    _own("NIMBUSGUARD_MAX_BATCH_ROWS", whole(1, 1_000_000)),
    _own("NIMBUSGUARD_DEADLINE_S", number(0.01, 600)),
    _own("NIMBUSGUARD_KEEP_ALIVE_S", number(1, 3600)),
    _own("NIMBUSGUARD_RECEIVE_TIMEOUT_S", number(1, 3600)),
    _own("NIMBUSGUARD_GRACE_S", number(0, 3600)),
    _own("NIMBUSGUARD_DRAIN_IDLE_S", number(0, 60)),
    _own("NIMBUSGUARD_CONSOLE", truth),
    _own("NIMBUSGUARD_LOG_LEVEL", choice(*LOG_LEVELS)),
)


def server_settings(environ: Mapping[str, str]) -> ServerSettings:
    """Read and check the settings that both servers share.

    Raises:
        InvalidSetting: A value breaks its rule; the message names key, rule and value.
    """
    settings = ServerSettings(**read_keys(environ, KEYS))
    refuse_unknown(
        environ,
        PREFIX,
        {key.name for key in KEYS} | _READ_ELSEWHERE,
        ours=lambda key: not _is_service_link(key, environ),
    )
    return settings


def example() -> str:
    """The block of `.env.example` with these keys."""
    return environment.example("Read by predictor, transformer", KEYS, ServerSettings())


def _is_service_link(key: str, environ: Mapping[str, str]) -> bool:
    """Whether Kubernetes set a variable, as it does for each Service of a pod's namespace.

    It sets `…_SERVICE_HOST` beside all others of a Service, which tells them from a misspelt
    setting such as `NIMBUSGUARD_HTTP_PORT`.
    """
    link = _SERVICE_LINK.fullmatch(key)
    return link is not None and f"{link['service']}_SERVICE_HOST" in environ
