"""Raw metrics in, decisions out: prepares a batch, asks the predictor once, chooses.

The batch is formed before the hop, from what already waits. Rows that cannot be decided on leave it
before it travels, so that a bad row never spoils its neighbours.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from datetime import datetime
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from nimbusguard.console.api import ConsoleApi
from nimbusguard.contract.errors import (
    DeadlineExceeded,
    InvalidRequest,
    NimbusGuardError,
    NonFiniteOutput,
    Overloaded,
)
from nimbusguard.contract.messages import MetricRows, parse_metrics
from nimbusguard.contract.normalization import Imputed, absent_as_zero_mask
from nimbusguard.contract.tensors import InferResponse, TensorSpec
from nimbusguard.telemetry.spans import Kind, Tracer
from serving.batching import MicroBatcher
from serving.calls import Call, ModelService, deliver, refuse
from serving.deadlines import Deadlines
from serving.metrics import Decided, ServingMetrics, ServingState
from serving.settings import ServerSettings
from serving.tracing import begin_batch
from transformer import schema
from transformer.console import TransformerSource
from transformer.explanation import TransformerExplanation
from transformer.hop import HopAnswer, PredictorClient, handed_on, untraced
from transformer.lookup import WorkloadLookup
from transformer.options import rows_of_tensors
from transformer.postprocess import Answering, Decisions, decide
from transformer.preprocess import compact, prepare, refusals, resolve, stack
from transformer.readiness import PredictorProbe

logger = logging.getLogger(__name__)

TransformerCall = Call[MetricRows, Decisions]
_HOPS: Final = 2
"""Batches under way at once: one is at the predictor while the next is prepared."""


class TransformerService(ModelService[MetricRows, Decisions]):
    """Answers calls with decisions.

    Args:
        name: The model's name in every path.
        client: The hop.
        probe: Readiness of the predictor.
        lookup: Metrics of named workloads.
        settings: Limits and the deadline.
        absent_as_zero: Features whose absence the operator declared to mean 0.
        metrics: Counts what happens.
        now: The time on the wall, for the console; None to have none.
        tracer: Records batches with sampled requests in them.
    """

    component: ClassVar[str] = "transformer"
    platform: ClassVar[str] = "nimbusguard_transformer"
    inputs: ClassVar[Sequence[TensorSpec]] = schema.INPUTS
    outputs: ClassVar[Sequence[TensorSpec]] = schema.OUTPUTS
    v1_instance: ClassVar[Mapping[str, Any]] = schema.INSTANCE
    v1_prediction: ClassVar[Mapping[str, Any]] = schema.DECISION
    v1_other_bodies: ClassVar[Sequence[Mapping[str, Any]]] = (schema.CLUSTER_STATE,)
    v1_example: ClassVar[Any] = schema.EXAMPLE
    v2_example: ClassVar[Sequence[Mapping[str, Any]]] = schema.EXAMPLE_TENSORS

    def __init__(
        self,
        name: str,
        client: PredictorClient,
        probe: PredictorProbe,
        lookup: WorkloadLookup,
        settings: ServerSettings,
        *,
        absent_as_zero: tuple[str, ...],
        metrics: ServingMetrics,
        now: Callable[[], datetime] | None = None,
        tracer: Tracer | None = None,
    ) -> None:
        self.name = name
        self._tracer = tracer
        self._client = client
        self._probe = probe
        self._lookup = lookup
        self._max_rows = settings.max_rows
        self._deadline_s = settings.deadline_s
        self._absent_as_zero = absent_as_zero_mask(absent_as_zero)
        self._metrics = metrics
        self._tasks: set[asyncio.Task[None]] = set()
        self._max_tasks = settings.max_waiting
        self._batcher: MicroBatcher[TransformerCall] = MicroBatcher(
            self._start,
            concurrency=_HOPS,
            max_waiting=settings.max_waiting,
            max_waiting_rows=settings.max_waiting_rows,
            max_batch_rows=settings.max_batch_rows,
        )
        self._under_way: list[list[TransformerCall]] = []
        self._deadlines: Deadlines[TransformerCall] = Deadlines(
            settings.deadline_s, still_open=self._still_open, expire=self._expire
        )
        self._explanation = TransformerExplanation(
            self,
            client,
            lookup,
            deadline_s=settings.deadline_s,
            absent_as_zero=self._absent_as_zero,
            metrics=metrics,
            tracer=tracer,
        )
        self._seen = TransformerSource(self._explanation, now) if now is not None else None
        self._console = ConsoleApi(self._seen) if self._seen is not None else None
        metrics.snapshot = self._state

    @property
    def console(self) -> ConsoleApi | None:
        """The last decisions, where they are kept."""
        return self._console

    @property
    def explanation(self) -> TransformerExplanation:
        """What answers `:explain`."""
        return self._explanation

    @property
    def version(self) -> str | None:
        """The version that the predictor answered with last."""
        return self._probe.last.model_version if self._probe.last else None

    def check_ready(self) -> None:
        """Raise what keeps the predictor from answering.

        Raises:
            Unavailable: It does not.
        """
        self._probe.check()

    def check_room(self) -> None:
        """Refuse when the queue is full.

        Raises:
            Overloaded: It is.
        """
        self._batcher.check_room()

    def parse_v1(self, body: object) -> tuple[MetricRows, int]:
        """Rows of a V1 body.

        Raises:
            InvalidRequest: It has another form.
        """
        rows = parse_metrics(body, max_rows=self._max_rows)
        return compact(rows), len(rows)

    def parse_v2(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[MetricRows, int]:
        """Rows of a V2 request.

        Raises:
            InvalidRequest: There are none, too many, or bounds that cannot be.
        """
        rows = rows_of_tensors(inputs, max_rows=self._max_rows)
        return rows, len(rows)

    def submit(self, call: TransformerCall) -> None:
        """Queue a call, once the metrics of workloads that it names are known.

        Raises:
            Overloaded: The queue is full.
        """
        if call.payload.lookups:
            if len(self._tasks) >= self._max_tasks:
                message = f"overloaded: {len(self._tasks)} lookups are under way; retry later"
                raise Overloaded(message)
            self._spawn(self._look_up(call))
        else:
            self._batcher.submit(call)
            self._deadlines.watch(call)

    @property
    def is_full(self) -> bool:
        """Whether the queue is full."""
        return self._batcher.is_full

    def v1_body(self, result: Decisions) -> bytes:
        """The V1 answer."""
        return result.v1_body()

    def v2_response(self, result: Decisions) -> InferResponse:
        """The V2 answer."""
        return result.batch.answering.response(result.tensors())

    def _state(self) -> ServingState:
        last = self._probe.last
        try:
            self._probe.check()
        except NimbusGuardError:
            ready = False
        else:
            ready = True
        version, fingerprint = (last.model_version, last.fingerprint) if last else ("", "")
        return ServingState(ready, self._batcher.waiting, version, fingerprint)

    def _still_open(self) -> list[TransformerCall]:
        """Every call that waits or travels and has no answer yet."""
        travelling = [call for batch in self._under_way for call in batch if not call.is_over]
        return travelling + self._batcher.open_items()

    def _expire(self, calls: list[TransformerCall]) -> None:
        """End calls at their own deadline, whatever their neighbours in a batch have left."""
        travelling = {id(call) for batch in self._under_way for call in batch}
        for call in calls:
            refuse(call, self._late(has_travelled=id(call) in travelling))
        self._batcher.drop(lambda call: call.is_over)

    def _late(self, *, has_travelled: bool) -> DeadlineExceeded:
        """Why there is no answer in time: the predictor, or those who were asked about before."""
        message = f"no answer within the deadline of {self._deadline_s:g} s"
        if has_travelled:
            return DeadlineExceeded(f"predictor at {self._client.address}: {message}")
        return DeadlineExceeded(f"{message}: the requests before it took all of it")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run in the background; the set keeps the task alive until it ends."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _look_up(self, call: TransformerCall) -> None:
        try:
            deadline_at = call.arrived + self._deadline_s
            call.payload = await self._lookup.resolve(call.payload, deadline_at)
            self._batcher.submit(call)
            self._deadlines.watch(call)
        except NimbusGuardError as error:
            refuse(call, error)
        except Exception as error:
            logger.exception("unexpected error")
            refuse(call, error)

    # One batch

    def _start(self, batch: list[TransformerCall]) -> None:
        self._under_way.append(batch)
        self._spawn(self._run(batch))

    async def _run(self, batch: list[TransformerCall]) -> None:
        """Answer every call of a batch, whatever happens, then let the next one start."""
        try:
            await self._answer(self._still_due(batch))
        except Exception as error:
            logger.exception("unexpected error")
            for call in batch:
                refuse(call, error)
        finally:
            self._under_way.remove(batch)
            self._batcher.done()

    def _still_due(self, batch: list[TransformerCall]) -> list[TransformerCall]:
        """The calls that somebody waits for and that can still be answered in time."""
        latest = time.perf_counter() - self._deadline_s
        due = [call for call in batch if call.arrived > latest and not call.is_abandoned]
        if len(due) < len(batch):
            for call in batch:
                if call.arrived <= latest:
                    refuse(call, self._late(has_travelled=False))
        return due

    async def _answer(self, calls: list[TransformerCall]) -> None:
        began = time.perf_counter()
        calls, resolved = self._resolve(calls)
        if not calls:
            return
        prepared = prepare(resolved, [call.payload for call in calls])
        self._metrics.observe_stage("queue", began - calls[0].arrived)
        self._metrics.observe_batch(len(prepared.state))
        self._metrics.observe_values(resolved.values)
        self._metrics.observe_states(prepared.state, began)
        asked = time.perf_counter()
        self._metrics.observe_stage("preprocess", asked - began)
        try:
            answer = await self._ask(calls, prepared.state)
        except (NonFiniteOutput, InvalidRequest) as error:
            await self._answer_one_by_one(calls, error)
            return
        except NimbusGuardError as error:
            for call in calls:
                refuse(call, error)
            return
        answered = time.perf_counter()
        self._metrics.observe_stage("predict", answered - asked)
        answering = Answering(self.name, answer.model_version, answer.fingerprint)
        batch = decide(prepared, answer.q_values, answering)
        choice = batch.choice
        self._metrics.observe_decisions(
            Decided(answer.model_version, choice.action, prepared.clipped, prepared.imputed)
        )
        self._metrics.observe_margins(choice.margin, answered)
        start = 0
        for call in calls:
            stop = start + call.rows
            if self._seen is not None:
                self._seen.saw(batch, resolved.values, start, call.rows, call.payload.options)
            deliver(call, Decisions(batch, start, stop, call.payload.options))
            start = stop
        self._metrics.observe_stage("postprocess", time.perf_counter() - answered)

    async def _ask(self, calls: list[TransformerCall], state: NDArray[np.float32]) -> HopAnswer:
        """The predictor's answer; what is traced of it belongs to the batch's first request."""
        traces = [call.trace for call in calls]
        # Until the last of them is over; those before it end by themselves.
        deadline_at = max([call.arrived for call in calls]) + self._deadline_s
        if self._tracer is None:
            return await self._client.infer(state, traces, deadline_at)
        batch = begin_batch(self._tracer, calls, len(state))
        if batch is None:
            traces[0] = untraced(traces[0])
            return await self._client.infer(state, traces, deadline_at)
        with batch, self._tracer.start("predict", Kind.CLIENT, batch) as hop:
            traces[0] = handed_on(traces[0], hop)
            return await self._client.infer(state, traces, deadline_at)

    def _resolve(self, calls: list[TransformerCall]) -> tuple[list[TransformerCall], Imputed]:
        """The calls whose rows can all be decided on, and those rows; the others are failed."""
        requests = [call.payload for call in calls]
        raw = stack(requests)
        resolved = resolve(raw, self._absent_as_zero)
        reasons = refusals(raw, resolved, requests)
        if not reasons:
            return calls, resolved
        self._metrics.count_refused(resolved.refused)
        kept = np.repeat(
            [index not in reasons for index in range(len(calls))], [call.rows for call in calls]
        )
        for index, reason in reasons.items():
            refuse(calls[index], InvalidRequest(reason))
        left = [call for index, call in enumerate(calls) if index not in reasons]
        return left, Imputed(*(part[kept] for part in resolved))

    async def _answer_one_by_one(
        self, calls: list[TransformerCall], error: NimbusGuardError
    ) -> None:
        """Fail only the calls whose own rows the predictor cannot answer."""
        if len(calls) == 1:
            if isinstance(error, NonFiniteOutput):
                self._metrics.count_non_finite()
            refuse(calls[0], error)
            return
        for call in calls:
            if not call.is_over:
                await self._answer([call])
