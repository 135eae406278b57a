"""Raw metrics in, decisions with their reasons out: the transformer's `:explain`.

Requests are answered one by one beside the path of decisions: an explanation is for a person who
looks, not for the loop, and costs the predictor a thousand predictions.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from nimbusguard.contract.actions import ScaleAction
from nimbusguard.contract.baseline import BASELINE
from nimbusguard.contract.errors import InvalidRequest, NimbusGuardError, Overloaded
from nimbusguard.contract.messages import MetricRows, parse_metrics
from nimbusguard.contract.tensors import InferResponse, OutputTensor, TensorSpec
from nimbusguard.telemetry.spans import Kind, Tracer
from serving.calls import Call, ModelService, Trace, deliver, refuse
from serving.metrics import ServingMetrics
from serving.tracing import begin_explanation
from transformer import explain_schema, schema
from transformer.explain_tensors import HopExplanation
from transformer.explain_words import Explained, document_of
from transformer.hop import PredictorClient, handed_on, untraced
from transformer.lookup import WorkloadLookup
from transformer.options import rows_of_tensors
from transformer.postprocess import Answering, DecisionBatch, Decisions, decide
from transformer.preprocess import prepare, refusals, resolve, stack

logger = logging.getLogger(__name__)

MAX_ROWS: Final = 16
"""Rows of one request, as many as the predictor explains."""
_MAX_WAITING: Final = 8
"""Requests under way, as many as the predictor lets wait."""


class Explanations(NamedTuple):
    """One request's decisions with their reasons."""

    decisions: Decisions
    answer: HopExplanation
    values: NDArray[np.float64]
    """(B, F) raw features."""


ExplainCall = Call[MetricRows, Explanations]


class TransformerExplanation(ModelService[MetricRows, Explanations]):
    """Answers calls with decisions and their reasons.

    Args:
        decisions: The service of plain decisions, whose tensors and readiness are the same.
        client: The hop.
        lookup: Metrics of named workloads.
        deadline_s: From a request's arrival to its answer.
        absent_as_zero: Mask (F,) of features whose absence means 0.
        metrics: Counts refused features and the time at the predictor.
        tracer: Records sampled requests.
    """

    component: ClassVar[str] = "transformer"
    platform: ClassVar[str] = "nimbusguard_transformer"
    inputs: ClassVar[Sequence[TensorSpec]] = schema.INPUTS
    outputs: ClassVar[Sequence[TensorSpec]] = schema.EXPLAINED_OUTPUTS
    v1_instance: ClassVar[Mapping[str, Any]] = schema.INSTANCE
    v1_prediction: ClassVar[Mapping[str, Any]] = explain_schema.EXPLANATION
    v1_beside: ClassVar[Mapping[str, Any]] = explain_schema.BESIDE
    v1_other_bodies: ClassVar[Sequence[Mapping[str, Any]]] = (schema.CLUSTER_STATE,)
    v1_example: ClassVar[Any] = schema.EXAMPLE
    v2_example: ClassVar[Sequence[Mapping[str, Any]]] = schema.EXAMPLE_TENSORS

    def __init__(
        self,
        decisions: ModelService[Any, Any],
        client: PredictorClient,
        lookup: WorkloadLookup,
        *,
        deadline_s: float,
        absent_as_zero: NDArray[np.bool_],
        metrics: ServingMetrics,
        tracer: Tracer | None,
    ) -> None:
        self.name = decisions.name
        self._decisions = decisions
        self._client = client
        self._lookup = lookup
        self._deadline_s = deadline_s
        self._absent_as_zero = absent_as_zero
        self._metrics = metrics
        self._tracer = tracer
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def version(self) -> str | None:
        """The version that the predictor answered with last."""
        return self._decisions.version

    def check_ready(self) -> None:
        """As for decisions.

        Raises:
            Unavailable: The predictor does not answer.
        """
        self._decisions.check_ready()

    def check_room(self) -> None:
        """Refuse when enough explanations are under way.

        Raises:
            Overloaded: They are.
        """
        if self.is_full:
            message = f"overloaded: {_MAX_WAITING} explanations are under way; retry later"
            raise Overloaded(message)

    @property
    def is_full(self) -> bool:
        """Whether enough are under way."""
        return len(self._tasks) >= _MAX_WAITING

    def parse_v1(self, body: object) -> tuple[MetricRows, int]:
        """Rows of a V1 body.

        Raises:
            InvalidRequest: It has another form.
        """
        rows = parse_metrics(body, max_rows=MAX_ROWS)
        return rows, len(rows)

    def parse_v2(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[MetricRows, int]:
        """Rows of a V2 request.

        Raises:
            InvalidRequest: There are none, too many, or bounds that cannot be.
        """
        rows = rows_of_tensors(inputs, max_rows=MAX_ROWS)
        return rows, len(rows)

    def submit(self, call: ExplainCall) -> None:
        """Answer a call in a task of its own.

        Raises:
            Overloaded: Enough are under way.
        """
        self.check_room()
        task = asyncio.get_running_loop().create_task(self._run(call))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def v1_body(self, result: Explanations) -> bytes:
        """The V1 answer: the decisions as `:predict` gives them, and their explanations."""
        head = result.decisions.v1_body()[:-1]  # without the closing brace
        explanations = orjson.dumps([document_of(row) for row in _rows_of(result)])
        return b'%b,"explanations":%b,"baseline":%b}' % (head, explanations, orjson.dumps(BASELINE))

    def v2_response(self, result: Explanations) -> InferResponse:
        """The V2 answer."""
        batch = result.decisions.batch
        chosen = batch.choice.action  # (B,)
        own = result.answer.attributions[np.arange(len(chosen)), chosen]  # (B, F)
        outputs = (*result.decisions.tensors(), OutputTensor("attributions", "FP32", own))
        return batch.answering.response(outputs)

    async def _run(self, call: ExplainCall) -> None:
        try:
            result = await self._explain(call)
        except NimbusGuardError as error:
            refuse(call, error)
        except Exception as error:
            logger.exception("unexpected error")
            refuse(call, error)
        else:
            deliver(call, result)

    async def _explain(self, call: ExplainCall) -> Explanations:
        deadline_at = call.arrived + self._deadline_s
        request = call.payload
        if request.lookups:
            request = await self._lookup.resolve(request, deadline_at)
        raw = stack([request])
        resolved = resolve(raw, self._absent_as_zero)
        reasons = refusals(raw, resolved, [request])
        if reasons:
            self._metrics.count_refused(resolved.refused)
            raise InvalidRequest(reasons[0])
        prepared = prepare(resolved, [request])
        answer = await self._ask(prepared.state, call.trace, deadline_at)
        answering = Answering(self.name, answer.model_version, answer.fingerprint)
        batch: DecisionBatch = decide(prepared, answer.q_values, answering)
        decisions = Decisions(batch, 0, call.rows, request.options)
        return Explanations(decisions, answer, resolved.values)

    async def _ask(
        self, state: NDArray[np.float32], trace: Trace, deadline_at: float
    ) -> HopExplanation:
        """The predictor's explanation, as a stage and a span of its own."""
        asked = time.perf_counter()
        if self._tracer is None:
            answer = await self._client.explain(state, [trace], deadline_at)
        elif (hop := begin_explanation(self._tracer, Kind.CLIENT, trace)) is None:
            answer = await self._client.explain(state, [untraced(trace)], deadline_at)
        else:
            with hop:
                answer = await self._client.explain(state, [handed_on(trace, hop)], deadline_at)
        self._metrics.observe_stage("explain", time.perf_counter() - asked)
        return answer


def _rows_of(result: Explanations) -> list[Explained]:
    batch, answer = result.decisions.batch, result.answer
    return [
        Explained(
            action=ScaleAction(int(batch.choice.action[row])),
            current=int(batch.prepared.current[row]),
            target=int(batch.choice.target[row]),
            allowed=batch.choice.allowed[row],
            values=result.values[row],
            q_values=answer.q_values[row],
            baseline_q_values=answer.baseline_q_values[row],
            attributions=answer.attributions[row],
            completeness_error=float(answer.completeness_error[row]),
        )
        for row in range(len(result.values))
    ]
