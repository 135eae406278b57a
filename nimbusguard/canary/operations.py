"""The verbs of a roll-out over a cluster: start, promote, roll back, one step of a watch."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from nimbusguard.canary.kubernetes import Cluster, wait_until_rolled
from nimbusguard.canary.objects import Object
from nimbusguard.canary.plan import (
    Kind,
    Patch,
    Rollout,
    graph_state,
    promote_graph,
    promote_traffic,
    rollback_graph,
    rollback_traffic,
    start_graph,
    start_traffic,
    traffic_state,
)
from nimbusguard.contract.errors import NimbusGuardError
from nimbusguard.policy.canary import Judgement, Verdict

STEPS: Final = (1, 5, 25, 50, 100)
"""Percent; a judgement stands between each and the next."""
ROLL_TIMEOUT_S: Final = 300.0
"""A pod starts within seconds, but its image and its model may have to be fetched."""

Judge = Callable[[Rollout], Judgement]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Names:
    """The objects of a roll-out.

    Attributes:
        service: The InferenceService that serves.
        canary: The one on trial (graph).
        graph: The InferenceGraph between them (graph).
    """

    service: str = "nimbusguard-dqn-model"
    canary: str = "nimbusguard-dqn-model-canary"
    graph: str = "nimbusguard-dqn-graph"


class Operations:
    """What can be done with one roll-out.

    Args:
        cluster: Where the objects are.
        kind: How requests are split.
        names: What the objects are called.
        dry_run: Plan and show, change nothing.
        show: Is given every patch before it is applied.
    """

    def __init__(
        self,
        cluster: Cluster,
        kind: Kind,
        names: Names,
        *,
        dry_run: bool,
        show: Callable[[Patch], None],
    ) -> None:
        self._cluster = cluster
        self._kind = kind
        self._names = names
        self._dry_run = dry_run
        self._show = show

    def status(self) -> Rollout:
        """Where the roll-out stands."""
        if self._kind is Kind.TRAFFIC:
            return traffic_state(self._service())
        return graph_state(self._graph(), self._service(), self._canary())

    def start(self, version: str, percent: int) -> None:
        """Give a version a share of the requests, or change its share."""
        if self._kind is Kind.TRAFFIC:
            self._apply(start_traffic(self._service(), version, percent))
        else:
            self._apply(start_graph(self._graph(), self._canary(), version, percent))

    def promote(self) -> None:
        """Make the canary's version the one that serves."""
        if self._kind is Kind.TRAFFIC:
            self._apply(promote_traffic(self._service()))
        else:
            self._apply(promote_graph(self._graph(), self._service(), self._canary()))

    def rollback(self) -> None:
        """Send the canary no requests."""
        if self._kind is Kind.TRAFFIC:
            self._apply(rollback_traffic(self._service()))
        else:
            self._apply(rollback_graph(self._graph()))

    def _apply(self, patches: Iterable[Patch]) -> None:
        """Apply in order; a changed InferenceService has rolled before the next patch goes out."""
        for patch in patches:
            self._show(patch)
            if self._dry_run:
                continue
            self._cluster.apply(patch)
            if patch.resource == "inferenceservices":
                wait_until_rolled(self._cluster, patch.name, within_s=ROLL_TIMEOUT_S)

    def _service(self) -> Object:
        return self._cluster.read("inferenceservices", self._names.service)

    def _canary(self) -> Object:
        return self._cluster.read("inferenceservices", self._names.canary)

    def _graph(self) -> Object:
        return self._cluster.read("inferencegraphs", self._names.graph)


def watch(
    operations: Operations,
    version: str,
    judge: Judge,
    *,
    wait: Callable[[], None],
    max_judgements: int,
    say: Say,
    steps: tuple[int, ...] = STEPS,
) -> Verdict:
    """Take a version through the steps, with a judgement before each next one.

    Args:
        operations: Over the roll-out.
        version: To roll out.
        judge: Judges the canary at the share that it has.
        wait: Called before each judgement, while requests are counted.
        max_judgements: At one step; a version that is still held then is rolled back.
        say: Is told what happens.
        steps: Percent, rising.

    Returns:
        Promote, roll back or refuse; the roll-out was ended accordingly.
    """
    for percent in steps:
        operations.start(version, percent)
        say(f"version {version} gets {percent} %")
        verdict = _settled(operations, judge, wait, max_judgements, say)
        if verdict is not Verdict.PROMOTE:
            operations.rollback()
            say(f"version {version}: {verdict.value}; rolled back from {percent} %")
            return Verdict.REFUSE if verdict is Verdict.REFUSE else Verdict.ROLL_BACK
    operations.promote()
    say(f"version {version} promoted")
    return Verdict.PROMOTE


def _settled(
    operations: Operations, judge: Judge, wait: Callable[[], None], attempts: int, say: Say
) -> Verdict:
    """The first verdict other than hold, or hold when the attempts are used up.

    Figures that cannot be had are no verdict: a scrape was missed, or Prometheus restarts. To give
    up then would leave the canary with its share and nobody to watch it.
    """
    for _ in range(attempts):
        wait()
        try:
            judgement = judge(operations.status())
        except NimbusGuardError as error:
            say(f"{Verdict.HOLD.value}: not judged: {error}")
            continue
        say(f"{judgement.verdict.value}: {'; '.join(judgement.reasons)}")
        if judgement.verdict is not Verdict.HOLD:
            return judgement.verdict
    return Verdict.HOLD
