"""The operator's own settings, read from the environment once, at start.

Keys begin with `AUTOSCALER_`; one with that beginning that is not known stops the start, because a
misspelt setting would otherwise be a default that nobody asked for.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, NamedTuple

from nimbusguard.contract.errors import InvalidRequest
from nimbusguard.contract.features import INDEX

PREFIX: Final = "AUTOSCALER_"


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorSettings:
    """Settings of the operator alone."""

    namespaces: tuple[str, ...] = ()
    """Comma-separated. Where policies are looked for; everywhere if empty."""
    kube_api: str | None = None
    """URL of an API server that needs no credentials, outside of a cluster; in a pod the kubelet's
    own if empty."""
    lease: str = "nimbusguard/nimbusguard-operator"
    """`namespace/name` of the Lease that elects the leader."""
    identity: str = "nimbusguard-operator"
    """Who this is in the election; the pod's name, different for every replica."""
    listen: str = "0.0.0.0"  # noqa: S104 - probes and Prometheus come from outside the pod
    """Address that metrics and probes are bound to."""
    port: int = 8080
    """Port of `/metrics`, `/healthz` and `/readyz`."""
    model_store: str | None = None
    """Path or `s3://` address of the model store; the packaged one if empty."""
    model_name: str = "nimbusguard-dqn"
    """The model whose versions are loaded for the local fallback."""
    model_version: str = "production"
    """Version or alias to load at start; later KServe's own version is preferred."""
    experience_store: Path | None = None
    """SQLite file of the experience store, on a local volume; nothing is recorded if empty."""
    experience_days: float = 14.0
    """Days after which decisions are removed from it."""
    export_to: str | None = None
    """Folder or `s3://` address that experience is exported to every hour; never if empty."""
    canary_endpoint: str | None = None
    """Predict URL of the canary that policies with a `canaryShare` ask; none if empty."""
    shadow_canary: bool = False
    """Ask the canary about every workload and record its answers without following them."""
    absent_as_zero: tuple[str, ...] = ()
    """`ABSENT_AS_ZERO`, as on the transformer: features whose absence means 0."""


class _Key(NamedTuple):
    name: str
    read: Callable[[str], Any]

    @property
    def field(self) -> str:
        return self.name.removeprefix(PREFIX).lower()


def operator_settings(environ: Mapping[str, str]) -> OperatorSettings:
    """Read and check the settings; an empty value counts as unset.

    Raises:
        InvalidRequest: A value breaks its rule, or a key is unknown; the message names it.
    """
    known = {key.name for key in _KEYS}
    for name in environ:
        if name.startswith(PREFIX) and name not in known:
            message = f"{name}: expected one of {', '.join(sorted(known))}"
            raise InvalidRequest(message)
    values: dict[str, Any] = {}
    for key in _KEYS:
        text = environ.get(key.name, "").strip()
        if not text:
            continue
        try:
            values[key.field] = key.read(text)
        except ValueError as exc:
            message = f"{key.name}: expected {exc}, got {text!r}"
            raise InvalidRequest(message) from exc
    return OperatorSettings(**values)


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(",") if name.strip())


def _features(text: str) -> tuple[str, ...]:
    names = _names(text)
    if unknown := [name for name in names if name not in INDEX]:
        rule = f"features, not {', '.join(unknown)}"
        raise ValueError(rule)
    return names


def _namespaced(text: str) -> str:
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        rule = "namespace/name"
        raise ValueError(rule)
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 <= int(text) <= 65535:
        rule = "a port from 0 (any free one) to 65535"
        raise ValueError(rule)
    return int(text)


def _days(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not (math.isfinite(value) and value > 0.0):
        rule = "a number of days above 0"
        raise ValueError(rule)
    return value


def _truth(text: str) -> bool:
    if text.lower() not in ("true", "false"):
        rule = "true or false"
        raise ValueError(rule)
    return text.lower() == "true"


_KEYS: Final = (
    _Key("AUTOSCALER_NAMESPACES", _names),
    _Key("AUTOSCALER_KUBE_API", str),
    _Key("AUTOSCALER_LEASE", _namespaced),
    _Key("AUTOSCALER_IDENTITY", str),
    _Key("AUTOSCALER_LISTEN", str),
    _Key("AUTOSCALER_PORT", _port),
    _Key("AUTOSCALER_MODEL_STORE", str),
    _Key("AUTOSCALER_MODEL_NAME", str),
    _Key("AUTOSCALER_MODEL_VERSION", str),
    _Key("AUTOSCALER_EXPERIENCE_STORE", Path),
    _Key("AUTOSCALER_EXPERIENCE_DAYS", _days),
    _Key("AUTOSCALER_EXPORT_TO", str),
    _Key("AUTOSCALER_CANARY_ENDPOINT", str),
    _Key("AUTOSCALER_SHADOW_CANARY", _truth),
    _Key("ABSENT_AS_ZERO", _features),
)
