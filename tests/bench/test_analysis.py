"""What an open loop says: told as made-up traces with known answers."""

import numpy as np
import pytest

from bench.analysis import join, judge, p99_ms, recovery_s
from bench.client import UNANSWERED, UNSENT, Phase, Trace, due_times
from bench.records import Overload

NORMAL = Phase(rate=100.0, seconds=2.0)
PHASES = (NORMAL, Phase(rate=400.0, seconds=6.0), NORMAL)


def trace_with(latency_ms: np.ndarray, status: np.ndarray) -> Trace:
    due = due_times(PHASES)
    return Trace(
        due_s=due,
        done_s=due + latency_ms / 1e3,
        status=status.astype(np.int16),
        accepted=status == 200,
    )


def flat() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Due times, latencies of 5 ms and status 200 for each request."""
    due = due_times(PHASES)
    return due, np.full(len(due), 5.0), np.full(len(due), 200)


def judged(latency_ms: np.ndarray, status: np.ndarray) -> Overload:
    return judge(
        trace_with(latency_ms, status),
        PHASES,
        workload="single rows",
        capacity=200.0,
        costs_us=(50.0, 20.0),
        generator_cores=0.5,
    )


def test_arrivals_follow_the_rate_of_their_phase() -> None:
    """Each phase has rate times seconds requests, evenly spaced."""
    due = due_times(PHASES)

    assert len(due) == 200 + 2400 + 200
    assert np.diff(due[:200]) == pytest.approx(0.01)
    assert np.diff(due[200:2600]) == pytest.approx(0.0025)
    assert due[2600] == pytest.approx(8.0)


def test_refused_requests_do_not_count_as_fast_answers() -> None:
    """Percentiles of accepted requests leave the answers 503 out."""
    due, latency, status = flat()
    during = (due >= 2.0) & (due < 8.0)
    refused = during & (np.arange(len(due)) % 2 == 0)
    latency[during] = 80.0
    latency[refused] = 1.0
    status[refused] = 503

    result = judged(latency, status)

    assert result.refused_share == pytest.approx(0.5)
    assert result.accepted == pytest.approx(200.0)
    assert result.goodput == pytest.approx(1.0)
    assert result.p99_ms == pytest.approx(80.0)
    assert result.refused_p99_ms == pytest.approx(1.0)
    assert result.normal_p99_ms == pytest.approx(5.0)
    assert result.failed == 0


def test_a_growing_queue_shows_as_drift() -> None:
    """The last sixth of the overload is compared with the first."""
    due, latency, status = flat()
    during = (due >= 2.0) & (due < 8.0)
    latency[during] = 10.0 + 100.0 * (due[during] - 2.0)

    result = judged(latency, status)

    assert result.drift > 5


def test_a_request_without_an_answer_has_failed() -> None:
    """Broken and unanswered requests are counted, in every phase."""
    _, latency, status = flat()
    status[[0, 500, -1]] = UNANSWERED
    latency[[0, 500, -1]] = np.inf

    result = judged(latency, status)

    assert result.failed == 3


def test_a_request_that_found_no_connection_is_neither_failed_nor_slow() -> None:
    """It is counted apart, and refusals are a share of what was sent."""
    due, latency, status = flat()
    during = np.flatnonzero((due >= 2.0) & (due < 8.0))
    status[during[:600]] = UNSENT
    latency[during[:600]] = np.inf
    status[during[600:1500]] = 503

    result = judged(latency, status)

    assert result.unsent == 600
    assert result.unsent_share == pytest.approx(0.25)
    assert result.refused_share == pytest.approx(0.5)
    assert result.failed == 0
    assert result.p99_ms == pytest.approx(5.0)


def test_the_load_that_refusals_alone_can_fill_follows_from_the_two_costs() -> None:
    """An answer of 50 µs and a refusal of 20 µs: at two and a half capacities nothing is left."""
    _, latency, status = flat()

    assert judged(latency, status).sustainable == pytest.approx(2.5)


def test_a_service_that_is_calm_at_once_recovers_in_no_time() -> None:
    """The first window after the overload is calm already."""
    _, latency, status = flat()

    assert recovery_s(trace_with(latency, status), 8.0, calm_ms=10.0) == 0.0


@pytest.mark.parametrize("how", ["slow", "refused"])
def test_recovery_is_the_time_until_windows_stay_calm(how: str) -> None:
    """Slow or refused requests until 0.7 s after the end make a recovery of 0.7 s."""
    due, latency, status = flat()
    late = (due >= 8.0) & (due < 8.699)
    if how == "slow":
        latency[late] = 50.0
    else:
        status[late] = 503

    assert recovery_s(trace_with(latency, status), 8.0, calm_ms=10.0) == pytest.approx(0.7)


def test_one_calm_window_is_no_recovery() -> None:
    """Five in a row are: a service that stutters has not recovered."""
    due, latency, status = flat()
    status[(due >= 8.0) & (np.floor((due - 8.0) / 0.1 + 1e-9) % 3 == 0)] = 503

    assert recovery_s(trace_with(latency, status), 8.0, calm_ms=10.0) == pytest.approx(2.0)


def test_traces_of_two_generators_become_one_in_order() -> None:
    """Each answer stays with its request."""
    first = Trace(
        due_s=np.array([0.0, 2.0]),
        done_s=np.array([0.1, 2.1]),
        status=np.array([200, 503]),
        accepted=np.array([True, False]),
    )
    second = Trace(
        due_s=np.array([1.0]),
        done_s=np.array([1.5]),
        status=np.array([200]),
        accepted=np.array([False]),
    )

    both = join([first, second])

    np.testing.assert_array_equal(both.due_s, [0.0, 1.0, 2.0])
    np.testing.assert_array_equal(both.done_s, [0.1, 1.5, 2.1])
    np.testing.assert_array_equal(both.status, [200, 200, 503])
    np.testing.assert_array_equal(both.accepted, [True, False, False])


def test_a_percentile_leaves_out_what_was_never_answered() -> None:
    """Those are counted as failed; an infinite latency would hide all others."""
    _, latency, status = flat()
    latency[0] = np.inf

    assert p99_ms([trace_with(latency, status)]) == pytest.approx(5.0)
