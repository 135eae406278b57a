"""`nimbusguard canary` through the official client, against a stand-in for the API server."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from nimbusguard.canary.kubernetes import KubernetesCluster
from nimbusguard.canary.operations import STEPS, Names, Operations, watch
from nimbusguard.canary.plan import Kind, Rollout
from nimbusguard.cli import main
from nimbusguard.contract.errors import MetricsUnavailable
from nimbusguard.policy.canary import Finding, Judgement, Verdict
from tests.canary.api_server import ApiServer, Document
from tests.manifests.rendering import render_overlay

Serve = Callable[[list[Document]], ApiServer]
SERVICE = ("inferenceservices", "nimbusguard-dqn-model")
CANARY = ("inferenceservices", "nimbusguard-dqn-model-canary")
GRAPH = ("inferencegraphs", "nimbusguard-dqn-graph")


def uri(api: ApiServer, key: tuple[str, str]) -> str:
    """The storage URI that an object has now."""
    entry = api.objects[key]["spec"]["predictor"]["containers"][0]["env"][0]
    return str(entry["value"])


def weights(api: ApiServer) -> list[int]:
    """The splitter's weights now."""
    steps = api.objects[GRAPH]["spec"]["nodes"]["root"]["steps"]
    return [step["weight"] for step in steps]


def canary(*arguments: str, kind: str = "graph") -> int:
    """Run the command."""
    return main(["canary", arguments[0], "--kind", kind, *arguments[1:]])


def test_start_puts_the_version_behind_the_canary_and_moves_the_weights(
    serve_objects: Serve,
) -> None:
    """As JSON patches; the weights go out only when the pods have rolled."""
    api = serve_objects(render_overlay("canary-graph"))

    assert canary("start", "--version", "3", "--percent", "25") == 0

    assert uri(api, CANARY).endswith("/3")
    assert weights(api) == [75, 25]
    assert {content_type for _, _, content_type in api.requests} == {"application/json-patch+json"}
    assert api.objects[CANARY]["status"]["observedGeneration"] == 2


def test_promote_moves_the_version_to_the_stable_service(serve_objects: Serve) -> None:
    """The stable one rolls first, then the canary's share goes."""
    api = serve_objects(render_overlay("canary-graph"))

    assert canary("promote") == 0

    assert uri(api, SERVICE).endswith("/2")
    assert weights(api) == [100, 0]
    assert [path.rsplit("/", 1)[-1] for _, path, _ in api.requests] == [SERVICE[1], GRAPH[1]]


def test_rollback_touches_the_weights_alone(serve_objects: Serve) -> None:
    """Nothing rolls, so it takes effect at once."""
    api = serve_objects(render_overlay("canary-graph"))

    assert canary("rollback") == 0

    assert weights(api) == [100, 0]
    assert len(api.requests) == 1


def test_a_traffic_canary_goes_through_its_life(
    serve_objects: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """Start, a larger share, status, rollback, on the one InferenceService."""
    api = serve_objects(render_overlay("canary-traffic"))
    predictor = api.objects[SERVICE]["spec"]["predictor"]

    canary("start", "--version", "3", "--percent", "5", kind="traffic")
    canary("start", "--version", "3", "--percent", "25", kind="traffic")
    capsys.readouterr()
    canary("status", "--json", kind="traffic")
    status = json.loads(capsys.readouterr().out)
    canary("rollback", kind="traffic")

    assert status == {
        "kind": "traffic",
        "stable_version": None,
        "canary_version": "3",
        "percent": 25,
    }
    assert predictor["canaryTrafficPercent"] == 10
    assert api.objects[SERVICE]["spec"]["predictor"]["canaryTrafficPercent"] == 0


def test_a_dry_run_prints_the_patch_that_would_be_sent_and_sends_none(
    serve_objects: Serve, capsys: pytest.CaptureFixture[str]
) -> None:
    """The body is the one that an identical run without it sends."""
    api = serve_objects(render_overlay("canary-traffic"))

    canary("start", "--version", "3", "--percent", "25", "--dry-run", kind="traffic")

    head, _, body = capsys.readouterr().out.partition("\n")
    assert head == f"PATCH {'/'.join(SERVICE)} application/json-patch+json"
    assert json.loads(body)[-1] == {
        "op": "replace",
        "path": "/spec/predictor/canaryTrafficPercent",
        "value": 25,
    }
    assert api.requests == []


def test_a_dry_run_needs_no_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What `kubectl kustomize` printed is enough to see the patch."""
    path = tmp_path / "rendered.yaml"
    path.write_text(yaml.safe_dump_all(render_overlay("canary-graph")))

    dry = ("--dry-run", "--manifests", str(path))

    assert canary("start", "--version", "3", "--percent", "5", *dry) == 0
    assert capsys.readouterr().out.count("PATCH") == 2
    assert canary("rollback", "--manifests", str(path)) == 1
    assert "--dry-run" in capsys.readouterr().err


def test_an_object_that_changed_meanwhile_is_left_alone(
    serve_objects: Serve, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The API server refuses the patch by its own tests; the command says so."""
    api = serve_objects(render_overlay("canary-graph"))
    read = KubernetesCluster.read

    def read_then_change(self: KubernetesCluster, resource: str, name: str) -> object:
        found = read(self, resource, name)
        if resource == "inferencegraphs":
            steps = api.objects[GRAPH]["spec"]["nodes"]["root"]["steps"]
            steps[0]["weight"], steps[1]["weight"] = 60, 40
        return found

    monkeypatch.setattr(KubernetesCluster, "read", read_then_change)

    assert canary("rollback") == 1
    assert "changed meanwhile" in capsys.readouterr().err
    assert weights(api) == [60, 40]


@pytest.mark.parametrize(
    ("status", "expected"),
    [(403, "not allowed"), (500, "expected 200"), (404, "no inferencegraphs")],
)
def test_an_api_server_that_refuses_is_quoted(
    serve_objects: Serve, capsys: pytest.CaptureFixture[str], status: int, expected: str
) -> None:
    """Status 1 and one line, no traceback."""
    api = serve_objects(render_overlay("canary-graph"))
    api.fail_with = status

    assert canary("rollback") == 1
    assert expected in capsys.readouterr().err


def judgement(verdict: Verdict) -> Judgement:
    """A judgement with one finding."""
    finding = Finding(check="errors", verdict=verdict, stable="", canary="", reason="because")
    return Judgement(verdict=verdict, findings=(finding,))


def operations(kind: Kind = Kind.GRAPH) -> Operations:
    """Over the stand-in."""
    cluster = KubernetesCluster("nimbusguard-serving")
    return Operations(cluster, kind, Names(), dry_run=False, show=lambda _: None)


def test_a_good_version_takes_every_step_and_is_promoted(serve_objects: Serve) -> None:
    """1, 5, 25, 50, 100 percent, judged at each; held once is judged again."""
    api = serve_objects(render_overlay("canary-graph"))
    shares: list[int] = []

    def judge(rollout: Rollout) -> Judgement:
        shares.append(rollout.percent)
        return judgement(Verdict.HOLD if shares == [1] else Verdict.PROMOTE)

    verdict = watch(
        operations(), "3", judge, wait=lambda: None, max_judgements=3, say=lambda _: None
    )

    assert verdict is Verdict.PROMOTE
    assert shares == [1, *STEPS]
    assert uri(api, SERVICE).endswith("/3")
    assert weights(api) == [100, 0]


@pytest.mark.parametrize("found", [Verdict.ROLL_BACK, Verdict.REFUSE, Verdict.HOLD])
def test_a_version_that_is_not_promoted_at_a_step_is_rolled_back(
    serve_objects: Serve, found: Verdict
) -> None:
    """Also one that is still held after the last judgement: a canary does not stay for ever."""
    api = serve_objects(render_overlay("canary-graph"))
    verdicts = [Verdict.PROMOTE, Verdict.PROMOTE, found, found]

    verdict = watch(
        operations(),
        "3",
        lambda _: judgement(verdicts.pop(0)),
        wait=lambda: None,
        max_judgements=2,
        say=lambda _: None,
    )

    assert verdict is (Verdict.REFUSE if found is Verdict.REFUSE else Verdict.ROLL_BACK)
    assert weights(api) == [100, 0]
    assert uri(api, SERVICE).endswith("/1")


def test_a_judgement_that_cannot_be_made_is_made_again(serve_objects: Serve) -> None:
    """A missed scrape ends no roll-out; figures that never come end it with a rollback."""
    api = serve_objects(render_overlay("canary-graph"))
    told: list[str] = []

    def judge_failing(times: int) -> Callable[[Rollout], Judgement]:
        calls = iter(range(times + len(STEPS)))

        def judge(rollout: Rollout) -> Judgement:
            if next(calls) < times:
                raise MetricsUnavailable("no answer")
            return judgement(Verdict.PROMOTE)

        return judge

    verdicts = [
        watch(
            operations(),
            version,
            judge_failing(times),
            wait=lambda: None,
            max_judgements=3,
            say=told.append,
        )
        for version, times in (("3", 2), ("4", 9))
    ]

    assert verdicts == [Verdict.PROMOTE, Verdict.ROLL_BACK]
    assert told.count("hold: not judged: no answer") == 5
    assert uri(api, SERVICE).endswith("/3")
    assert weights(api) == [100, 0]
