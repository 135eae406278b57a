"""Learned policies before the judge: raw, guarded, served."""

from __future__ import annotations

import json
from typing import Any

import httpx
import numpy as np
import pytest
from numpy.typing import NDArray

from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import InvalidRequest, PredictorUnavailable
from nimbusguard.contract.features import INDEX
from nimbusguard.policy.guard import GuardSettings
from training.lineup import FAMILIES, policy_named
from training.objective import DEFAULT_OBJECTIVE
from training.policies import ActionPolicy, endpoint_decisions, network_decisions
from training.simulator.interface import Observation
from training.simulator.lanes import ClusterLanes
from training.simulator.settings import SimulatorSettings
from training.simulator.workload import Episode, Workload

STEADY = Workload(name="steady", group="made", step_s=60.0, load=np.full(60, 0.5))


def observation(lanes: int = 3) -> Observation:
    clusters = ClusterLanes(
        SimulatorSettings().nominal(DEFAULT_OBJECTIVE), DEFAULT_OBJECTIVE, lanes
    )
    episodes = [Episode(workload=STEADY, seed=seed, scale=16.0) for seed in range(lanes)]
    clusters.reset(np.arange(lanes), episodes)
    return clusters.observation()


def always_down(state: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.tile(np.array([5, 4, 3, 2, 1], dtype=np.float32), (len(state), 1))


def without_cpu(seen: Observation) -> Observation:
    raw = seen.raw.copy()
    raw[1, INDEX["cpu_utilization"]] = np.nan
    return seen._replace(raw=raw)


def test_a_network_acts_greedily_and_holds_where_nothing_can_be_decided() -> None:
    """Row 1 has no CPU series: the operator would hold."""
    seen = without_cpu(observation())

    action = network_decisions(always_down, DEFAULT_OBJECTIVE)(seen)

    assert action.tolist() == [0, int(ScaleAction.NO_ACTION), 0]


def test_the_guard_holds_what_the_raw_policy_would_remove_and_counts_it() -> None:
    """Right after a start nothing may go, and the report can say how often that happened."""
    seen = observation()
    decide = network_decisions(always_down, DEFAULT_OBJECTIVE)
    raw = ActionPolicy("raw", decide, DEFAULT_OBJECTIVE)
    guarded = ActionPolicy("guarded", decide, DEFAULT_OBJECTIVE, rails=GuardSettings())

    assert (raw.act(seen) == seen.current_replicas - 2).all()
    assert (guarded.act(seen) == seen.current_replicas).all()
    assert guarded.guarded["STABILIZATION"] + guarded.guarded["HPA_OBJECTS"] >= 3
    assert raw.actions.tolist() == [3, 0, 0, 0, 0]


def test_an_endpoint_is_asked_with_raw_features_and_bounds() -> None:
    """One instance a decidable row: named features, replicas and bounds; its action comes back."""
    seen = without_cpu(observation())
    asked: list[dict[str, Any]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        instances = json.loads(request.content)["instances"]
        asked.extend(instances)
        return httpx.Response(200, json={"predictions": [{"action_index": 4}] * len(instances)})

    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        action = endpoint_decisions("http://service/predict", DEFAULT_OBJECTIVE, client)(seen)

    assert action.tolist() == [4, 2, 4]
    assert len(asked) == 2
    assert asked[0]["current_replicas"] == seen.current_replicas[0]
    assert (asked[0]["min_replicas"], asked[0]["max_replicas"]) == (1, 50)
    assert asked[0]["cpu_utilization"] == pytest.approx(seen.raw[0, INDEX["cpu_utilization"]])


@pytest.mark.parametrize(
    "answer",
    [httpx.Response(503), httpx.Response(200, json={"predictions": [{}]}), httpx.Response(200)],
)
def test_an_endpoint_without_a_usable_answer_is_named(answer: httpx.Response) -> None:
    """The judge stops rather than judge a policy that did not decide."""
    with httpx.Client(transport=httpx.MockTransport(lambda _: answer)) as client:
        decide = endpoint_decisions("http://service/predict", DEFAULT_OBJECTIVE, client)
        with pytest.raises(PredictorUnavailable, match="http://service/predict"):
            decide(observation(1))


@pytest.mark.parametrize("name", sorted(FAMILIES))
def test_every_family_has_members_by_name(name: str) -> None:
    """A member named on the command line decides for every lane."""
    seen = observation()
    value = FAMILIES[name].values[0]

    policy = policy_named(f"{name}:{value:g}", DEFAULT_OBJECTIVE, GuardSettings())

    assert policy.name == f"{name}:{value:g}"
    assert policy.act(seen).shape == (3,)


@pytest.mark.parametrize("text", ["luck:1", "hpa:much", "guarded+hpa:0.7", "hpa"])
def test_an_unknown_policy_is_refused(text: str) -> None:
    """The message says what there is."""
    with pytest.raises(InvalidRequest, match="policy"):
        policy_named(text, DEFAULT_OBJECTIVE, GuardSettings())
