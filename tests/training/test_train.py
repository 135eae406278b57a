"""Runs on disk: resumed runs, refused runs, curves."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest

from nimbusguard.contract.errors import ArtifactCorrupted, InvalidRequest
from nimbusguard.contract.features import STATE_DIM
from tests.training.small_tasks import Corridor
from training import checkpoint
from training.dqn import EpochRecord
from training.dueling_network import DuelingNetwork, freeze_conditions, q_values_of
from training.settings import TrainingSettings
from training.train import SeedRun, read_curve, train_seed

TINY = TrainingSettings(
    epochs=4,
    steps_per_epoch=20,
    lanes=8,
    hidden=(8,),
    batch_size=16,
    replay_steps=50,
    n_step=2,
    warm_start_epochs=0,
)


def seed_run(directory: Path, **changes: object) -> SeedRun:
    return dataclasses.replace(
        SeedRun(seed=3, directory=directory, settings=TINY, tensorboard=False),
        **changes,  # type: ignore[arg-type]
    )


def quiet(seed: int, record: EpochRecord) -> None:
    """Nobody watches."""


class StoppedError(Exception):
    """The process was ended."""


def stop_after_two(seed: int, record: EpochRecord) -> None:
    """End the process when the second checkpoint is on disk."""
    if record.epoch == 1:
        raise StoppedError


def test_a_resumed_run_is_bit_for_bit_the_run_that_never_stopped(tmp_path: Path) -> None:
    """Stopped after two epochs of four and resumed, curve and weights are those of the other."""
    whole = train_seed(seed_run(tmp_path / "a"), Corridor(8, STATE_DIM), None, quiet)
    with pytest.raises(StoppedError):
        train_seed(seed_run(tmp_path / "b"), Corridor(8, STATE_DIM), None, stop_after_two)

    resumed = train_seed(seed_run(tmp_path / "b", resume=True), Corridor(8, STATE_DIM), None, quiet)

    assert read_curve(tmp_path / "a") == read_curve(tmp_path / "b")
    for left, right in zip(whole.online.parameters(), resumed.online.parameters(), strict=True):
        assert (left == right).all()


def test_a_finished_run_is_not_written_over(tmp_path: Path) -> None:
    """Without `resume` a directory that holds a run is refused."""
    train_seed(seed_run(tmp_path), Corridor(8, STATE_DIM), None, quiet)

    with pytest.raises(InvalidRequest, match="resume it or name another"):
        train_seed(seed_run(tmp_path), Corridor(8, STATE_DIM), None, quiet)


def test_a_run_is_not_resumed_with_other_settings(tmp_path: Path) -> None:
    """The second half would not belong to the first."""
    train_seed(seed_run(tmp_path), Corridor(8, STATE_DIM), None, quiet)
    other = dataclasses.replace(TINY, discount=0.5)

    with pytest.raises(InvalidRequest, match="settings of this run"):
        train_seed(
            seed_run(tmp_path, resume=True, settings=other), Corridor(8, STATE_DIM), None, quiet
        )


def test_events_are_written_for_tensorboard(tmp_path: Path) -> None:
    """A run leaves an event file unless told not to."""
    train_seed(seed_run(tmp_path, tensorboard=True), Corridor(8, STATE_DIM), None, quiet)

    assert list((tmp_path / "tensorboard").glob("events.out.tfevents.*"))


def test_a_saved_network_comes_back_with_its_figures(tmp_path: Path) -> None:
    """Weights, shape and what was noted beside them."""
    network = DuelingNetwork(hidden=(8, 4), conditions=1)
    checkpoint.save_network(tmp_path / "network.npz", network, multiplier=30.0)

    read, described = checkpoint.read_network(tmp_path / "network.npz")

    inputs = np.random.default_rng(0).random((6, STATE_DIM + 1)).astype(np.float32)
    assert np.array_equal(q_values_of(read, inputs), q_values_of(network, inputs))
    assert described["multiplier"] == 30.0


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    """A file of noise is named, not read as weights."""
    (tmp_path / "network.npz").write_bytes(b"noise")

    with pytest.raises(ArtifactCorrupted, match=r"network\.npz"):
        checkpoint.read_network(tmp_path / "network.npz")


@pytest.mark.parametrize("dueling", [True, False])
def test_freezing_a_condition_leaves_the_function_and_removes_the_input(dueling: bool) -> None:
    """The network of the state alone gives the Q-values of the one told the same multiplier."""
    network = DuelingNetwork(conditions=1, dueling=dueling)
    state = np.random.default_rng(0).random((100, STATE_DIM)).astype(np.float32)
    told = np.concatenate((state, np.full((100, 1), 0.7, dtype=np.float32)), axis=1)

    frozen = freeze_conditions(network, [0.7])

    assert np.allclose(q_values_of(frozen, state), q_values_of(network, told), atol=1e-5)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("learning_rate", "0.01", 0.01),
        ("epochs", "7", 7),
        ("hidden", "64,32", (64, 32)),
        ("double", "false", False),
    ],
)
def test_a_setting_is_changed_by_its_text(name: str, text: str, value: object) -> None:
    """What a command line gives is parsed by the type of the default."""
    assert getattr(TINY.with_changes({name: text}), name) == value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": "1"}, "expected one of"),
        ({"epochs": "many"}, "epochs"),
        ({"epochs": "0"}, "at least 1"),
        ({"discount": "1.5"}, "discount"),
        ({"double": "perhaps"}, "double"),
    ],
)
def test_a_wrong_setting_is_named(changes: dict[str, str], message: str) -> None:
    """The message says which and why."""
    with pytest.raises(InvalidRequest, match=message):
        TINY.with_changes(changes)
