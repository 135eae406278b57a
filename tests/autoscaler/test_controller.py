"""The controller before a stand-in cluster: who is scaled, what is shown, what is kept."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from autoscaler.arms import Arm
from autoscaler.kube import KubeApi
from autoscaler.metrics import STAGES
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import MetricsUnavailable, Unavailable
from tests.autoscaler.rig import Rig
from tests.standin.kube_api import Call, Fault, StandIn

SHOP = {"namespace": "shop", "kind": "Deployment"}


@pytest.fixture
def rig(cluster: StandIn, api: KubeApi) -> Rig:
    return Rig(cluster, api)


async def test_a_policy_that_acts_scales_its_target_and_says_so(rig: Rig) -> None:
    """Replicas, status, event, metrics."""
    rig.add()

    await rig.interval()

    assert rig.cluster.replicas("web") == 5
    status = rig.cluster.status("web")
    assert (status["currentReplicas"], status["targetReplicas"]) == (4, 5)
    assert (status["source"], status["modelVersion"]) == ("kserve", "2")
    assert rig.cluster.condition("web", "Ready")["status"] == "True"
    assert rig.cluster.events("web") == [("Normal", "Rescaled")]
    assert rig.sample("nimbusguard_desired_replicas", policy="web", name="web", **SHOP) == 5.0
    assert rig.sample("nimbusguard_operator_scalings_total", result="ok") == 1.0


@pytest.mark.parametrize(("mode", "shown"), [("shadow", None), ("advise", 5.0)])
async def test_other_modes_leave_the_target_alone(rig: Rig, mode: str, shown: float | None) -> None:
    """`advise` shows its wish as a metric, `shadow` does not."""
    rig.add(mode=mode)

    await rig.interval()

    assert rig.cluster.replicas("web") == 4
    assert rig.cluster.status("web")["targetReplicas"] == 5
    assert rig.cluster.condition("web", "Acting")["reason"] == mode.capitalize()
    assert rig.sample("nimbusguard_desired_replicas", policy="web", name="web", **SHOP) == shown


async def test_many_policies_share_their_questions(rig: Rig) -> None:
    """Three hundred workloads: three queries, one prediction, all scaled."""
    for number in range(300):
        rig.add(f"w{number}", replicas=number % 7 + 4)

    await rig.interval()

    assert [len(batch) for batch in rig.prometheus.asked] == [100, 100, 100]
    assert rig.kserve[Arm.STABLE].asked == [300]
    assert all(rig.cluster.replicas(f"w{n}") == n % 7 + 5 for n in range(300))


async def test_a_missing_target_is_shown_and_the_others_go_on(rig: Rig) -> None:
    """And it is found when it comes."""
    rig.add("web")
    rig.apply("ghost", mode="act")

    await rig.interval()
    assert rig.cluster.replicas("web") == 5
    assert rig.cluster.condition("ghost", "TargetFound")["reason"] == "NotFound"

    rig.cluster.deployment("ghost", 4)
    await rig.interval()
    assert rig.cluster.condition("ghost", "TargetFound")["status"] == "True"
    assert rig.cluster.replicas("ghost") == 5


async def test_a_refused_spec_is_explained_to_its_author(rig: Rig) -> None:
    """At once, and without anything being scaled; a corrected one works."""
    rig.cluster.deployment("web", 4)
    rig.apply("web", mode="sometimes")

    await rig.interval(0.0)
    accepted = rig.cluster.condition("web", "Accepted")
    assert (accepted["status"], accepted["reason"]) == ("False", "InvalidSpec")
    assert accepted["message"].startswith("spec.mode: expected one of shadow, advise, act")
    assert rig.sample("nimbusguard_operator_policies", mode="refused") == 1.0

    rig.apply("web", mode="act")
    await rig.interval()
    assert rig.cluster.replicas("web") == 5


async def test_another_writer_stops_the_scaling_and_its_end_resumes_it(rig: Rig) -> None:
    """With a condition that names it."""
    rig.add()
    rig.controller.writers = {("shop", "Deployment", "web"): "HorizontalPodAutoscaler/web"}

    await rig.interval()
    acting = rig.cluster.condition("web", "Acting")
    assert (acting["reason"], rig.cluster.replicas("web")) == ("OtherWriter", 4)
    assert acting["message"] == (
        "HorizontalPodAutoscaler/web scales Deployment/web too; remove one of the two"
    )

    rig.controller.writers = {}
    await rig.interval()
    assert rig.cluster.replicas("web") == 5


async def test_a_policy_that_does_not_act_has_no_rival(rig: Rig) -> None:
    """KEDA follows the metric of mode `advise`; that is no conflict but the other way to act."""
    rig.add(mode="advise")
    rig.controller.writers = {("shop", "Deployment", "web"): "ScaledObject/web"}

    await rig.interval()

    acting = rig.cluster.condition("web", "Acting")
    assert (acting["reason"], acting["message"]) == ("Advise", "mode is advise")
    labels = {"namespace": "shop", "policy": "web", "kind": "Deployment", "name": "web"}
    assert rig.sample("nimbusguard_desired_replicas", **labels) == 5.0


def wishes(rig: Rig) -> dict[str, float]:
    """What whoever follows the metric sees, by the name of the target."""
    (family,) = rig.metrics.desired.collect()
    return {sample.labels["name"]: sample.value for sample in family.samples}


async def test_only_a_leader_has_wishes(rig: Rig) -> None:
    """One that was overtaken would else show its last ones for ever, beside the new leader's."""
    rig.add(mode="advise")
    await rig.interval()
    assert wishes(rig) == {"web": 5.0}

    rig.leads = False
    await rig.interval()
    assert wishes(rig) == {}


async def test_a_policy_that_loses_its_target_loses_its_wish(rig: Rig) -> None:
    """It is refused, or has another target now."""
    rig.add(mode="advise")
    rig.cluster.deployment("api", 7)
    await rig.interval()

    rig.apply("web", mode="advise", target={"name": "api"})
    assert wishes(rig) == {}
    await rig.interval()
    assert wishes(rig) == {"api": 8.0}

    rig.apply("web", mode="advise", target={"name": "api"}, replicas={"min": 0})
    assert wishes(rig) == {}


async def test_of_two_policies_for_one_target_the_oldest_acts(rig: Rig) -> None:
    """Also while it is paused: the younger one must not undo that. Its end hands over."""
    rig.add("web")
    for name, created in (("elder", "2026-01-01T00:00:00Z"), ("a-younger", "2026-01-02T00:00:00Z")):
        rig.apply(name, created=created, target={"name": "web"}, mode="act")
    rig.cluster.delete("nimbusguard.io", "scalingpolicies", "shop", "web")
    rig.fleet.remove("shop", "web", next(e.uid for e in rig.fleet if e.name == "web"))

    await rig.interval()
    acting = rig.cluster.condition("a-younger", "Acting")
    assert acting["reason"] == "OtherWriter"
    assert acting["message"] == (
        "ScalingPolicy/elder scales Deployment/web too; remove one of the two"
    )
    assert rig.cluster.condition("elder", "Acting")["reason"] == "Scaling"
    assert rig.cluster.replicas("web") == 5

    paused = {"nimbusguard.io/paused": "true"}
    rig.apply(
        "elder",
        created="2026-01-01T00:00:00Z",
        annotations=paused,
        target={"name": "web"},
        mode="act",
    )
    await rig.interval()
    assert rig.cluster.replicas("web") == 5

    rig.apply("elder", created="2026-01-01T00:00:00Z", target={"name": "web"}, mode="advise")
    await rig.interval()
    assert rig.cluster.condition("a-younger", "Acting")["reason"] == "Scaling"
    assert rig.cluster.replicas("web") == 6


async def test_nothing_is_scaled_before_other_writers_are_known(rig: Rig) -> None:
    """The list of HPAs may come late."""
    rig.add()
    rig.controller.writers = None

    await rig.interval()

    assert rig.cluster.replicas("web") == 4


async def test_a_target_that_somebody_scaled_meanwhile_is_left_as_it_is(rig: Rig) -> None:
    """Their number stands until the next look."""
    rig.add()
    answer = rig.kserve[Arm.STABLE].decide

    async def meanwhile(*args: object, **kwargs: object) -> object:
        rig.cluster.deployment("web", 20)
        return await answer(*args, **kwargs)  # type: ignore[arg-type]

    rig.kserve[Arm.STABLE].decide = meanwhile  # type: ignore[method-assign,assignment]
    await rig.interval()

    assert rig.cluster.replicas("web") == 20
    assert rig.cluster.condition("web", "Acting")["reason"] == "ScaleFailed"
    assert rig.sample("nimbusguard_operator_scalings_total", result="conflict") == 1.0


async def test_a_conflict_about_something_else_is_no_obstacle(rig: Rig) -> None:
    """A rollout changes the object all the time; the replicas are still ours to set."""
    rig.add()
    first = True

    def once(call: Call) -> bool:
        nonlocal first
        hit = first and call.verb == "patch" and call.resource == "deployments/scale"
        first = first and not hit
        return hit

    rig.cluster.faults.append(Fault(once, 409))
    await rig.interval()

    assert rig.cluster.replicas("web") == 5
    assert rig.sample("nimbusguard_operator_scalings_total", result="ok") == 1.0


@pytest.mark.parametrize("status", [403, 409, 429, 500])
async def test_an_api_server_that_refuses_the_write_is_tried_again_next_time(
    rig: Rig, status: int
) -> None:
    """The condition says what it said."""
    rig.add()
    rig.cluster.faults.append(
        Fault(lambda call: call.resource == "deployments/scale" and call.verb == "patch", status)
    )

    await rig.interval()
    acting = rig.cluster.condition("web", "Acting")
    assert (acting["reason"], rig.cluster.replicas("web")) == ("ScaleFailed", 4)
    assert str(status) in acting["message"]

    rig.cluster.faults.clear()
    await rig.interval()
    assert rig.cluster.replicas("web") == 5
    assert rig.cluster.condition("web", "Acting")["status"] == "True"


async def test_events_that_are_refused_keep_no_status_from_being_written(rig: Rig) -> None:
    """A throttling API server refuses them first; the condition must be seen then above all."""
    rig.add()
    rig.cluster.faults.append(Fault(lambda call: call.resource == "events", 429))

    await rig.interval()

    assert rig.cluster.replicas("web") == 5
    assert rig.cluster.status("web")["targetReplicas"] == 5
    assert rig.cluster.events("web") == []


async def test_an_api_server_that_is_away_changes_nothing(rig: Rig) -> None:
    """No error comes out, and its return needs no restart."""
    rig.add()
    rig.cluster.faults.append(Fault(lambda call: True, 503))

    await rig.interval()
    rig.cluster.faults.clear()
    await rig.interval()

    assert rig.cluster.replicas("web") == 5


async def test_without_prometheus_nothing_changes_and_everybody_is_told(rig: Rig) -> None:
    """The condition holds Prometheus' words; afterwards scaling goes on."""
    rig.add()
    rig.prometheus.trouble = MetricsUnavailable("connection refused")

    await rig.interval()
    trusted = rig.cluster.condition("web", "MetricsTrusted")
    assert (trusted["reason"], rig.cluster.replicas("web")) == ("Missing", 4)
    assert "connection refused" in trusted["message"]
    assert rig.cluster.status("web")["source"] == "hold"
    assert ("Warning", "Missing") in rig.cluster.events("web")

    rig.prometheus.trouble = None
    await rig.interval()
    assert rig.cluster.replicas("web") == 5


async def test_a_workload_without_series_keeps_its_replicas(rig: Rig) -> None:
    """Its neighbour is scaled."""
    rig.add("web")
    rig.add("mute")
    rig.prometheus.absent.add("mute")

    await rig.interval()

    assert (rig.cluster.replicas("web"), rig.cluster.replicas("mute")) == (5, 4)
    assert "no series" in rig.cluster.condition("mute", "MetricsTrusted")["message"]


async def test_every_stage_of_an_evaluation_is_timed(rig: Rig) -> None:
    """Once each."""
    rig.add()

    await rig.interval()

    name = "nimbusguard_operator_stage_duration_seconds_count"
    counted = {stage: rig.sample(name, stage=stage) for stage in STAGES}
    assert counted == {"look": 1.0, "decide": 1.0, "apply": 1.0, "record": 1.0}


async def test_without_kserve_the_rule_decides_and_the_breaker_is_shown(rig: Rig) -> None:
    """After three failures it is open."""
    rig.add()
    rig.prometheus.change["web"] = {"cpu_utilization": 0.95}
    rig.kserve[Arm.STABLE].trouble = Unavailable("no endpoints")

    for _ in range(3):
        await rig.interval()

    assert rig.cluster.status("web")["source"] == "hpa_rule"
    assert rig.cluster.condition("web", "Served")["reason"] == "HpaRule"
    assert rig.sample("nimbusguard_breaker_state", arm="stable", state="open") == 1.0
    assert rig.sample("nimbusguard_breaker_state", arm="stable", state="closed") == 0.0
    assert rig.cluster.replicas("web") > 4


async def test_the_breaker_is_shown_from_the_first_tick_and_half_open_while_it_tries(
    rig: Rig,
) -> None:
    """Whoever looks after an outage sees that KServe is being tried out."""

    def shown(state: str) -> float | None:
        return rig.sample("nimbusguard_breaker_state", arm="stable", state=state)

    rig.controller.tick()
    assert shown("closed") == 1.0
    rig.add()
    rig.kserve[Arm.STABLE].trouble = Unavailable("no endpoints")
    for _ in range(3):
        await rig.interval()
    assert shown("open") == 1.0

    rig.kserve[Arm.STABLE].trouble = None
    rig.kserve[Arm.STABLE].gate = asyncio.Event()
    rig.clock.now += 15.0
    rig.controller.tick()
    await rig.until(lambda: len(rig.kserve[Arm.STABLE].asked) == 4)
    rig.controller.tick()
    assert (shown("half_open"), shown("open")) == (1.0, 0.0)

    rig.kserve[Arm.STABLE].gate.set()
    await rig.controller.drain()
    assert (shown("closed"), shown("half_open")) == (1.0, 0.0)


async def test_a_deleted_policy_is_forgotten_with_its_metric(rig: Rig) -> None:
    """Also where the deletion was missed: the status has nowhere to go."""
    rig.add()
    await rig.interval()
    rig.cluster.delete("nimbusguard.io", "scalingpolicies", "shop", "web")

    await rig.interval(75.0)

    assert len(rig.fleet) == 0
    assert rig.sample("nimbusguard_desired_replicas", policy="web", name="web", **SHOP) is None


async def test_who_does_not_lead_does_nothing(rig: Rig) -> None:
    """And begins with empty memory when it does."""
    rig.add()
    rig.leads = False
    await rig.interval()
    assert rig.cluster.replicas("web") == 4
    (entry,) = rig.fleet
    memory = entry.memory

    rig.leads = True
    await rig.interval()

    assert rig.cluster.replicas("web") == 5
    assert entry.memory is not memory
    assert rig.sample("nimbusguard_operator_is_leader") == 1.0


async def test_leadership_that_is_lost_on_the_way_stops_the_write(rig: Rig) -> None:
    """Somebody else may be writing already."""
    rig.add()
    answer = rig.kserve[Arm.STABLE].decide

    async def lose(*args: object, **kwargs: object) -> object:
        rig.leads = False
        return await answer(*args, **kwargs)  # type: ignore[arg-type]

    rig.kserve[Arm.STABLE].decide = lose  # type: ignore[method-assign,assignment]
    await rig.interval()

    assert rig.cluster.replicas("web") == 4


async def test_a_status_is_not_written_every_time(rig: Rig) -> None:
    """Nothing changes for ten intervals: one write a minute."""
    rig.kserve[Arm.STABLE].action = ScaleAction.NO_ACTION
    rig.add()

    for _ in range(10):
        await rig.interval()

    writes = [call for call in rig.cluster.calls if call.resource == "scalingpolicies/status"]
    assert len(writes) == 3


async def test_every_decision_is_recorded_with_its_outcome(
    cluster: StandIn, api: KubeApi, tmp_path: Path
) -> None:
    """The next look tells what the last decision led to."""
    rig = Rig(cluster, api, tmp_path / "experience.db")
    rig.add()

    for _ in range(3):
        await rig.interval()

    (_, first, then), (_, second, _), (_, third, last) = rig.records()
    assert [one.current_replicas for one in (first, second, third)] == [4, 5, 6]
    assert [one.applied for one in (first, second, third)] == [True] * 3
    assert (then.next_replicas, then.pod_seconds) == (5, 75.0)
    assert last is None
    assert rig.sample("nimbusguard_experience_rows_total", result="ok") == 5.0


async def test_a_gap_leaves_a_decision_without_outcome(
    cluster: StandIn, api: KubeApi, tmp_path: Path
) -> None:
    """What is found after an hour says nothing of a decision of 15 s."""
    rig = Rig(cluster, api, tmp_path / "experience.db")
    rig.add()
    await rig.interval()

    await rig.interval(3_600.0)

    assert [outcome for _, _, outcome in rig.records()] == [None, None]


@pytest.mark.parametrize("set_by_s", [-3_600.0, 3_600.0])
async def test_a_clock_that_is_set_leaves_a_decision_without_outcome(
    cluster: StandIn, api: KubeApi, tmp_path: Path, set_by_s: float
) -> None:
    """Back as well as forward: an interval of no length would look like one without cost."""
    rig = Rig(cluster, api, tmp_path / "experience.db")
    rig.add()

    await rig.interval()
    rig.set_by_s = set_by_s
    await rig.interval()

    assert [outcome for _, _, outcome in rig.records()] == [None, None]


async def test_a_store_that_fails_costs_records_and_no_decision(
    cluster: StandIn, api: KubeApi, tmp_path: Path
) -> None:
    """Counted, and the loop goes on."""
    rig = Rig(cluster, api, tmp_path / "experience.db")
    rig.add()

    def fail(*args: object) -> int:
        message = "disk full"
        raise Unavailable(message)

    assert rig.store is not None
    rig.store.record = fail  # type: ignore[method-assign]
    await rig.interval()

    assert rig.cluster.replicas("web") == 5
    assert rig.sample("nimbusguard_experience_rows_total", result="failed") == 1.0


async def test_a_canary_decides_for_its_share(cluster: StandIn, api: KubeApi) -> None:
    """By a stable hash: the same workloads every time, and no others."""
    rig = Rig(cluster, api, arms=(Arm.STABLE, Arm.CANARY))
    for number in range(40):
        rig.add(f"w{number}", canaryShare=0.5)

    for _ in range(3):
        await rig.interval()

    found = {rig.cluster.replicas(f"w{number}") for number in range(40)}
    assert found == {4, 7}
    assert rig.sample("nimbusguard_breaker_state", arm="canary", state="closed") == 1.0


async def test_a_shadow_canary_is_asked_and_not_followed(
    cluster: StandIn, api: KubeApi, tmp_path: Path
) -> None:
    """Its answer is recorded beside the one that counts."""
    rig = Rig(
        cluster,
        api,
        tmp_path / "experience.db",
        arms=(Arm.STABLE, Arm.CANARY),
        shadow_canary=True,
    )
    rig.kserve[Arm.CANARY].action = ScaleAction.SCALE_DOWN_2
    rig.add()

    await rig.interval()

    (_, stable, _), (_, canary, _) = rig.records()
    assert rig.cluster.replicas("web") == 5
    assert (stable.arm, stable.target_replicas, stable.applied) == ("stable", 5, True)
    assert (canary.arm, canary.target_replicas, canary.applied) == ("shadow", 2, False)
    assert (canary.mode, canary.action) == ("shadow", ScaleAction.SCALE_DOWN_2)


async def test_an_evaluation_that_fails_is_not_the_last_one(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """A mistake in the program is logged, and the next turn comes."""
    rig.add()

    async def broken(*args: object, **kwargs: object) -> object:
        message = "a mistake"
        raise ZeroDivisionError(message)

    good = rig.prometheus.read_many
    rig.prometheus.read_many = broken  # type: ignore[method-assign,assignment]
    await rig.interval()
    assert "a mistake" in caplog.text

    rig.prometheus.read_many = good  # type: ignore[method-assign]
    await rig.interval()
    assert rig.cluster.replicas("web") == 5


@pytest.mark.parametrize("change", ["pause", "mode", "bounds", "deletion"])
async def test_a_change_during_an_evaluation_stops_its_write(rig: Rig, change: str) -> None:
    """The kill switch needs no interval; what was decided for another policy is not carried out."""
    rig.add()
    good, asked, go_on = rig.kserve[Arm.STABLE].decide, asyncio.Event(), asyncio.Event()

    async def slow(*args: Any, **kwargs: Any) -> Any:
        asked.set()
        await go_on.wait()
        return await good(*args, **kwargs)

    rig.kserve[Arm.STABLE].decide = slow  # type: ignore[method-assign]
    rig.clock.now += 15.0
    rig.controller.tick()
    await asked.wait()
    specs: dict[str, dict[str, Any]] = {
        "pause": {"mode": "act", "annotations": {"nimbusguard.io/paused": "true"}},
        "mode": {"mode": "advise"},
        "bounds": {"mode": "act", "replicas": {"min": 1, "max": 4}},
    }
    if change == "deletion":
        rig.fleet.remove("shop", "web", next(iter(rig.fleet)).uid)
    else:
        rig.apply("web", **specs[change])
    go_on.set()
    await rig.controller.drain()

    assert rig.cluster.replicas("web") == 4
    assert wishes(rig) == {}


async def test_what_changes_nothing_of_a_policy_stops_no_write(rig: Rig) -> None:
    """The operator's own status comes back over the watch as well."""
    rig.add()
    good = rig.kserve[Arm.STABLE].decide

    async def touched(*args: Any, **kwargs: Any) -> Any:
        rig.apply("web", mode="act")
        return await good(*args, **kwargs)

    rig.kserve[Arm.STABLE].decide = touched  # type: ignore[method-assign]
    await rig.interval()

    assert rig.cluster.replicas("web") == 5
    assert wishes(rig) == {"web": 5.0}


async def test_a_slow_evaluation_delays_nobody_else(rig: Rig) -> None:
    """A workload has one evaluation at a time; the others have theirs."""
    rig.add("slow")
    hold = asyncio.Event()
    read = rig.prometheus.read_many

    async def wait(workloads: list[tuple[str, str]], **kwargs: object) -> object:
        if ("shop", "slow") in workloads:
            await hold.wait()
        return await read(workloads)

    rig.prometheus.read_many = wait  # type: ignore[method-assign,assignment]
    rig.clock.now += 15.0
    rig.controller.tick()
    await asyncio.sleep(0)
    rig.add("quick")
    rig.clock.now += 15.0
    rig.controller.tick()
    await rig.until(lambda: rig.cluster.replicas("quick") == 5)
    rig.clock.now += 15.0
    rig.controller.tick()
    hold.set()
    await rig.controller.drain()

    assert rig.cluster.replicas("slow") == 5


async def test_an_evaluation_that_does_not_end_does_not_hold_up_the_end(rig: Rig) -> None:
    """It is left after a while; what it had not written, it does not write."""
    rig.add()

    async def never(*args: object, **kwargs: object) -> object:
        await asyncio.Event().wait()
        return {}

    rig.prometheus.read_many = never  # type: ignore[method-assign,assignment]
    rig.clock.now += 15.0
    rig.controller.tick()
    await rig.controller.drain(timeout_s=0.05)
    await asyncio.sleep(0)

    assert rig.cluster.replicas("web") == 4
