"""What a run leaves behind, as typed values; pure, and without any of what measures them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Final

from bench.plan import Workload
from bench.systems import System

SETTLED_SHARE: Final = 0.1
"""Growth of a soak is counted from here: before, caches and pools fill."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measurement:
    """One system under one workload in one round."""

    rate: float
    """Good answers per second."""
    p50_ms: float
    p99_ms: float
    errors: int
    cpu_us: float
    """CPU time of all processes of the system for one answer, in microseconds."""
    server_cores: float
    """CPU seconds per second of the busiest process of the system; each runs one event loop."""
    generator_cores: float
    other_cores: float
    """CPU seconds per second of everything else on the machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One system under one workload, over all rounds."""

    workload: Workload
    system: System
    rounds: tuple[Measurement, ...]

    def median(self, value: Callable[[Measurement], float]) -> float:
        """The median over the rounds."""
        return median(value(measurement) for measurement in self.rounds)

    @property
    def errors(self) -> int:
        """Errors of all rounds."""
        return sum(measurement.errors for measurement in self.rounds)


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessRecord:
    """Start-up and memory of one process of a system."""

    system: System
    name: str
    ready_s: tuple[float, ...]
    """Process start to ready, one for each start."""
    resident_mib: float
    """After all rounds, with the processes still running."""
    peak_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The side-by-side comparison."""

    cells: tuple[Cell, ...]
    processes: tuple[ProcessRecord, ...]
    max_waiting_rows: int | None = None
    """Rows that could wait in each process of ours; None if the limit was that of the product."""

    def find(self, workload: Workload, system: System) -> Cell | None:
        """The cell, or None if it was not measured."""
        for cell in self.cells:
            if cell.workload == workload and cell.system is system:
                return cell
        return None


def ratio(first: Cell, second: Cell, value: Callable[[Measurement], float]) -> float:
    """Median over the rounds of first over second; both were measured seconds apart in a round."""
    pairs = zip(first.rounds, second.rounds, strict=True)
    return median(value(mine) / value(other) for mine, other in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overload:
    """What became of the requests of an overload."""

    workload: str
    answer_us: float
    """CPU time of the transformer for one answer under the closed loop, in microseconds."""
    refusal_us: float
    """The same for one request where nearly all are refused; an upper bound for one refusal."""
    capacity: float
    """Answers per second of the fastest closed loop, just before."""
    offered: float
    """Arrivals per second during the overload."""
    seconds: float
    accepted: float
    """Answers 200 per second during the overload."""
    unsent: int
    """Requests of all phases that were due while every connection was busy."""
    unsent_share: float
    """Of the requests of the overload."""
    refused_share: float
    """Answers 503 over the requests of the overload that were sent."""
    failed: int
    """Requests of all phases that were sent and got neither 200 nor 503."""
    normal_p99_ms: float
    """Before the overload, from due time to answer."""
    p50_ms: float
    """Of accepted requests during the overload."""
    p99_ms: float
    first_p99_ms: float
    """Of requests accepted in the first sixth of the overload."""
    last_p99_ms: float
    """Of requests accepted in the last sixth: a queue that grows would show here."""
    refused_p99_ms: float
    """From due time to the answer 503."""
    recovery_s: float
    """End of the overload to the first of five calm windows of 100 ms in a row."""
    generator_cores: float
    """CPU seconds per second of the busier generator; 1.0 is its limit."""

    @property
    def goodput(self) -> float:
        """Accepted requests per second over the capacity."""
        return self.accepted / self.capacity

    @property
    def sustainable(self) -> float:
        """Arrivals, in capacities, at which one event loop is busy with refusals alone.

        Answers and refusals share the loop: at `x` capacities it refuses at least `x - 1` of them,
        so what is left for answers falls to nothing at answer cost over refusal cost.
        """
        return self.answer_us / self.refusal_us if self.refusal_us else math.inf

    @property
    def drift(self) -> float:
        """The p99 of the last sixth over that of the first."""
        return self.last_p99_ms / self.first_p99_ms if self.first_p99_ms else math.inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Poison:
    """What three good clients saw beside a poisonous one, and without it."""

    rate: float
    """Requests per second of each of the four clients, in every run of a round."""
    answers: int
    """Of the good clients beside the poisonous one, all rounds."""
    wrong: int
    """Of these: refused, broken, or not what torch says."""
    refusals: int
    """Answers 400 to the poisonous client."""
    not_refused: int
    """Its answers that were anything else."""
    clean_p99_ms: tuple[float, ...]
    """Of the same three clients, when the fourth sends good rows too; one for each round."""
    poisoned_p99_ms: tuple[float, ...]
    again_p99_ms: tuple[float, ...] = ()
    """As `clean_p99_ms`, measured once more in each round; empty where that was not done."""

    @property
    def ratios(self) -> tuple[float, ...]:
        """Poisoned over clean, of each round."""
        return _ratios(self.poisoned_p99_ms, self.clean_p99_ms)

    @property
    def chance_ratios(self) -> tuple[float, ...]:
        """Clean once more over clean, of each round: how far chance alone is from 1."""
        return _ratios(self.again_p99_ms, self.clean_p99_ms) if self.again_p99_ms else ()

    @property
    def p99_ratio(self) -> float:
        """Median over the rounds of poisoned over clean."""
        return median(self.ratios)


def _ratios(values: tuple[float, ...], bases: tuple[float, ...]) -> tuple[float, ...]:
    return tuple(value / base for value, base in zip(values, bases, strict=True))


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """Resident memory after so many requests."""

    requests: int
    transformer_mib: float
    predictor_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Soak:
    """Memory over a long run."""

    requests: int
    errors: int
    rate: float
    """Answers per second over the whole run."""
    checkpoints: tuple[Checkpoint, ...]

    @property
    def growth_mib(self) -> float:
        """The larger growth of the two processes between a tenth of the requests and the end."""
        start = next(
            point for point in self.checkpoints if point.requests >= SETTLED_SHARE * self.requests
        )
        end = self.checkpoints[-1]
        return max(
            end.transformer_mib - start.transformer_mib, end.predictor_mib - start.predictor_mib
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RayLoad:
    """The predictor on Ray, or the plain one beside it, in one round."""

    rate: float
    """Good answers per second."""
    p50_ms: float
    p99_ms: float
    errors: int
    replica_cores: float
    """CPU seconds per second of all replicas together."""
    proxy_cores: float
    """The same of HAProxy."""
    daemon_cores: float
    """The same of everything else that Ray runs."""
    generator_cores: float
    other_cores: float
    """The same of all processes that are none of these."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ray:
    """The predictor on Ray with one and with two replicas; one entry for each round."""

    cores: int
    """Of the machine, for the generator, HAProxy, Ray's daemons and the replicas together."""
    plain: tuple[RayLoad, ...]
    one: tuple[RayLoad, ...]
    two: tuple[RayLoad, ...]

    @property
    def scaling(self) -> float:
        """Median over the rounds of two replicas over one."""
        pairs = zip(self.two, self.one, strict=True)
        return median(two.rate / one.rate if one.rate else 0.0 for two, one in pairs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Resident memory of one process after one kind of load."""

    system: str
    process: str
    after: str
    resident_mib: float
    peak_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Profile:
    """Where the CPU time of one request went in one process."""

    workload: str
    process: str
    rate: float
    """Answers per second while it was sampled."""
    samples: int
    cpu_us: float
    """CPU time of the process for one request, in microseconds."""
    stages_us: dict[str, float]
    """The same by stage."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """One workload without recording, with metrics, and with traces too; one entry a round.

    The pairs take turns, so the few requests that wait while theirs stands still are in its p99.
    """

    workload: str
    silent: tuple[Measurement, ...]
    metrics: tuple[Measurement, ...]
    traced: tuple[Measurement, ...]

    def share(
        self, rounds: tuple[Measurement, ...], value: Callable[[Measurement], float]
    ) -> float:
        """Median over the rounds of a pair's value over that of the silent one."""
        return median(self.ratios(rounds, value))

    def ratios(
        self, rounds: tuple[Measurement, ...], value: Callable[[Measurement], float]
    ) -> list[float]:
        """A pair's value over that of the silent one, by round."""
        pairs = zip(rounds, self.silent, strict=True)
        return [value(one) / value(other) for one, other in pairs]

    @property
    def kept(self) -> float:
        """Share of the throughput that is left with metrics and traces."""
        return self.share(self.traced, lambda each: each.rate)


@dataclass(frozen=True, slots=True, kw_only=True)
class Document:
    """Everything that has been measured; a section that was not run is None."""

    table: Table | None = None
    overload: tuple[Overload, ...] | None = None
    poison: Poison | None = None
    soak: Soak | None = None
    ray: Ray | None = None
    memory: tuple[Stage, ...] | None = None
    profile: tuple[Profile, ...] | None = None
    observability: tuple[Observed, ...] | None = None
