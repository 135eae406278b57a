"""The question what a network does at both ends of the load, and near the lower one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from numpy.typing import NDArray

from model_store.packaged import packaged_path
from nimbusguard.contract.actions import ACTION_DIM, ScaleAction
from nimbusguard.contract.features import INDEX, STATE_DIM
from nimbusguard.contract.normalization import denormalize
from training.edges import edges_of, idle_states, saturated_states, spare_states
from training.objective import DEFAULT_OBJECTIVE
from training.policies import QFunction, version_q_function

STATES = idle_states(DEFAULT_OBJECTIVE)


def always(action: ScaleAction) -> QFunction:
    """A network that likes one action best, then holding."""
    liked = np.zeros(ACTION_DIM, dtype=np.float32)
    liked[ScaleAction.NO_ACTION] = 1.0
    liked[action] = 2.0

    def q_function(state: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.tile(liked, (len(state), 1))

    return q_function


def test_the_grid_is_idle_workloads_on_every_kind_of_node() -> None:
    """No request, no latency, no queue; one to five pods; memory and nodes from empty to full."""
    raw = denormalize(STATES.state)
    column = {name: sorted(set(np.round(raw[:, index], 6))) for name, index in INDEX.items()}

    assert STATES.state.shape == (3456, STATE_DIM)
    assert len(np.unique(STATES.state, axis=0)) == len(STATES.state)
    assert column["pod_count"] == [1.0, 2.0, 3.0, 5.0]
    assert (column["cpu_utilization"][0], column["cpu_utilization"][-1]) == (0.0, 0.05)
    for name in ("memory_utilization", "memory_pressure", "node_utilization"):
        assert (column[name][0], column[name][-1]) == (0.02, 0.95)
    for name in ("request_rate", "network_io_rate", "response_time_p95", "queue_depth"):
        assert column[name] == [0.0]


def test_at_one_pod_nothing_may_be_removed() -> None:
    """The mask is that of the bounds, as in operation."""
    one = denormalize(STATES.state)[:, INDEX["pod_count"]] == 1.0

    assert not STATES.mask[one][:, : ScaleAction.NO_ACTION].any()
    assert STATES.mask[:, ScaleAction.NO_ACTION :].all()


@pytest.mark.parametrize(
    ("action", "ratio"),
    [
        (ScaleAction.NO_ACTION, 0.0),
        (ScaleAction.SCALE_DOWN_2, 0.0),
        (ScaleAction.SCALE_UP_1, 1.0),
        (ScaleAction.SCALE_UP_2, 1.0),
    ],
)
def test_only_additions_count(action: ScaleAction, ratio: float) -> None:
    """Holding and removing are right."""
    assert edges_of(always(action), DEFAULT_OBJECTIVE).idle_additions_ratio == ratio


def test_a_network_that_adds_on_full_nodes_is_found_out() -> None:
    """One of six node utilizations is above 0.9."""

    def q_function(state: NDArray[np.float32]) -> NDArray[np.float32]:
        q_values = np.zeros((len(state), ACTION_DIM), dtype=np.float32)
        q_values[:, ScaleAction.SCALE_UP_2] = state[:, INDEX["node_utilization"]] - 0.9
        return q_values

    assert edges_of(q_function, DEFAULT_OBJECTIVE).idle_additions_ratio == pytest.approx(1 / 6)


def test_another_minimum_is_where_the_grid_begins() -> None:
    """Below the minimum an addition is no fault, so it is not asked about."""
    states = idle_states(replace(DEFAULT_OBJECTIVE, min_replicas=3))

    assert set(denormalize(states.state)[:, INDEX["pod_count"]].round(6)) == {3.0, 4.0, 5.0, 7.0}
    assert not states.mask[:864, : ScaleAction.NO_ACTION].any()


def test_the_saturated_grid_is_busy_pods_with_late_answers() -> None:
    """Requests, errors and a queue everywhere; one to ten pods; bounds leave room for more."""
    states = saturated_states(DEFAULT_OBJECTIVE)
    raw = denormalize(states.state)

    assert states.state.shape == (2560, STATE_DIM)
    assert set(raw[:, INDEX["pod_count"]].round(6)) == {1.0, 2.0, 3.0, 5.0, 10.0}
    assert raw[:, INDEX["cpu_utilization"]].min() == pytest.approx(0.95)
    assert raw[:, INDEX["response_time_p95"]].min() == pytest.approx(1.0)
    assert raw[:, INDEX["request_rate"]].min() == pytest.approx(19.0, rel=1e-5)
    assert states.mask[:, ScaleAction.NO_ACTION :].all()


@pytest.mark.parametrize("action", list(ScaleAction))
def test_a_saturated_workload_is_left_alone_by_whatever_adds_nothing(action: ScaleAction) -> None:
    """Holding and removing are neglect; adding one or two is not."""
    found = edges_of(always(action), DEFAULT_OBJECTIVE)

    assert found.saturated_neglect_ratio == float(action.change <= 0)


def test_at_the_upper_bound_nothing_is_neglected() -> None:
    """No more pods may be had there."""
    objective = replace(DEFAULT_OBJECTIVE, max_replicas=1)

    assert edges_of(always(ScaleAction.NO_ACTION), objective).saturated_neglect_ratio == 0.0


def test_the_spare_grid_is_pods_that_half_a_pod_could_replace() -> None:
    """A request now and then, answered in time; two to five pods; nodes from empty to full."""
    states = spare_states(DEFAULT_OBJECTIVE)
    raw = denormalize(states.state)
    pods, cpu = raw[:, INDEX["pod_count"]], raw[:, INDEX["cpu_utilization"]]

    assert states.state.shape == (1728, STATE_DIM)
    assert len(np.unique(states.state, axis=0)) == len(states.state)
    assert set(pods.round(6)) == {2.0, 3.0, 5.0}
    assert (pods * cpu).max() == pytest.approx(0.5)
    assert raw[:, INDEX["request_rate"]] == pytest.approx(20.0 * pods * cpu, rel=1e-4)
    assert raw[:, INDEX["request_rate"]].min() > 0
    assert raw[:, INDEX["response_time_p95"]].max() < DEFAULT_OBJECTIVE.latency_s
    assert raw[:, INDEX["error_rate"]].max() == 0
    assert raw[:, INDEX["queue_depth"]].max() == 0
    assert states.mask[:, ScaleAction.SCALE_DOWN_1].all()


@pytest.mark.parametrize("action", list(ScaleAction))
def test_a_spare_pod_is_kept_by_whatever_removes_none(action: ScaleAction) -> None:
    """From two pods only one may go; whoever wants two gone then takes what it likes next."""
    found = edges_of(always(action), DEFAULT_OBJECTIVE)
    expected = 1 / 3 if action == ScaleAction.SCALE_DOWN_2 else float(action.change >= 0)

    assert found.spare_kept_ratio == pytest.approx(expected)


def test_a_spare_pod_that_the_lower_bound_keeps_is_not_asked_about() -> None:
    """No workload may have fewer there."""
    objective = replace(DEFAULT_OBJECTIVE, min_replicas=50)

    assert edges_of(always(ScaleAction.NO_ACTION), objective).spare_kept_ratio == 0.0


def test_the_rule_of_version_1_is_right_at_both_ends() -> None:
    """A rule imitated: what it does there can be said in advance."""
    version = version_q_function(packaged_path() / "nimbusguard-dqn" / "1")

    assert edges_of(version, DEFAULT_OBJECTIVE) == (0.0, 0.0, 0.0)
