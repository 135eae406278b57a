"""What the requests of an open loop say about the service: pure functions over a trace."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.client import UNSENT, Phase, Trace
from bench.records import Overload

_WINDOW_S: Final = 0.1
_CALM_WINDOWS: Final = 5


def join(traces: list[Trace]) -> Trace:
    """The requests of several generators as one trace, in the order of their due times."""
    due = np.concatenate([trace.due_s for trace in traces])
    order = np.argsort(due, kind="stable")
    return Trace(
        due_s=due[order],
        done_s=np.concatenate([trace.done_s for trace in traces])[order],
        status=np.concatenate([trace.status for trace in traces])[order],
        accepted=np.concatenate([trace.accepted for trace in traces])[order],
    )


def p99_ms(traces: list[Trace]) -> float:
    """Of all requests that were answered, from due time to answer."""
    latency = np.concatenate([trace.done_s - trace.due_s for trace in traces])
    return _percentile(latency[np.isfinite(latency)], 99) * 1e3


def judge(
    trace: Trace,
    phases: tuple[Phase, Phase, Phase],
    *,
    workload: str,
    capacity: float,
    costs_us: tuple[float, float],
    generator_cores: float,
) -> Overload:
    """Summarize the requests of three phases: normal, overload, normal.

    Args:
        trace: Every request of all generators.
        phases: The rates summed over the generators.
        workload: What was sent, in words.
        capacity: Answers per second of a closed loop.
        costs_us: CPU time of an answer and of a refusal.
        generator_cores: What the busier generator used.
    """
    begins = phases[0].seconds
    ends = begins + phases[1].seconds
    latency_ms = (trace.done_s - trace.due_s) * 1e3
    before = trace.due_s < begins
    during = (trace.due_s >= begins) & (trace.due_s < ends)
    accepted = during & (trace.status == 200)
    refused = during & (trace.status == 503)
    unsent = trace.status == UNSENT
    sent = int((during & ~unsent).sum())
    sixth = phases[1].seconds / 6
    normal_p99 = _percentile(latency_ms[before & (trace.status == 200)], 99)
    return Overload(
        workload=workload,
        answer_us=costs_us[0],
        refusal_us=costs_us[1],
        capacity=capacity,
        generator_cores=generator_cores,
        offered=phases[1].rate,
        seconds=phases[1].seconds,
        accepted=float(accepted.sum()) / phases[1].seconds,
        unsent=int(unsent.sum()),
        unsent_share=float((during & unsent).sum() / max(during.sum(), 1)),
        refused_share=float(refused.sum() / max(sent, 1)),
        failed=int((~np.isin(trace.status, (200, 503, UNSENT))).sum()),
        normal_p99_ms=normal_p99,
        p50_ms=_percentile(latency_ms[accepted], 50),
        p99_ms=_percentile(latency_ms[accepted], 99),
        first_p99_ms=_percentile(latency_ms[accepted & (trace.due_s < begins + sixth)], 99),
        last_p99_ms=_percentile(latency_ms[accepted & (trace.due_s >= ends - sixth)], 99),
        refused_p99_ms=_percentile(latency_ms[refused], 99),
        recovery_s=recovery_s(trace, ends, calm_ms=max(2 * normal_p99, 10.0)),
    )


def recovery_s(trace: Trace, ends: float, *, calm_ms: float) -> float:
    """Seconds from the end of the overload until the service is calm; all that was seen if never.

    A window is calm if every request due in it got 200 and 95 in 100 within `calm_ms`.
    """
    after = trace.due_s >= ends
    window = ((trace.due_s[after] - ends) / _WINDOW_S).astype(np.int64)
    slow = (trace.done_s[after] - trace.due_s[after]) * 1e3 > calm_ms
    bad = trace.status[after] != 200
    calm_in_a_row = 0
    windows = int(window.max(initial=-1)) + 1
    for number in range(windows):
        here = window == number
        calm = bool(here.any()) and not bad[here].any() and slow[here].mean() <= 0.05
        calm_in_a_row = calm_in_a_row + 1 if calm else 0
        if calm_in_a_row == _CALM_WINDOWS:
            return (number + 1 - _CALM_WINDOWS) * _WINDOW_S
    return windows * _WINDOW_S


def _percentile(values: NDArray[np.float64], percent: float) -> float:
    return float(np.percentile(values, percent)) if values.size else 0.0
