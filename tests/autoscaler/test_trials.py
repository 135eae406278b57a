"""What the operator recorded, as the arms that a canary is judged by."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from autoscaler.arms import SHADOW, Arm
from autoscaler.experience import ExperienceStore
from autoscaler.kube import KubeApi
from autoscaler.trials import BOUNDS_S, SideBySide, Trial, compare
from nimbusguard.cli import main
from nimbusguard.client.asked import Ended
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import InvalidRequest, Unavailable
from nimbusguard.contract.fingerprint import FINGERPRINT
from nimbusguard.policy.canary import WorkloadFigures
from tests.autoscaler.harness import decision, experience, outcome
from tests.autoscaler.rig import Rig
from tests.standin.kube_api import StandIn


def trial(when: float, arm: str = "stable", **change: Any) -> Trial:
    fields: dict[str, Any] = {
        "policy": "shop/web",
        "decided_at_s": when,
        "mode": "act",
        "arm": arm,
        "action": 2,
        "asked": "answered",
        "answer_s": 0.004,
        "model_version": "2" if arm == "stable" else "3",
        "fingerprint": FINGERPRINT,
        "current_replicas": 4,
        "rules": frozenset(),
        "next_replicas": 4,
        "requests": 100.0,
        "violating": 0.0,
    }
    return Trial(**(fields | change))


def side_by_side(*trials: Trial) -> SideBySide:
    """With one answer of each version, so that both are known."""
    first = (trial(0.0, next_replicas=None), trial(0.0, "canary", next_replicas=None))
    return compare([*first, *trials], version="3", stable="2")


def figures(found: SideBySide) -> WorkloadFigures:
    """Of stable."""
    assert found.stable.workloads is not None
    return found.stable.workloads


def test_a_question_about_many_workloads_is_one_request() -> None:
    """It fails or dawdles for all of them at once; their actions are as many as they are."""
    rows = [trial(1.0, policy=f"shop/w{number}", answer_s=0.3) for number in range(17)]

    found = side_by_side(*rows)

    assert found.stable.requests == 2
    assert found.stable.latency.counts[BOUNDS_S.index(0.5)] == 1
    assert found.stable.actions == (0, 0, 18, 0, 0)


@pytest.mark.parametrize(
    ("ended", "counts"),
    [
        (Ended.FAILED, (1, 0, 0)),
        (Ended.NON_FINITE, (1, 0, 1)),
        (Ended.REFUSED, (0, 1, 0)),
        (Ended.REFUSED_QUESTION, (0, 1, 0)),
        (Ended.UNTRUSTED, (0, 0, 0)),
        (Ended.NOT_ASKED, (0, 0, 0)),
    ],
)
def test_each_end_of_a_question_is_counted_as_what_it_was(
    ended: Ended, counts: tuple[int, int, int]
) -> None:
    """Errors, refused and NaN; what was not asked, or is not validated yet, says nothing."""
    found = side_by_side(
        trial(1.0, "canary", asked=ended.value, model_version="2", answer_s=0.1)
    ).canary

    assert (found.errors, found.refused, found.non_finite) == counts
    assert found.requests == 1 + sum(counts[:2])
    assert found.actions == (0, 0, 1, 0, 0)


def test_an_action_of_a_rule_is_not_the_networks() -> None:
    """Out of distribution, the HPA rule decided."""
    found = side_by_side(trial(1.0, action=4, rules=frozenset({"OUT_OF_DISTRIBUTION"})))

    assert found.stable.actions == (0, 0, 1, 0, 0)


def test_violating_intervals_are_counted_by_the_share_of_requests() -> None:
    """One request in a hundred may fail; an interval without requests violates nothing."""
    found = side_by_side(
        trial(1.0, violating=1.0),
        trial(2.0, violating=1.1),
        trial(3.0, requests=0.0, violating=0.0),
        trial(4.0, "canary", violating=50.0),
    )

    assert (figures(found).intervals, figures(found).violating) == (3, 1)
    assert found.canary.workloads is not None
    assert found.canary.workloads.violating == 1


def test_a_change_that_takes_an_earlier_one_back_is_churn() -> None:
    """Within ten intervals; two in one direction, or one much later, are none."""
    steps = [(1.0, 4, 5), (2.0, 5, 6), (3.0, 6, 5)]
    later = [(4.0 + number, 5, 5) for number in range(10)]
    rows = [
        trial(when, current_replicas=now, next_replicas=then)
        for when, now, then in [*steps, *later, (20.0, 5, 6)]
    ]

    assert figures(side_by_side(*rows)).taken_back == 1


def test_what_was_only_watched_has_no_outcome_of_its_own() -> None:
    """Mode shadow: somebody else scaled."""
    found = side_by_side(trial(1.0, mode="shadow", violating=90.0))

    assert figures(found) == WorkloadFigures(workloads=0, intervals=0, violating=0, taken_back=0)
    assert found.stable.requests == 2


def test_answers_in_shadow_are_compared_with_those_that_were_followed() -> None:
    """On the same look at the same workload, by the two versions that are judged."""
    found = side_by_side(
        trial(1.0),
        trial(1.0, SHADOW, action=3),
        trial(2.0),
        trial(2.0, SHADOW),
        trial(3.0, asked="failed"),
        trial(3.0, SHADOW, action=3),
        trial(4.0, rules=frozenset({"INDIFFERENT"})),
        trial(4.0, SHADOW, action=3),
        trial(5.0, model_version="1"),
        trial(5.0, SHADOW, action=3),
        trial(6.0, SHADOW, action=3, policy="shop/other"),
    )

    assert found.shadow is not None
    assert (found.shadow.compared, found.shadow.differing) == (2, 1)
    assert found.canary.requests == 7


def test_without_shadow_there_is_nothing_to_compare() -> None:
    """And no finding says otherwise."""
    assert side_by_side().shadow is None


def test_stable_must_be_named_when_several_versions_were() -> None:
    """And a version that decided nothing is no version to judge."""
    rows = [trial(1.0), trial(2.0, model_version="1"), trial(3.0, "canary")]

    with pytest.raises(InvalidRequest, match="--stable: expected, because stable was: 1, 2"):
        compare(rows, version="3")
    with pytest.raises(InvalidRequest, match="version 9: no decision as canary; decided: 3"):
        compare(rows, version="9", stable="2")
    with pytest.raises(InvalidRequest, match="stable was: no version"):
        compare([], version="3")
    assert compare(rows, version="3", stable="1").stable.version == "1"


def test_a_store_gives_its_trials_from_a_moment_on(tmp_path: Path) -> None:
    """In their order, each with its outcome if there is one; nothing if nothing is so young."""
    with ExperienceStore(tmp_path / "experience.db") as store:
        store.record([experience(number, guard=("BURST",)) for number in range(1, 4)])
        store.complete([outcome(2, violating_requests=4.0)])

        found = list(store.trials(since_s=1_002.0))

        assert [one.decided_at_s for one in found] == [1_002.0, 1_003.0]
        assert found[0].rules == {"BURST"}
        assert found[0].requests == pytest.approx(0.75 * 15.0)
        assert (found[0].violating, found[0].next_replicas) == (4.0, 4)
        assert (found[1].requests, found[1].next_replicas) == (None, None)
        assert list(store.trials(since_s=2_000.0)) == []


def test_a_long_window_is_read_in_pages(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No row is lost or doubled between two of them."""
    monkeypatch.setattr("autoscaler.experience._PAGE_ROWS", 3)
    with ExperienceStore(tmp_path / "experience.db") as store:
        store.record([experience(number) for number in range(10)])

        found = [one.decided_at_s for one in store.trials(since_s=0.0)]

    assert found == [1_000.0 + number for number in range(10)]


async def test_a_canary_in_the_loop_is_judged_by_what_was_recorded(
    cluster: StandIn, api: KubeApi, tmp_path: Path
) -> None:
    """Its own workloads, and its answers in shadow about the others."""
    rig = Rig(
        cluster,
        api,
        tmp_path / "experience.db",
        arms=(Arm.STABLE, Arm.CANARY),
        shadow_canary=True,
    )
    rig.kserve[Arm.CANARY].make = lambda *args, **change: decision(
        *args, **(change | {"model_version": "3"})
    )
    for number in range(12):
        rig.add(f"w{number}", canaryShare=0.5, replicas=4)
    for _ in range(4):
        await rig.interval()
    rig.kserve[Arm.CANARY].trouble = Unavailable("loading")
    await rig.interval()

    assert rig.store is not None
    found = compare(rig.store.trials(since_s=0.0), version="3")

    assert (found.stable.version, found.canary.version) == ("2", "3")
    assert (found.stable.errors, found.stable.refused) == (0, 0)
    assert found.canary.refused > 0
    assert found.shadow is not None
    assert found.shadow.differing == found.shadow.compared > 0
    workloads = [arm.workloads for arm in (found.stable, found.canary)]
    counts = [figures.workloads for figures in workloads if figures is not None]
    assert sum(counts) == 12
    assert min(counts) > 0


@pytest.fixture
def recorded(tmp_path: Path) -> str:
    """An hour of twelve workloads: half by version 2, half by 3, which is asked about all."""
    path = tmp_path / "experience.db"
    now_s = time.time()
    decisions, outcomes, number = [], [], 0
    for step in range(240):
        when = now_s - 3_600.0 + 15.0 * step
        for workload in range(12):
            for arm in ("stable", SHADOW) if workload < 6 else ("canary",):
                number += 1
                decisions.append(
                    experience(
                        number,
                        policy=f"shop/w{workload}",
                        decided_at_s=when,
                        arm=arm,
                        mode="shadow" if arm == SHADOW else "act",
                        model_version="2" if arm == "stable" else "3",
                        answer_s=0.002 + step * 1e-6,
                        action=ScaleAction.NO_ACTION if step % 3 else ScaleAction.SCALE_UP_1,
                    )
                )
                if arm != SHADOW:
                    later = {"observed_at_s": when + 15.0, "violating_requests": 0.0}
                    outcomes.append(outcome(number, **later))
    with ExperienceStore(path) as store:
        store.record(decisions)
        store.complete(outcomes)
    return str(path)


def test_the_command_judges_by_workload(recorded: str, capsys: pytest.CaptureFixture[str]) -> None:
    """240 questions each are short of the 300; with a lower demand the version is promoted."""
    command = ["canary", "judge", "--by-workload", "--store", recorded, "--version", "3", "--json"]

    assert main(command) == 3
    held = json.loads(capsys.readouterr().out)
    assert held["reasons"] == ["samples: 240 requests of the 300 that each version needs"]
    assert main([*command, "--min-requests", "200"]) == 0
    promoted = json.loads(capsys.readouterr().out)

    checks = {found["check"]: found for found in promoted["findings"]}
    assert checks["disagreement"]["canary"] == "0.00%"
    assert checks["workloads"]["canary"] == "6"
    assert {"violations", "churn", "p99", "errors", "refused"} <= checks.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--store", "absent.db"], "--store: expected the operator's SQLite file"),
        ([], "--store: expected the operator's SQLite file, got None"),
        (["--window", "6 hours"], "--window: expected a duration such as 6h, got '6 hours'"),
        (["--window", "1s"], "--stable: expected, because stable was: no version"),
    ],
)
def test_a_mistake_is_explained(
    recorded: str, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit status 1, one line."""
    if "--window" in arguments:
        arguments = ["--store", recorded, *arguments]

    assert main(["canary", "judge", "--by-workload", "--version", "3", *arguments]) == 1

    assert message in capsys.readouterr().err
