"""Whether the served model is the one it claims to be, asked again and again.

Known states are sent to KServe and their Q-values recomputed here from the version's own ONNX file.
A version is trusted once they agree; decisions of any other version are refused, and the chain of
`fallback` goes on with its next source. What cannot be checked now (no answer, no store) changes no
trust: that is the circuit breaker's business.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple, Protocol

import numpy as np

from nimbusguard.client.decision import Decision
from nimbusguard.client.exchange import check_seconds
from nimbusguard.client.instances import NamedMetrics
from nimbusguard.client.local_model import LocalModel
from nimbusguard.client.observation import Observation
from nimbusguard.contract.errors import (
    IncompatibleModel,
    InvalidRequest,
    NimbusGuardError,
    NonFiniteOutput,
    VersionNotFound,
)
from nimbusguard.contract.features import MAXIMUM, MINIMUM

KNOWN: Final[tuple[Observation, ...]] = tuple(
    Observation(values=tuple((MINIMUM + share * (MAXIMUM - MINIMUM)).tolist()), current_replicas=10)
    for share in (0.0, 0.25, 0.5, 1.0)
)
"""States that are asked about: idle, light, half and full, at ten replicas."""


class Outcome(StrEnum):
    """What a check found."""

    PASSED = "passed"
    FAILED = "failed"
    UNKNOWN = "unknown"
    """It could not be made."""


class Check(NamedTuple):
    """One check of a validation."""

    outcome: Outcome
    detail: str = ""


_NOT_MADE: Final = Check(Outcome.UNKNOWN, "not made")


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """One validation."""

    version: str | None
    """What KServe said it serves; None if it did not say."""
    ready: Check = _NOT_MADE
    fingerprint: Check = _NOT_MADE
    known_version: Check = _NOT_MADE
    q_values: Check = _NOT_MADE

    @property
    def checks(self) -> dict[str, Check]:
        """By name, in the order in which they are made."""
        return {
            "ready": self.ready,
            "fingerprint": self.fingerprint,
            "version": self.known_version,
            "q_values": self.q_values,
        }

    @property
    def failures(self) -> list[str]:
        """The checks that failed, with their details."""
        return [
            f"{name}: {check.detail}"
            for name, check in self.checks.items()
            if check.outcome is Outcome.FAILED
        ]


class Served(Protocol):
    """What validation needs of `AsyncClient`."""

    async def ready(self) -> bool:
        """Whether decisions can be had."""
        ...

    async def decide(self, instances: Sequence[NamedMetrics]) -> list[Decision]:
        """One decision an instance."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ValidationSettings:
    """How often, and how exactly."""

    interval_s: float = 300.0
    """Seconds between two validations (`MODEL_VALIDATION_INTERVAL`)."""
    retry_s: float = 5.0
    """Seconds until the next one when an unknown version answered or KServe did not."""
    distrust_s: float = 30.0
    """Seconds until a version that failed is examined again: two intervals of the control loop. A
    store that gets the version a moment after KServe does must not cost five minutes of KServe."""
    tolerance: float = 1e-4
    """Largest difference of a Q-value, absolute and relative. TorchScript and ONNX differ by about
    1e-6; another network differs by far more than this."""

    def __post_init__(self) -> None:
        for name in ("interval_s", "retry_s", "distrust_s"):
            check_seconds(name, getattr(self, name))
        if not 0.0 < self.tolerance < 1.0:
            message = f"tolerance: expected between 0 and 1, got {self.tolerance}"
            raise InvalidRequest(message)


class ModelValidator:
    """Keeps the trust in each version that KServe answered with."""

    def __init__(
        self,
        settings: ValidationSettings,
        *,
        served: Served,
        load: Callable[[str], LocalModel],
        clock: Callable[[], float],
    ) -> None:
        """Nothing is asked, and nothing trusted, until the first `validate`.

        Args:
            settings: Interval and tolerance.
            served: KServe.
            load: The local copy of a version, in a thread of its own; raises an error of the
                contract if there is none.
            clock: Seconds from any origin, never going back.
        """
        self._settings = settings
        self._served = served
        self._load = load
        self._clock = clock
        self._distrust: dict[str, str | None] = {}
        self._last_s = -np.inf
        self._wait_s = settings.interval_s
        self.report: Report | None = None
        """The newest one."""

    def due(self) -> bool:
        """Whether it is time for the next validation."""
        return bool(self._clock() - self._last_s >= self._wait_s)

    def refuse(self, decision: Decision) -> str | None:
        """Why a decision may not be used, or None; an unknown version makes a validation due."""
        version = decision.model_version
        if version in self._distrust:
            return self._distrust[version]
        self._wait_s = self._settings.retry_s
        return f"version {version} is not validated yet"

    async def validate(self) -> Report:
        """Validate once, and keep what it says about the version."""
        self._last_s = self._clock()
        report = await self._examine()
        self.report = report
        self._wait_s = self._after(report)
        if report.version is not None:
            failures = "; ".join(report.failures)
            self._distrust[report.version] = (
                f"version {report.version} failed validation: {failures}" if failures else None
            )
        return report

    def _after(self, report: Report) -> float:
        """Seconds until the next validation; never more than the interval."""
        settings = self._settings
        if report.version is None:
            return settings.retry_s
        return (
            min(settings.distrust_s, settings.interval_s)
            if report.failures
            else (settings.interval_s)
        )

    async def _examine(self) -> Report:
        if not await self._served.ready():
            return Report(
                version=None, ready=Check(Outcome.FAILED, "expected ready, got not ready")
            )
        ready = Check(Outcome.PASSED)
        try:
            decisions = await self._served.decide([known.instance() for known in KNOWN])
        except IncompatibleModel as exc:
            return Report(version=None, ready=ready, fingerprint=Check(Outcome.FAILED, str(exc)))
        except NonFiniteOutput as exc:
            return Report(version=None, ready=ready, q_values=Check(Outcome.FAILED, str(exc)))
        except NimbusGuardError as exc:
            return Report(version=None, ready=Check(Outcome.FAILED, str(exc)))
        version = decisions[0].model_version
        known_version, q_values = await self._recompute(version, decisions)
        return Report(
            version=version,
            ready=ready,
            fingerprint=Check(Outcome.PASSED, decisions[0].fingerprint),
            known_version=known_version,
            q_values=q_values,
        )

    async def _recompute(self, version: str, decisions: Sequence[Decision]) -> tuple[Check, Check]:
        try:
            model = await asyncio.to_thread(self._load, version)  # it may lie far away
            expected = model.decide(KNOWN)
        except VersionNotFound as exc:
            return Check(Outcome.FAILED, str(exc)), _NOT_MADE
        except NimbusGuardError as exc:
            return Check(Outcome.UNKNOWN, str(exc)), _NOT_MADE
        found = np.array([decision.q_values for decision in decisions])  # (B, A)
        wanted = np.array([decision.q_values for decision in expected])  # (B, A)
        tolerance = self._settings.tolerance
        passed = Check(Outcome.PASSED, version)
        if np.allclose(found, wanted, rtol=tolerance, atol=tolerance):
            return passed, Check(Outcome.PASSED)
        row = int(np.abs(found - wanted).max(axis=1).argmax())
        detail = f"expected {wanted[row].tolist()} for state {row}, got {found[row].tolist()}"
        return passed, Check(Outcome.FAILED, detail)
