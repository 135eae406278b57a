"""Model validation: a version is used when its Q-values were recomputed, and not before."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

import pytest

from nimbusguard.client.decision import Decision
from nimbusguard.client.instances import NamedMetrics
from nimbusguard.client.local_model import LocalModel
from nimbusguard.client.validation import (
    KNOWN,
    ModelValidator,
    Outcome,
    Report,
    ValidationSettings,
)
from nimbusguard.contract import errors
from tests.client.harness import FakeTime, local_model


class Served:
    """KServe with a model of the test's choice."""

    def __init__(self) -> None:
        self.is_ready = True
        self.model = local_model()
        self.trouble: Exception | None = None

    async def ready(self) -> bool:
        return self.is_ready

    async def decide(self, instances: Sequence[NamedMetrics]) -> list[Decision]:
        if self.trouble is not None:
            raise self.trouble
        assert [dict(instance.metrics) for instance in instances] == [
            dict(known.instance().metrics) for known in KNOWN
        ]
        return self.model.decide(KNOWN)


class Bench:
    """A validator between a server and a store, both under the test's control."""

    def __init__(self) -> None:
        self.time = FakeTime()
        self.served = Served()
        self.stored: LocalModel | Exception = local_model()
        self.validator = ModelValidator(
            ValidationSettings(), served=self.served, load=self.load, clock=self.time.clock
        )

    def load(self, version: str) -> LocalModel:
        if isinstance(self.stored, Exception):
            raise self.stored
        assert version == self.served.model.identity.version
        return self.stored

    def validate(self) -> Report:
        return asyncio.run(self.validator.validate())

    def decision(self) -> Decision:
        return self.served.model.decide(KNOWN)[0]


def outcomes(report: Report) -> dict[str, str]:
    return {name: check.outcome.value for name, check in report.checks.items()}


def test_a_version_is_trusted_after_its_q_values_were_recomputed() -> None:
    """Before, it is refused and a validation is due; afterwards it is used."""
    bench = Bench()
    assert bench.validator.refuse(bench.decision()) == "version 2 is not validated yet"

    report = bench.validate()

    assert set(outcomes(report).values()) == {"passed"}
    assert report.version == "2"
    assert bench.validator.refuse(bench.decision()) is None


def test_another_network_under_the_same_version_is_refused() -> None:
    """The state and both answers are named."""
    bench = Bench()
    bench.stored = local_model((0.0, 0.0, 1.001, 0.0, 0.0))

    report = bench.validate()

    assert report.q_values.outcome is Outcome.FAILED
    reason = bench.validator.refuse(bench.decision())
    assert reason is not None
    assert reason.startswith("version 2 failed validation: q_values: expected [")


def test_differences_of_rounding_are_none() -> None:
    """TorchScript and ONNX agree to about a millionth."""
    bench = Bench()
    bench.stored = local_model((0.0, 0.0, 1.00001, 0.0, 0.0))

    assert bench.validate().failures == []


def test_a_version_that_the_store_does_not_know_is_refused() -> None:
    """Nobody published it."""
    bench = Bench()
    bench.stored = errors.VersionNotFound("no version 2")

    assert outcomes(bench.validate())["version"] == "failed"
    assert bench.validator.refuse(bench.decision()) == (
        "version 2 failed validation: version: no version 2"
    )


@pytest.mark.parametrize(
    "trouble", [errors.Unavailable("no store"), errors.ArtifactCorrupted("local copy broken")]
)
def test_a_local_copy_that_cannot_be_read_is_no_fault_of_the_server(trouble: Exception) -> None:
    """What could not be checked is unknown, and the served version is used."""
    bench = Bench()
    bench.stored = trouble

    assert outcomes(bench.validate())["version"] == "unknown"
    assert bench.validator.refuse(bench.decision()) is None


@pytest.mark.parametrize(
    ("trouble", "check"),
    [
        (errors.IncompatibleModel("foreign"), "fingerprint"),
        (errors.NonFiniteOutput("null"), "q_values"),
        (errors.Unavailable("loading"), "ready"),
        (errors.DeadlineExceeded("late"), "ready"),
        (errors.InvalidRequest("known state refused"), "ready"),
    ],
)
def test_an_answer_that_does_not_come_fails_the_check_it_belongs_to(
    trouble: Exception, check: str
) -> None:
    """And is tried again soon."""
    bench = Bench()
    bench.served.trouble = trouble

    report = bench.validate()

    assert report.failures == [f"{check}: {trouble}"]
    bench.time.now += 5.0
    assert bench.validator.due()


def test_a_server_that_is_not_ready_keeps_its_trust() -> None:
    """Whether it answers is the breaker's business; what it answered was right."""
    bench = Bench()
    bench.validate()
    bench.served.is_ready = False

    report = bench.validate()

    assert report.failures == ["ready: expected ready, got not ready"]
    assert bench.validator.refuse(bench.decision()) is None


def test_trust_is_lost_when_a_later_validation_fails() -> None:
    """And won again when one passes."""
    bench = Bench()
    good, bad = bench.stored, local_model((9.0, 0.0, 0.0, 0.0, 0.0))
    bench.validate()

    bench.stored = bad
    bench.validate()
    assert bench.validator.refuse(bench.decision()) is not None

    bench.stored = good
    bench.validate()
    assert bench.validator.refuse(bench.decision()) is None


def test_validation_is_due_at_once_then_every_interval() -> None:
    """300 s by default."""
    bench = Bench()
    assert bench.validator.due()

    bench.validate()
    bench.time.now += 299.9
    assert not bench.validator.due()
    bench.time.now += 0.1
    assert bench.validator.due()


def test_a_new_version_makes_validation_due_soon() -> None:
    """A rolling update is noticed by its first answer, not five minutes later."""
    bench = Bench()
    bench.validate()
    new = replace(bench.decision(), model_version="3")

    bench.time.now += 5.0
    assert not bench.validator.due()
    assert bench.validator.refuse(new) == "version 3 is not validated yet"
    assert bench.validator.due()


def test_a_version_that_failed_is_examined_again_within_two_intervals() -> None:
    """A store that gets it a moment after KServe does costs half a minute, not five."""
    bench = Bench()
    good, bench.stored = bench.stored, errors.VersionNotFound("no version 2")
    bench.validate()
    assert bench.validator.refuse(bench.decision()) is not None

    bench.time.now += 29.9
    assert not bench.validator.due()
    bench.time.now += 0.1
    assert bench.validator.due()

    bench.stored = good
    bench.validate()
    assert bench.validator.refuse(bench.decision()) is None
    bench.time.now += 299.9
    assert not bench.validator.due()


@pytest.mark.parametrize("field", ["interval_s", "retry_s", "distrust_s", "tolerance"])
def test_settings_out_of_range_are_refused(field: str) -> None:
    """The message names the field."""
    with pytest.raises(errors.InvalidRequest, match=f"{field}: expected"):
        ValidationSettings(**{field: 0.0})  # type: ignore[arg-type]
