"""The last decisions of a transformer, as the console asks for them.

A batch leaves a glimpse: a few rows, copied. They become decisions when somebody looks, so that
answering costs what it did.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from nimbusguard.console.api import Unseen
from nimbusguard.console.decisions import Decision
from nimbusguard.console.journal import Journal
from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.messages import MetricRows, RowOptions
from serving.calls import FutureCall, Trace
from transformer.explanation import Explanations, TransformerExplanation
from transformer.postprocess import DecisionBatch

UNNAMED: Final = "unnamed"
"""What decisions about instances without a `workload` stand under."""
_ROWS: Final = 16
"""Rows of one request that are kept; nobody looks at thousands."""
_GLIMPSES: Final = 256
"""Requests that may come between two looks; earlier ones are forgotten."""


class _Glimpse(NamedTuple):
    """A few rows of one request."""

    number: int
    at_s: float
    raw: NDArray[np.float64]
    """(B, F), a copy, as the next ones: a batch may be thousands of rows."""
    q_values: NDArray[np.float32]
    allowed: NDArray[np.bool_]
    action: NDArray[np.int64]
    target: NDArray[np.int64]
    current: NDArray[np.int64]
    version: str
    options: Mapping[int, RowOptions]


class TransformerSource:
    """The console's source: what was asked last.

    Args:
        explanation: Answers `:explain`.
        now: The time on the wall.
    """

    kind = "transformer"

    def __init__(self, explanation: TransformerExplanation, now: Callable[[], datetime]) -> None:
        self._journal = Journal(kept=200, workloads=1000)
        self._explanation = explanation
        self._now = now
        self._glimpses: deque[_Glimpse] = deque(maxlen=_GLIMPSES)
        self._number = 0

    @property
    def journal(self) -> Journal:
        """The last decisions, those since the last look included."""
        while self._glimpses:
            self._journal.saw(_decisions_of(self._glimpses.popleft()))
        return self._journal

    def saw(
        self,
        batch: DecisionBatch,
        raw: NDArray[np.float64],
        start: int,
        rows: int,
        options: Mapping[int, RowOptions],
    ) -> None:
        """Keep a glimpse of one request's rows in a batch."""
        self._number += 1
        part = slice(start, start + min(rows, _ROWS))
        choice = batch.choice
        self._glimpses.append(
            _Glimpse(
                self._number,
                self.now_s(),
                raw=raw[part].copy(),
                q_values=batch.q_values[part].copy(),
                allowed=choice.allowed[part].copy(),
                action=choice.action[part].copy(),
                target=choice.target[part].copy(),
                current=batch.prepared.current[part].copy(),
                version=batch.answering.model_version,
                options=options,
            )
        )

    def now_s(self) -> float:
        """Unix time."""
        return self._now().timestamp()

    def state(self) -> dict[str, Any]:
        """Nothing is kept beyond memory, and nobody leads."""
        return {"leader": None, "recorded": False}

    def about(self, workload: str) -> dict[str, Any]:
        """A transformer knows no policies."""
        unknown = (
            "target", "mode", "problem", "min_replicas", "max_replicas", "interval_s",
            "objective_latency_s", "pause_command", "resume_command", "stop_all_command",
        )  # fmt: skip
        return {"workload": workload, "paused": False, **dict.fromkeys(unknown)}

    def problem(self, workload: str) -> None:
        """Nor what is wrong with them."""

    def unseen(self) -> Sequence[Unseen]:
        """A workload is known by its first decision."""
        return ()

    async def history(self, workload: str, since_s: float, until_s: float) -> Sequence[Decision]:
        """From memory."""
        return [one for one in self.journal.of(workload) if since_s <= one.at_s <= until_s]

    async def explain(self, instance: Mapping[str, Any]) -> dict[str, Any]:
        """Asks the predictor, as `:explain` does."""
        payload, rows = self._explanation.parse_v1({"instances": [instance]})
        trace = Trace(b"console")
        call: FutureCall[MetricRows, Explanations] = FutureCall(payload, rows, trace)
        self._explanation.submit(call)
        answer: dict[str, Any] = orjson.loads(self._explanation.v1_body(await call.future))
        return answer


def _decisions_of(glimpse: _Glimpse) -> list[Decision]:
    return [
        Decision(
            decision_id=f"{glimpse.number}-{row}",
            workload=_name_of(glimpse.options.get(row)),
            target="",
            at_s=glimpse.at_s,
            interval_s=None,
            mode="asked",
            arm="stable",
            source="kserve",
            model_version=glimpse.version,
            raw=tuple(glimpse.raw[row].tolist()),
            allowed=tuple(glimpse.allowed[row].tolist()),
            q_values=tuple(glimpse.q_values[row].tolist()),
            action=ScaleAction(int(glimpse.action[row])),
            current_replicas=int(glimpse.current[row]),
            target_replicas=int(glimpse.target[row]),
            applied=False,
            guard=(),
        )
        for row in range(len(glimpse.raw))
    ]


def _name_of(options: RowOptions | None) -> str:
    workload = options.workload if options is not None else None
    if workload is None:
        return UNNAMED
    if isinstance(workload, str):
        return workload[:253] or UNNAMED
    return "/".join(str(value) for value in workload.values())[:253] or UNNAMED
