"""The imitation of the HPA rule: its sampling, its labels, its figures."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from model_store.packaged import packaged_store
from model_store.store import open_store
from nimbusguard.contract.actions import CHANGES, ScaleAction
from nimbusguard.contract.features import FEATURES, INDEX, POD_COUNT
from nimbusguard.contract.normalization import denormalize
from nimbusguard.policy.hpa import desired_replicas
from training.export import run_onnx, run_torchscript, weights_digest
from training.imitate import EVALUATIONS, ImitationConfig, evaluate, fit, main
from training.imitation import (
    CPU_TARGET,
    Sampling,
    agreement,
    rule_actions,
    sample,
    target_q_values,
)
from training.provenance import git_commit, library_versions

CPU = INDEX["cpu_utilization"]
TINY = ImitationConfig(steps=300, batch_size=256, evaluation_states=5_000)


def actions_at(cpu: float, pods: int) -> ScaleAction:
    return ScaleAction(int(rule_actions(np.array([cpu]), np.array([pods]))[0]))


@pytest.mark.parametrize(
    ("cpu", "pods", "action"),
    [
        (0.70, 10, ScaleAction.NO_ACTION),
        (0.77, 10, ScaleAction.NO_ACTION),
        (0.78, 10, ScaleAction.SCALE_UP_2),
        (0.78, 4, ScaleAction.SCALE_UP_1),
        (1.00, 2, ScaleAction.SCALE_UP_1),
        (0.63, 20, ScaleAction.NO_ACTION),
        (0.62, 20, ScaleAction.SCALE_DOWN_2),
        (0.50, 4, ScaleAction.SCALE_DOWN_1),
        (0.00, 3, ScaleAction.SCALE_DOWN_2),
        (0.00, 1, ScaleAction.NO_ACTION),
        (0.00, 2, ScaleAction.SCALE_DOWN_1),
        (1.00, 50, ScaleAction.NO_ACTION),
        (1.00, 49, ScaleAction.SCALE_UP_1),
    ],
)
def test_the_label_is_the_rules_change_within_two_and_within_bounds(
    cpu: float, pods: int, action: ScaleAction
) -> None:
    """Tolerance, ceiling, the bounds 1 and 50, and the largest step are those of the rule."""
    assert actions_at(cpu, pods) is action


def test_labels_are_those_of_the_scalar_rule() -> None:
    """Every sampled label equals the published rule, asked one state at a time."""
    states, actions = sample(np.random.default_rng(3), 2_000, Sampling(near_boundary=0.5))
    raw = denormalize(states)

    for row, action in zip(raw, actions, strict=True):
        pods = round(float(row[POD_COUNT]))
        ratio = float(row[CPU]) / CPU_TARGET
        edges = np.abs(ratio - np.array([0.9, 1.1])).min()
        if min(edges, abs(pods * ratio - round(pods * ratio))) < 1e-5:
            continue  # float32 of the state may lie on the other side of the step
        desired = min(max(desired_replicas(pods, ratio), 1), 50)
        assert min(max(desired - pods, -2), 2) == CHANGES[action]


def test_sampled_states_cover_the_features_and_stay_within_bounds() -> None:
    """All eleven features span [0, 1], bounds included where clipping puts real states."""
    states, _ = sample(np.random.default_rng(1), 20_000, Sampling())

    assert states.dtype == np.float32
    assert ((states >= 0) & (states <= 1)).all()
    assert (states.min(axis=0) < 0.01).all()
    assert (states.max(axis=0) > 0.98).all()
    others = [index for index in range(len(FEATURES)) if index not in (CPU, POD_COUNT)]
    assert (states[:, others] == 0).mean() > 0.1


def test_states_near_a_boundary_change_their_label_within_its_distance() -> None:
    """What is drawn as near really has a step of the rule that near."""
    distance = 0.01
    sampling = Sampling(near_boundary=1.0, distance=distance)
    states, actions = sample(np.random.default_rng(2), 2_000, sampling)
    raw = denormalize(states)
    pods = np.round(raw[:, POD_COUNT]).astype(np.int64)

    offsets = np.linspace(-distance - 1e-4, distance + 1e-4, 201)
    around = np.clip(raw[:, CPU][:, None] + offsets, 0, None)  # (B, 201)
    labels = rule_actions(around.ravel(), np.repeat(pods, len(offsets))).reshape(around.shape)

    assert (labels != actions[:, None]).any(axis=1).all()


def test_few_pods_are_drawn_more_often_when_asked() -> None:
    """Log-uniform pod counts put half of the states on the first seven."""

    def share(few_pods: float) -> float:
        states, _ = sample(np.random.default_rng(4), 20_000, Sampling(few_pods=few_pods))
        return float((denormalize(states)[:, POD_COUNT] < 7.5).mean())

    assert share(0.0) == pytest.approx(7 / 50, abs=0.01)
    assert share(1.0) == pytest.approx(np.log(8) / np.log(51), abs=0.01)


def test_target_q_values_count_the_replicas_missed() -> None:
    """The rule's own action is worth 0, and each replica off costs 1."""
    q_values = target_q_values(np.array([2, 0, 4]))

    assert q_values.tolist() == [
        [-2, -1, 0, -1, -2],
        [0, -1, -2, -3, -4],
        [-4, -3, -2, -1, 0],
    ]


def test_agreement_counts_by_hand() -> None:
    """Agreement, opposite direction and distance follow their definitions."""
    chosen = np.eye(5, dtype=np.float32)[[2, 4, 0, 3]]
    result = agreement(chosen, np.array([2, 3, 3, 1]))

    assert result.states == 4
    assert result.agreement == 0.25
    assert result.opposite == 0.5
    assert result.off_by_more_than_one == 0.5


def test_one_seed_gives_equal_weights_and_another_gives_others() -> None:
    """The fit is decided by its configuration alone."""
    ticks: list[int] = []

    def digest(seed: int) -> str:
        config = ImitationConfig(seed=seed, steps=100, batch_size=64)
        return weights_digest(fit(config, lambda step, loss: ticks.append(step)))

    assert digest(1) == digest(1)
    assert digest(1) != digest(2)
    assert ticks[:10] == list(range(10, 110, 10))


def test_a_short_fit_learns_most_of_the_rule() -> None:
    """In 300 small updates the network leaves chance far behind."""
    network = fit(TINY, lambda step, loss: None)

    results = evaluate(network, TINY)

    assert set(results) == set(EVALUATIONS)
    assert results["uniform"].agreement > 0.8
    assert results["uniform"].opposite < 0.01


def test_the_packaged_model_agrees_with_the_rule_as_its_metadata_says() -> None:
    """On fresh states both files agree as published, to 0.3 %, and beyond the promised 97 %."""
    version = packaged_store().verify("nimbusguard-dqn", "1")
    published = version.metadata.evaluation["agreement_with_hpa"]

    for name, (sampling, _) in EVALUATIONS.items():
        states, actions = sample(np.random.default_rng(987_654), 50_000, sampling)
        scripted = agreement(run_torchscript(version.files["model.pt"], states), actions)
        onnx = agreement(run_onnx(version.files["model.onnx"], states), actions)
        assert scripted.agreement == pytest.approx(published[name]["agreement"], abs=0.003)
        assert onnx.agreement == pytest.approx(scripted.agreement, abs=1e-3)
    assert published["uniform"]["agreement"] >= 0.97


def test_the_packaged_model_says_that_it_is_an_imitation() -> None:
    """Nobody can take the default for a network that learned from traffic."""
    metadata = packaged_store().show("nimbusguard-dqn", "1")

    assert metadata.training["learned_from_traffic"] is False
    assert "imitates the Kubernetes HPA rule" in metadata.evaluation["statement"]
    assert metadata.evaluation["gate"]["passed"] is None
    assert metadata.evaluation["gate"]["forced"] is True
    assert metadata.network.layers == (11, 128, 128, 5)
    assert metadata.training["git_commit"]


def test_the_command_publishes_and_promotes(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What it leaves verifies, and the last line says where it is."""
    status = main(["--out", str(tmp_path), "--steps", "100", "--promote", "production"])

    assert status == 0
    store = open_store(tmp_path)
    version = store.verify("nimbusguard-dqn", "production")
    assert capsys.readouterr().out == f"{store.version_uri('nimbusguard-dqn', '1')}\n"
    assert version.metadata.training["config"]["steps"] == 100
    assert version.metadata.evaluation["parity"]["passed"] is True


def test_the_documented_module_is_a_command() -> None:
    """`python -m training.imitate` explains itself."""
    done = subprocess.run(
        [sys.executable, "-m", "training.imitate", "--help"],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )

    assert "imitates the Kubernetes HPA rule" in done.stdout


def test_the_command_says_why_it_fails(capsys: pytest.CaptureFixture[str]) -> None:
    """An address that is no store ends with status 1 and a sentence."""
    assert main(["--out", "ftp://somewhere/else"]) == 1
    assert "expected a path, file:///… or s3://bucket/…" in capsys.readouterr().err
    assert main(["--out", "unused", "--steps", "3"]) == 1
    assert "expected a seed of at least 0 and at least 100 steps" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_the_documented_command_reaches_its_target() -> None:
    """The full fit agrees with the rule on 99 % of unseen states, as the packaged one does."""
    config = ImitationConfig()

    results = evaluate(fit(config, lambda step, loss: None), config)

    assert results["uniform"].agreement >= 0.99
    assert results["near_boundary"].agreement >= 0.97


def test_a_folder_outside_any_repository_has_no_commit(tmp_path: Path) -> None:
    """Provenance that is unknown is None, never a guess."""
    assert git_commit(tmp_path) is None


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    """An image that trains may hold no git."""
    monkeypatch.setattr("shutil.which", lambda _: None)

    assert git_commit(Path(__file__).parent) is None


def test_versions_of_libraries_are_those_installed() -> None:
    """A library that is not there is None."""
    assert library_versions("torch", "no-such-library") == {
        "torch": torch.__version__,
        "no-such-library": None,
    }
