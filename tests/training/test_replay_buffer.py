"""The replay buffer against a naive loop."""

from __future__ import annotations

import numpy as np
import pytest

from training.replay_buffer import ReplayBuffer, Transitions

LANES, STATE_DIM, ACTION_DIM = 3, 2, 5


def fill(
    buffer: ReplayBuffer, count: int, *, terminated: float = 0.0, truncated: float = 0.0
) -> list[Transitions]:
    rng = np.random.default_rng(0)
    history = []
    for step in range(count):
        label = np.stack((np.full(LANES, step), np.arange(LANES)), axis=1).astype(np.float32)
        ends = rng.random(LANES) < terminated
        transitions = Transitions(
            state=label,
            mask=np.ones((LANES, ACTION_DIM), dtype=np.bool_),
            action=rng.integers(ACTION_DIM, size=LANES),
            cost=rng.random(LANES).astype(np.float32),
            violation=rng.random(LANES).astype(np.float32),
            next_state=label + np.float32(0.5),
            next_mask=rng.random((LANES, ACTION_DIM)) < 0.5,
            terminated=ends,
            truncated=~ends & (rng.random(LANES) < truncated),
        )
        buffer.add(transitions)
        history.append(transitions)
    return history


def new_buffer(steps: int) -> ReplayBuffer:
    return ReplayBuffer(steps, LANES, state_dim=STATE_DIM, action_dim=ACTION_DIM)


@pytest.mark.parametrize("count", [12, 50])
@pytest.mark.parametrize("n_step", [1, 4])
def test_n_step_sums_are_those_of_a_naive_loop(n_step: int, count: int) -> None:
    """Discounted sums, last state and discount, also after the ring was written over."""
    buffer = new_buffer(20)
    history = fill(buffer, count, terminated=0.15, truncated=0.15)

    batch = buffer.sample(300, np.random.default_rng(1), n_step=n_step, discount=0.9)

    for row in range(300):
        start, lane = (int(part) for part in batch.state[row])
        cost, violation, factor, step = 0.0, 0.0, 1.0, start
        for step in range(start, start + n_step):
            cost += factor * history[step].cost[lane]
            violation += factor * history[step].violation[lane]
            factor *= 0.9
            if history[step].terminated[lane] or history[step].truncated[lane]:
                break
        expected = 0.0 if history[step].terminated[lane] else factor
        assert batch.action[row] == history[start].action[lane]
        assert batch.cost[row] == pytest.approx(cost, rel=1e-5)
        assert batch.violation[row] == pytest.approx(violation, rel=1e-5)
        assert batch.next_state[row].tolist() == [step + 0.5, lane + 0.5]
        assert batch.discount[row] == pytest.approx(expected, rel=1e-5)


def test_truncation_bootstraps_and_termination_does_not() -> None:
    """A cut-off episode keeps the value of what would have followed; an ended one has none."""
    cut, ended = new_buffer(4), new_buffer(4)
    fill(cut, 4, truncated=1.0)
    fill(ended, 4, terminated=1.0)

    rng = np.random.default_rng(0)
    assert (cut.sample(8, rng, n_step=1, discount=0.9).discount == np.float32(0.9)).all()
    assert (ended.sample(8, rng, n_step=1, discount=0.9).discount == 0.0).all()


def test_samples_come_from_everything_held_and_nothing_older() -> None:
    """After 50 steps in a ring of 20 the starts lie in 30 to 49 - (n - 1)."""
    buffer = new_buffer(20)
    fill(buffer, 50)

    batch = buffer.sample(2000, np.random.default_rng(0), n_step=3, discount=0.9)

    assert set(batch.state[:, 0].astype(int)) == set(range(30, 48))


def test_a_restored_buffer_gives_equal_samples() -> None:
    """A checkpoint holds everything that a sample depends on."""
    buffer, restored = new_buffer(20), new_buffer(20)
    fill(buffer, 33)

    restored.restore(buffer.arrays())

    first = buffer.sample(64, np.random.default_rng(5), n_step=2, discount=0.9)
    second = restored.sample(64, np.random.default_rng(5), n_step=2, discount=0.9)
    for left, right in zip(first, second, strict=True):
        assert np.array_equal(left, right)
