"""The operator's own settings, read from the environment once, at start.

Keys begin with `AUTOSCALER_`; one with that beginning that is not known stops the start, because a
misspelt setting would otherwise be a default that nobody asked for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nimbusguard import environment
from nimbusguard.environment import (
    Key,
    Read,
    absent_as_zero,
    names,
    positive,
    read_keys,
    refuse_unknown,
    truth,
    whole,
)

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
    identity: str | None = None
    """Who this is in the election, different for every replica: in a pod its name; host name and
    process id if empty."""
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


def operator_settings(environ: Mapping[str, str]) -> OperatorSettings:
    """Read and check the settings; an empty value counts as unset.

    Raises:
        InvalidSetting: A value breaks its rule, or a key is unknown; the message names it.
    """
    refuse_unknown(environ, PREFIX, (key.name for key in _KEYS if key.prefix))
    return OperatorSettings(**read_keys(environ, _KEYS))


def example() -> str:
    """The block of `.env.example` with these keys."""
    own = [key for key in _KEYS if key.prefix]
    return environment.example("Read by autoscaler", own, OperatorSettings())


def _namespaced(text: str) -> str:
    namespace, _, name = text.partition("/")
    if not namespace or not name or "/" in name:
        rule = "namespace/name"
        raise ValueError(rule)
    return text


def _own(name: str, read: Read) -> Key:
    return Key(name, read, prefix=PREFIX)


_KEYS: Final = (
    _own("AUTOSCALER_NAMESPACES", names),
    _own("AUTOSCALER_KUBE_API", str),
    _own("AUTOSCALER_LEASE", _namespaced),
    _own("AUTOSCALER_IDENTITY", str),
    _own("AUTOSCALER_LISTEN", str),
    _own("AUTOSCALER_PORT", whole(0, 65_535)),
    _own("AUTOSCALER_MODEL_STORE", str),
    _own("AUTOSCALER_MODEL_NAME", str),
    _own("AUTOSCALER_MODEL_VERSION", str),
    _own("AUTOSCALER_EXPERIENCE_STORE", Path),
    _own("AUTOSCALER_EXPERIENCE_DAYS", positive),
    _own("AUTOSCALER_EXPORT_TO", str),
    _own("AUTOSCALER_CANARY_ENDPOINT", str),
    _own("AUTOSCALER_SHADOW_CANARY", truth),
    Key("ABSENT_AS_ZERO", absent_as_zero),
)
