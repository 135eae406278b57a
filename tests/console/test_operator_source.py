"""The operator's side of the console: records in, history from the store, problems told."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest

from autoscaler.console import OperatorSource, decision_of
from autoscaler.experience import ExperienceStore
from autoscaler.fleet import Fleet
from autoscaler.records import Experience
from nimbusguard.console.journal import Journal
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import InvalidRequest, PredictorUnavailable
from tests.autoscaler.harness import experience as recorded
from tests.console.harness import BASE

START_S = 1_000_000.0


def experience(number: int = 0, **changes: Any) -> Experience:
    own = {
        "decision_id": f"uid:stable:{number}",
        "decided_at_s": START_S + 15.0 * number,
        "raw": BASE.raw,
    }
    return recorded(number, **(own | changes))


def shadow(number: int = 0, **changes: Any) -> Experience:
    own = {"decision_id": f"uid:shadow:{number}", "arm": "shadow", "mode": "shadow"}
    return experience(number, **(own | changes))


def policy(name: str = "web", **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "namespace": "shop",
            "name": name,
            "uid": f"uid-{name}",
            "generation": 1,
            "annotations": spec.pop("annotations", {}),
        },
        "spec": {"target": {"name": name}, "mode": "act", **spec},
    }


def source(store: ExperienceStore | None = None, fleet: Fleet | None = None) -> OperatorSource:
    return OperatorSource(
        Fleet() if fleet is None else fleet,
        Journal(),
        store,
        "http://127.0.0.1:9/v1/models/m:explain",
        now=lambda: datetime.fromtimestamp(START_S, UTC),
        is_leader=lambda: True,
    )


def test_a_shadow_never_passes_for_a_decision() -> None:
    """What the canary would have done stands beside what was done."""
    one = source()

    one.saw([experience(), shadow(action=ScaleAction.SCALE_UP_1)])

    (last,) = one.journal.last()
    assert last == decision_of(experience())
    beside = one.journal.shadow_of("shop/web")
    assert beside is not None
    assert beside.action is ScaleAction.SCALE_UP_1


async def test_history_comes_from_the_store(tmp_path: Path) -> None:
    """Hours of one policy, without its shadows and its neighbours, oldest first."""
    with ExperienceStore(tmp_path / "e.db") as store:
        store.record([experience(number) for number in range(400)])
        store.record([shadow(7), experience(8, decision_id="other", policy="shop/api")])

        found = await source(store).history("shop/web", START_S + 150.0, START_S + 4500.0)

    assert [one.at_s for one in found] == [START_S + 15.0 * number for number in range(10, 301)]


async def test_without_a_store_memory_is_the_history() -> None:
    """The last decisions, and the server says that nothing more is kept."""
    one = source()
    one.saw([experience(number) for number in range(5)])

    found = await one.history("shop/web", START_S + 30.0, START_S + 45.0)

    assert len(found) == 2
    assert one.state() == {"leader": True, "recorded": False}


async def test_a_long_history_of_a_policy_is_found_by_index(tmp_path: Path) -> None:
    """Not by reading the whole store: the plan names the index."""
    with ExperienceStore(tmp_path / "e.db") as store:
        plan = store._connection.execute(
            "EXPLAIN QUERY PLAN SELECT * FROM experience WHERE policy = 'a' "
            "AND decided_at_s BETWEEN 1 AND 2 ORDER BY decided_at_s DESC"
        ).fetchall()

    assert "experience_by_policy" in plan[0][3]


def test_a_policy_is_told_with_its_commands() -> None:
    """Bounds, objective, pause; the command names the policy and its namespace."""
    fleet = Fleet()
    fleet.put(policy(annotations={"nimbusguard.io/paused": "true"}), 0.0)

    about = source(fleet=fleet).about("shop/web")

    assert (about["paused"], about["max_replicas"], about["objective_latency_s"]) == (
        True,
        50,
        0.25,
    )
    assert about["resume_command"] == (
        "kubectl annotate --overwrite scalingpolicy web -n shop nimbusguard.io/paused-"
    )


def test_a_refused_policy_is_listed_with_its_problem() -> None:
    """Nobody has to guess why there is no decision."""
    fleet = Fleet()
    fleet.put(policy(mode="yes"), 0.0)
    one = source(fleet=fleet)

    (row,) = one.unseen()

    assert (row.workload, row.mode) == ("shop/web", "refused")
    assert "spec.mode: expected one of" in one.about("shop/web")["problem"]


def test_a_condition_that_nobody_wanted_is_a_problem() -> None:
    """Such as another autoscaler of the same target; that a policy only advises is none."""
    fleet = Fleet()
    entry = fleet.put(policy(), 0.0)
    one = source(fleet=fleet)
    entry.status = {
        "conditions": [
            {"type": "Acting", "status": "False", "reason": "Shadow", "message": "mode is shadow"},
            {"type": "Served", "status": "False", "reason": "HpaRule", "message": "refused"},
        ]
    }

    assert one.about("shop/web")["problem"] == "Served: HpaRule: refused"
    assert one.about("shop/gone")["problem"] == "the policy was deleted"


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (httpx.Response(503, json={"error": "predictor: gone"}), PredictorUnavailable),
        (httpx.Response(400, json={"error": "no"}), InvalidRequest),
        (httpx.Response(200, text="hello"), PredictorUnavailable),
        (httpx.Response(200, json={"predictions": []}), PredictorUnavailable),
    ],
)
async def test_a_transformer_that_does_not_explain_is_told(
    answer: httpx.Response, expected: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With its address and its own words."""
    one = source()
    await one._client.aclose()
    one._client = httpx.AsyncClient(transport=httpx.MockTransport(lambda request: answer))

    with pytest.raises(expected, match=r"http://127.0.0.1:9/v1/models/m:explain"):
        await one.explain({})
    await one.aclose()


async def test_a_transformer_that_is_not_there_is_told() -> None:
    """As unavailable, which the console shows."""
    one = source()

    with pytest.raises(PredictorUnavailable, match="expected an explanation"):
        await one.explain({})
    await one.aclose()
