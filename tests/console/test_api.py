"""The console's documents: what they hold, how they page, what they refuse."""

from __future__ import annotations

import math

import jsonschema
import pytest

from nimbusguard.console.api import MOST_POINTS, NAMES, ConsoleApi, Unseen
from nimbusguard.console.comparison import NEEDED_S
from nimbusguard.console.decisions import instance_of
from nimbusguard.console.journal import KEPT, Journal
from nimbusguard.console.schema import SCHEMAS
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import InvalidRequest, NotFound
from tests.console.harness import NOW_S, FakeSource, decided


def many(count: int) -> FakeSource:
    return FakeSource(*(decided(workload=f"shop/w{i:04}", request_rate=i) for i in range(count)))


def test_every_document_has_a_schema() -> None:
    """And no other has one."""
    assert tuple(SCHEMAS) == NAMES


async def test_documents_are_as_their_schemas_say() -> None:
    """Absent metrics, decisions by a rule and policies without a decision included."""
    odd = decided(workload="shop/odd", q_values=None, source="hpa_rule", cpu_utilization=math.nan)
    source = FakeSource(decided(), odd)
    source.missing = [Unseen("shop/new", "Deployment/new", "act")]
    source.journal.saw_shadow(decided(arm="canary", action=ScaleAction.SCALE_UP_1))
    api = ConsoleApi(source)
    key = {"key": "shop/web", "id": decided().decision_id}

    for name in NAMES:
        jsonschema.validate(await api.answer(name, key), SCHEMAS[name])
    jsonschema.validate(await api.answer("workload", {"key": "shop/odd"}), SCHEMAS["workload"])


async def test_a_thousand_workloads_come_in_pages() -> None:
    """Fifty each unless asked otherwise; a page beyond the last is the last."""
    api = ConsoleApi(many(1000))

    second = await api.answer("workloads", {"page": "2"})
    beyond = await api.answer("workloads", {"page": "999", "size": "200"})

    assert [row["workload"] for row in second["rows"]][:1] == ["shop/w0050"]
    assert (second["pages"], beyond["page"], len(beyond["rows"])) == (20, 5, 200)


async def test_workloads_are_found_and_sorted() -> None:
    """By part of the name, in any case; by a column, the highest first, absent values last."""
    source = many(100)
    source.journal.saw([decided(workload="shop/w0099", request_rate=math.nan)])
    api = ConsoleApi(source)

    found = await api.answer("workloads", {"search": "W009", "sort": "load"})

    assert found["matching"] == 10
    names = [row["workload"] for row in found["rows"]]
    assert (names[0], names[-1]) == ("shop/w0098", "shop/w0099")


async def test_what_changed_and_what_has_a_problem_is_found_among_many() -> None:
    """Counted over all, and at the front when sorted by."""
    source = many(100)
    changed = [decided(seconds, workload="shop/w0042", applied=True) for seconds in (400.0, 30.0)]
    source.journal.saw([*changed, decided(15.0, workload="shop/w0042")])
    source.problems["shop/w0077"] = "refused"
    api = ConsoleApi(source)

    overview = await api.answer("overview", {})
    by_changes = await api.answer("workloads", {"sort": "changes"})
    by_problem = await api.answer("workloads", {"sort": "problem"})

    assert (overview["changes"], overview["problems"]) == (1, 1)
    first = by_changes["rows"][0]
    assert (first["workload"], first["changes"]) == ("shop/w0042", 1)
    assert by_problem["rows"][0]["workload"] == "shop/w0077"


@pytest.mark.parametrize("sort", ["load", "at_s", "current_replicas"])
async def test_what_has_no_decision_comes_last(sort: str) -> None:
    """Whatever the list is sorted by."""
    source = many(3)
    source.missing = [Unseen("shop/a-new-one", "Deployment/new", "act")]

    found = await ConsoleApi(source).answer("workloads", {"sort": sort})

    assert found["rows"][-1]["workload"] == "shop/a-new-one"
    assert "action" not in found["rows"][-1]


@pytest.mark.parametrize(
    ("name", "query", "said"),
    [
        ("workloads", {"sort": "cost"}, "sort: expected one of"),
        ("workloads", {"size": "201"}, "size: expected a whole number from 1 to 200"),
        ("workloads", {"page": "-1"}, "page: expected a whole number"),
        ("workloads", {"page": "٣"}, "page: expected a whole number"),
        ("workload", {"key": "shop/web", "seconds": "5"}, "seconds: expected"),
        ("workload", {"key": "shop/web", "until_s": "nan"}, "until_s: expected"),
        ("workload", {"key": "shop/web", "until_s": "now"}, "until_s: expected"),
    ],
)
async def test_a_bad_parameter_is_refused(name: str, query: dict[str, str], said: str) -> None:
    """With its name, its rule and what came."""
    with pytest.raises(InvalidRequest, match=said):
        await ConsoleApi(FakeSource(decided())).answer(name, query)


@pytest.mark.parametrize(
    ("name", "query"),
    [("workload", {"key": "shop/none"}), ("explanation", {"key": "shop/web"}), ("secrets", {})],
)
async def test_what_is_not_there_is_not_found(name: str, query: dict[str, str]) -> None:
    """A workload, a decision, a document."""
    with pytest.raises(NotFound):
        await ConsoleApi(FakeSource(decided())).answer(name, query)


async def test_an_explanation_asks_the_decisions_own_question() -> None:
    """With bounds that allow what was allowed; a version that differs now is told."""
    decision = decided(allowed=(False, False, True, True, False))
    source = FakeSource(decision)
    source.answer["predictions"][0]["model_version"] = "3"

    answer = await ConsoleApi(source).answer(
        "explanation", {"key": "shop/web", "id": decision.decision_id}
    )

    assert source.asked == [instance_of(decision)]
    assert (source.asked[0]["min_replicas"], source.asked[0]["max_replicas"]) == (4, 5)
    assert (answer["same_version"], answer["same_action"]) == (False, True)


async def test_a_rules_decision_has_no_explanation() -> None:
    """No network, no gradients: that is said, and nothing is asked."""
    source = FakeSource(decided(q_values=None, source="hpa_rule"))

    with pytest.raises(InvalidRequest, match="hpa_rule decided, no network"):
        await ConsoleApi(source).answer(
            "explanation", {"key": "shop/web", "id": decided().decision_id}
        )
    assert source.asked == []


async def test_a_long_history_is_thinned() -> None:
    """To what a chart can show, with the newest kept."""
    source = FakeSource(decided())
    points = [decided(3600.0 - index) for index in range(3600)]

    async def history(workload: str, since_s: float, until_s: float) -> list[object]:
        return [one for one in points if since_s <= one.at_s <= until_s]

    source.history = history  # type: ignore[method-assign,assignment]

    found = await ConsoleApi(source).answer("workload", {"key": "shop/web", "seconds": "3600"})

    assert 0 < len(found["history"]) <= MOST_POINTS
    assert found["history"][-1]["at_s"] == NOW_S - 1.0


async def test_the_hpas_pods_in_the_history_are_those_of_the_comparison() -> None:
    """Its window counts, also from before the first decision that is shown."""
    source = FakeSource(
        decided(310.0, cpu_utilization=1.0),  # four pods: it wishes six, for five minutes
        decided(200.0, cpu_utilization=0.7),
        decided(5.0, cpu_utilization=0.7),
        decided(2.0, cpu_utilization=math.nan),
    )

    found = await ConsoleApi(source).answer("workload", {"key": "shop/web", "seconds": "240"})

    assert [row["hpa_held"] for row in found["history"]] == [6, 4, None]
    assert [row["hpa_replicas"] for row in found["history"]] == [4, 4, None]
    assert [row["hpa_held"] for row in found["recent"]] == [None, 4, 6]


async def test_questions_do_not_hold_each_other_up() -> None:
    """Somebody who asked twice ran no HPA in between."""
    source = FakeSource(
        decided(20.0, mode="asked", cpu_utilization=1.0), decided(5.0, mode="asked")
    )

    found = await ConsoleApi(source).answer("workload", {"key": "shop/web"})

    assert [row["hpa_held"] for row in found["recent"]] == [4, 6]


async def test_the_canary_of_a_workload_is_counted_over_five_minutes() -> None:
    """Beside decisions that were made at the same time; a rule's answer says nothing."""
    source = FakeSource(*(decided(seconds) for seconds in (400.0, 45.0, 30.0, 15.0)))
    for seconds, action in ((400.0, 4), (45.0, 3), (30.0, 2)):
        source.journal.saw_shadow(decided(seconds, arm="shadow", action=ScaleAction(action)))
    source.journal.saw_shadow(decided(15.0, arm="shadow", q_values=None, source="hpa_rule"))

    found = (await ConsoleApi(source).answer("workload", {"key": "shop/web"}))["canary"]

    assert (found["compared"], found["disagree"]) == (2, 1)
    assert found["source"] == "hpa_rule"


async def test_the_canary_is_counted_where_there_is_one() -> None:
    """Workloads of its own, and disagreement in the shadow; none at all is null."""
    source = many(4)
    assert (await ConsoleApi(source).answer("overview", {}))["canary"] is None

    source.journal.saw([decided(workload="shop/w0000", arm="canary")])
    source.journal.saw_shadow(decided(workload="shop/w0001", action=ScaleAction.SCALE_UP_2))
    source.journal.saw_shadow(decided(workload="shop/w0002"))

    assert (await ConsoleApi(source).answer("overview", {}))["canary"] == {
        "workloads": 1,
        "compared": 2,
        "disagree": 1,
    }


def test_the_journal_stays_small() -> None:
    """So many decisions of a workload, and so many workloads; the quietest goes first."""
    journal = Journal(workloads=2)
    journal.saw([decided(workload="a", decision_id=str(i)) for i in range(KEPT + 5)])
    journal.saw([decided(workload="b"), decided(workload="a"), decided(workload="c")])

    assert len(journal.of("a")) == KEPT
    assert journal.of("b") == ()
    assert len(journal.last()) == 2


def test_the_journal_holds_what_a_comparison_needs() -> None:
    """Ten minutes of a workload that is looked at every second, which are more than its number."""
    journal = Journal(span_s=NEEDED_S)
    journal.saw(decided(1000.0 - second) for second in range(1001))

    kept = journal.of("shop/web")

    assert (kept[0].at_s, kept[-1].at_s) == (NOW_S - NEEDED_S + 1.0, NOW_S)


def test_the_journal_has_an_end() -> None:
    """With many decisions in all, a workload keeps its number and no more."""
    journal = Journal(kept=3, span_s=NEEDED_S, most=10)
    for second in range(20):
        journal.saw(decided(20.0 - second, workload=name) for name in ("a", "b", "c"))

    assert [len(journal.of(name)) for name in ("a", "b", "c")] == [4, 3, 3]

    journal.forget("a")
    journal.saw([decided(workload="b")])
    assert len(journal.of("b")) == 4
