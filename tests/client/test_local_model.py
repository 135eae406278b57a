"""A network in this process: what it answers, and what it refuses to load."""

from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

from nimbusguard.client.local_model import LocalModel
from nimbusguard.client.observation import MOST_REPLICAS, Observation
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.errors import (
    ArtifactCorrupted,
    IncompatibleModel,
    InvalidRequest,
    NonFiniteOutput,
)
from nimbusguard.contract.normalization import absent_as_zero_mask
from tests.client.harness import IDENTITY, linear_onnx, local_model, seen


def test_a_decision_is_made_of_normalized_metrics() -> None:
    """Q-values, margin, mask and notes are those of the contract's functions."""
    busy = seen(cpu_utilization=1.5, queue_depth=math.nan, high=5)
    (decision,) = local_model().decide([busy])

    # 1 + 0.5 + 0.1 + 0.2 + 3/49 + 0.04 + 0 + 0 + 0 + 0.5 + 0.5
    state_sum = 2.84 + 3 / 49
    assert decision.action is ScaleAction.NO_ACTION
    assert decision.q_values == pytest.approx(
        [0.0, 0.001 * state_sum, 1.0 + 0.002 * state_sum, 0.003 * state_sum, 0.004 * state_sum]
    )
    assert decision.q_margin == pytest.approx(1.0 - 0.001 * state_sum)
    assert decision.allowed_actions == tuple(ScaleAction)[:4]
    assert decision.clipped_features == ("cpu_utilization",)
    assert decision.imputed_features == ("queue_depth",)
    assert (decision.model_version, decision.fingerprint) == ("2", IDENTITY.fingerprint)


def test_many_rows_are_answered_in_their_order() -> None:
    """Each with its own bounds; none gives none."""
    model = local_model((5.0, 0.0, 0.0, 0.0, 0.0))

    decisions = model.decide([seen(9), seen(2), seen(1)])

    assert [decision.target_replicas for decision in decisions] == [7, 4, 3]
    assert model.decide([]) == []


def test_absence_is_refused_as_the_transformer_refuses_it() -> None:
    """Unless it was declared to mean 0."""
    blind = seen(response_time_p95=math.nan)

    with pytest.raises(InvalidRequest, match=r"observations\[1\]: response_time_p95: expected"):
        local_model().decide([seen(), blind])
    (decision,) = local_model().decide([blind], absent_as_zero_mask(("response_time_p95",)))
    assert decision.imputed_features == ("response_time_p95",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "expected an ONNX network"),
        (b"not onnx", "expected an ONNX network"),
        (linear_onnx()[:200], "expected an ONNX network"),
        (linear_onnx(features=12), r"expected one input \(B, 11\)"),
        (linear_onnx((0.0,) * 3, actions=3), r"expected Q-values \(3, 5\), got \(3, 3\)"),
    ],
)
def test_a_file_that_is_no_such_network_is_not_loaded(content: bytes, message: str) -> None:
    """The message says what was expected."""
    with pytest.raises(ArtifactCorrupted, match=message):
        LocalModel.from_onnx(content, IDENTITY)


@pytest.mark.parametrize("poison", [math.nan, math.inf, -math.inf])
def test_a_network_that_answers_no_number_is_not_loaded(poison: float) -> None:
    """It is run once before it is used."""
    with pytest.raises(NonFiniteOutput, match="version 2: expected finite Q-values"):
        local_model((0.0, poison, 0.0, 0.0, 0.0))


def test_a_network_for_another_feature_table_is_not_loaded() -> None:
    """Its action index may mean something else."""
    foreign = replace(IDENTITY, fingerprint="sha256:0")

    with pytest.raises(IncompatibleModel, match="got sha256:0"):
        LocalModel.from_onnx(linear_onnx(), foreign)


def test_a_state_of_another_width_is_an_error_of_ours() -> None:
    """No exception of the runtime comes out."""
    with pytest.raises(ArtifactCorrupted, match=r"expected \(B, 11\) to be accepted"):
        local_model().q_values(np.zeros((2, 7), dtype=np.float32))


def test_the_local_model_needs_no_torch() -> None:
    """An operator runs without it."""
    code = (
        "import sys; from nimbusguard.client.local_model import LocalModel; import onnxruntime; "
        "sys.exit('torch' in sys.modules)"
    )

    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"values": (1.0,) * 10}, "values: expected 11 numbers, got 10"),
        ({"current_replicas": -1}, "current_replicas: expected 0 to"),
        ({"max_replicas": MOST_REPLICAS + 1}, "max_replicas: expected 0 to"),
        ({"min_replicas": 51}, r"min_replicas: expected at most max_replicas \(50\), got 51"),
    ],
)
def test_an_observation_that_contradicts_itself_is_refused(
    change: dict[str, object], message: str
) -> None:
    """When it is made, not when it is sent."""
    fields: dict[str, object] = {"values": (1.0,) * 11, "current_replicas": 3} | change

    with pytest.raises(InvalidRequest, match=message):
        Observation(**fields)  # type: ignore[arg-type]
