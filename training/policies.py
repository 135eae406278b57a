"""Policies for the judge: a network in numpy's hands, raw or inside the guard, and a served one.

Each is a `Policy` of the simulator: an observation in, target replicas out. Where the service would
refuse to decide, the replicas are held, as the operator does.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import httpx
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM, CHANGES
from nimbusguard.contract.errors import ArtifactCorrupted, PredictorUnavailable
from nimbusguard.contract.features import NAMES
from nimbusguard.policy import guard
from nimbusguard.policy.greedy import choose_allowed
from nimbusguard.policy.guard import GuardMemory, GuardSettings, Rule
from training.lanes import bounds_of, mask_of, see
from training.objective import Objective
from training.simulator.interface import Observation

QFunction = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""States (B, F) to Q-values (B, A)."""
Decide = Callable[[Observation], NDArray[np.int64]]
"""An observation of B lanes to action indices (B,)."""

_TIMEOUT_S: Final = 30.0
"""For a batch of many rows; a single decision of an operator has a far shorter deadline."""


class ActionPolicy:
    """Whatever gives one of the five actions, raw or inside the guard; it counts what it did."""

    def __init__(
        self,
        name: str,
        decide: Decide,
        objective: Objective,
        *,
        rails: GuardSettings | None = None,
        q_function: QFunction | None = None,
    ) -> None:
        """Make the policy.

        Args:
            name: What reports call it.
            decide: Chooses the actions.
            objective: Its bounds and interval.
            rails: The guard; None lets every action through.
            q_function: The network behind it, for those who want to look into it.
        """
        self.name = name
        self._decide = decide
        self._objective = objective
        self._rails = rails
        self.q_function = q_function
        self._memory: GuardMemory | None = None
        self.actions = np.zeros(ACTION_DIM, dtype=np.int64)
        """How often each action was chosen, (A,)."""
        self.guarded = {rule.name or "": 0 for rule in Rule if rule}
        """How often each rule of the guard changed a recommendation."""

    def act(self, observation: Observation) -> NDArray[np.int64]:
        """Target replicas of each lane (N,)."""
        action = self._decide(observation)
        self.actions += np.bincount(action, minlength=ACTION_DIM)
        current = observation.current_replicas
        if self._rails is None:
            return current + CHANGES[action]
        self._memory, verdict = guard.judge(
            self._rails,
            self._remembered(observation),
            action,
            observation.raw,
            current,
            bounds_of(self._objective, len(current)),
            now_s=_clock(observation),
        )
        for rule in Rule:
            if rule:
                self.guarded[rule.name or ""] += int(np.count_nonzero(verdict.rules & rule))
        return verdict.target

    def _remembered(self, observation: Observation) -> GuardMemory:
        """The guard's memory; lanes that begin have none."""
        begins = observation.time_s == 0
        if self._memory is None or len(self._memory.cpu_s_per_request) != len(begins):
            return guard.start(len(begins), _clock(observation))
        if begins.any():
            return guard.restart(self._memory, begins, _clock(observation))
        return self._memory


def _clock(observation: Observation) -> float:
    """One clock for all lanes: they are reset together, or forget their past when they are not."""
    return float(observation.time_s.max())


def network_decisions(q_function: QFunction, objective: Objective) -> Decide:
    """Greedy actions under the bounds; NO_ACTION where the service would refuse the row."""

    def decide(observation: Observation) -> NDArray[np.int64]:
        state, refused = see(observation.raw)
        current = observation.current_replicas
        mask = mask_of(current, bounds_of(objective, len(current)), refused)
        return choose_allowed(q_function(state), mask)

    return decide


def version_q_function(directory: Path) -> QFunction:
    """The Q-function of a model version: its ONNX file, which every host can run.

    Raises:
        ArtifactCorrupted: There is no readable `model.onnx`.
    """
    path = directory / "model.onnx"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(path.read_bytes(), options)
    except (OSError, RuntimeError) as error:
        message = f"{path}: expected the ONNX file of a model version, got {error}"
        raise ArtifactCorrupted(message) from error
    name = session.get_inputs()[0].name

    def q_function(state: NDArray[np.float32]) -> NDArray[np.float32]:
        values: NDArray[np.float32] = session.run(None, {name: state})[0]
        return values

    return q_function


def endpoint_decisions(url: str, objective: Objective, client: httpx.Client) -> Decide:
    """Actions of a served `:predict`, asked with raw features and bounds as an operator would.

    Rows that the service refuses would refuse their whole request, so they are held here.
    """

    def decide(observation: Observation) -> NDArray[np.int64]:
        _, refused = see(observation.raw)
        action = np.full(len(refused), int(np.flatnonzero(CHANGES == 0)[0]), dtype=np.int64)
        asked = np.flatnonzero(~refused)
        if asked.size:
            instances = [_instance(observation, row, objective) for row in asked]
            action[asked] = _ask(client, url, instances)
        return action

    return decide


def _instance(observation: Observation, row: np.intp, objective: Objective) -> dict[str, Any]:
    raw = observation.raw[row]
    features: dict[str, float | None] = {
        name: None if np.isnan(value) else float(value)
        for name, value in zip(NAMES, raw, strict=True)
    }
    return {
        **features,
        "current_replicas": int(observation.current_replicas[row]),
        "min_replicas": objective.min_replicas,
        "max_replicas": objective.max_replicas,
    }


def _ask(client: httpx.Client, url: str, instances: list[dict[str, Any]]) -> list[int]:
    try:
        answer = client.post(url, json={"instances": instances}, timeout=_TIMEOUT_S)
        answer.raise_for_status()
        return [int(each["action_index"]) for each in answer.json()["predictions"]]
    except (httpx.HTTPError, ValueError, KeyError) as error:
        message = f"{url}: expected a decision for each of {len(instances)} instances, got {error}"
        raise PredictorUnavailable(message) from error
