"""States in, attributions out: the predictor's `:explain`, beside the path of predictions.

An explanation costs a thousand predictions, so it has a thread of its own with a short queue, and
the loop that answers predictions never waits for it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, ClassVar, Final, NamedTuple

import numpy as np
import orjson
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.baseline import BASELINE_STATE
from nimbusguard.contract.errors import InvalidRequest, NonFiniteOutput, NotFound, Overloaded
from nimbusguard.contract.features import STATE_DIM
from nimbusguard.contract.messages import check_row_count, parse_states
from nimbusguard.contract.tensors import InferResponse, OutputTensor, TensorSpec
from nimbusguard.telemetry.spans import Kind, Span, Tracer
from predictor.explain import Attribution
from predictor.loader import LoadedModel
from predictor.states import (
    STATE,
    STATE_EXAMPLE,
    STATE_SCHEMA,
    STATE_V2_EXAMPLE,
    array_of,
    state_problem,
)
from serving.calls import Call, ModelService, deliver, refuse
from serving.metrics import ServingMetrics
from serving.tracing import begin_explanation

logger = logging.getLogger(__name__)

MAX_ROWS: Final = 16
"""Rows of one request: 0.2 s of work, a tenth of the transformer's default deadline."""
_MAX_WAITING: Final = 8
"""Requests that may wait or be under way; the last of them then has its answer within 2 s."""
_NUMBERS: Final = {"type": "array", "items": {"type": "number"}}
ExplainCall = Call[NDArray[np.float32], Attribution]


class _Explained(NamedTuple):
    """What the thread made, and when, on the clock of `time.perf_counter`."""

    attribution: Attribution
    began: float
    ended: float


class PredictorExplanation(ModelService[NDArray[np.float32], Attribution]):
    """Answers calls with attributions.

    Args:
        name: The model's name in every path.
        network: The version that is explained.
        metrics: Counts how long explanations wait and take, and failures.
        tracer: Records sampled requests.
    """

    component: ClassVar[str] = "predictor"
    platform: ClassVar[str] = "pytorch_torchscript"
    inputs: ClassVar[Sequence[TensorSpec]] = (STATE,)
    outputs: ClassVar[Sequence[TensorSpec]] = (
        TensorSpec("q_values", ("FP32",), (-1, ACTION_DIM)),
        TensorSpec("baseline_q_values", ("FP32",), (-1, ACTION_DIM)),
        TensorSpec("attributions", ("FP32",), (-1, ACTION_DIM, STATE_DIM)),
        TensorSpec("completeness_error", ("FP32",), (-1,)),
    )
    v1_instance: ClassVar[Mapping[str, Any]] = STATE_SCHEMA
    v1_prediction: ClassVar[Mapping[str, Any]] = {
        "type": "object",
        "required": ["q_values", "baseline_q_values", "attributions", "completeness_error"],
        "properties": {
            "q_values": {**_NUMBERS, "description": "In the order of the actions."},
            "baseline_q_values": {**_NUMBERS, "description": "Of the baseline."},
            "attributions": {
                "type": "array",
                "items": _NUMBERS,
                "description": "By action, then by feature; a row's sum is the difference of the "
                "action's two Q-values.",
            },
            "completeness_error": {"type": "number", "description": "By how much it is not."},
        },
    }
    v1_beside: ClassVar[Mapping[str, Any]] = {
        "baseline": {**_NUMBERS, "description": "The state that all are compared with."}
    }
    v1_example: ClassVar[Any] = list(STATE_EXAMPLE)
    v2_example: ClassVar[Sequence[Mapping[str, Any]]] = STATE_V2_EXAMPLE

    def __init__(
        self,
        name: str,
        network: LoadedModel,
        metrics: ServingMetrics,
        tracer: Tracer | None = None,
    ) -> None:
        self.name = name
        self._network = network
        self._metrics = metrics
        self._tracer = tracer
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="explain")
        self._under_way = 0

    @property
    def version(self) -> str:
        """The loaded version."""
        return self._network.metadata.version

    def check_ready(self) -> None:
        """Nothing to check, as for predictions."""

    def check_room(self) -> None:
        """Refuse when the queue is full.

        Raises:
            Overloaded: It is.
        """
        if self.is_full:
            message = f"overloaded: {_MAX_WAITING} explanations are under way; retry later"
            raise Overloaded(message)

    @property
    def is_full(self) -> bool:
        """Whether the queue is full."""
        return self._under_way >= _MAX_WAITING

    def parse_v1(self, body: object) -> tuple[NDArray[np.float32], int]:
        """States of a V1 body.

        Raises:
            InvalidRequest: It has another form, or a row is no state.
        """
        rows = parse_states(body, max_rows=MAX_ROWS)
        return _checked(array_of(rows))

    def parse_v2(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[NDArray[np.float32], int]:
        """States of a V2 request.

        Raises:
            InvalidRequest: There are none, too many, or a row is no state.
        """
        state = inputs[STATE.name]
        check_row_count(len(state), max_rows=MAX_ROWS, where=STATE.name)
        return _checked(state)

    def submit(self, call: ExplainCall) -> None:
        """Queue a call.

        Raises:
            NotFound: The version cannot be explained.
            Overloaded: The queue is full.
        """
        if self._network.explainer is None:
            message = (
                f"explanation: version {self.version} has none, because its network does not run "
                "in double precision; export it with `nimbusguard train`"
            )
            raise NotFound(message)
        self.check_room()
        self._under_way += 1
        span = begin_explanation(self._tracer, Kind.INTERNAL, call.trace)
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._executor, self._explain, call)
        future.add_done_callback(lambda done: self._answer(call, span, done))

    def v1_body(self, result: Attribution) -> bytes:
        """The V1 answer."""
        rows = [
            {
                "q_values": q_values,
                "baseline_q_values": baseline,
                "attributions": attributions,
                "completeness_error": error,
            }
            for q_values, baseline, attributions, error in zip(*result, strict=True)
        ]
        document = {"explanations": rows, "baseline": BASELINE_STATE}
        return orjson.dumps(document, option=orjson.OPT_SERIALIZE_NUMPY)

    def v2_response(self, result: Attribution) -> InferResponse:
        """The V2 answer."""
        outputs = [
            OutputTensor(spec.name, "FP32", values)
            for spec, values in zip(self.outputs, result, strict=True)
        ]
        metadata = self._network.metadata
        parameters = {"model_version": metadata.version, "fingerprint": metadata.fingerprint}
        return InferResponse(self.name, metadata.version, outputs, parameters)

    def _explain(self, call: ExplainCall) -> _Explained | None:
        """In the thread: the attributions, or None where nobody waits any more."""
        explainer = self._network.explainer
        if call.is_abandoned or explainer is None:
            return None
        began = time.perf_counter()
        return _Explained(explainer.explain(call.payload), began, time.perf_counter())

    def _answer(
        self, call: ExplainCall, span: Span | None, done: asyncio.Future[_Explained | None]
    ) -> None:
        """On the loop: count, and tell the call how it ended."""
        self._under_way -= 1
        try:
            explained = self._outcome(done)
        except (NonFiniteOutput, RuntimeError) as error:
            _end(span, str(error))
            refuse(call, error)
            return
        if explained is None:
            _end(span, "nobody waits any more")
            return
        waited_s = explained.began - call.arrived
        self._metrics.observe_stage("explain_queue", waited_s)
        self._metrics.observe_stage("explain", explained.ended - explained.began)
        if span is not None:
            span.set("nimbusguard.explain.waited_s", waited_s)
        _end(span)
        deliver(call, explained.attribution)

    def _outcome(self, done: asyncio.Future[_Explained | None]) -> _Explained | None:
        """What the thread made.

        Raises:
            NonFiniteOutput: Gradients are NaN or infinite.
            RuntimeError: It failed, and the log says why.
        """
        if done.cancelled() or (error := done.exception()) is not None:
            logger.error("explanation failed", exc_info=None if done.cancelled() else error)
            message = "explanation failed"
            raise RuntimeError(message)
        explained = done.result()
        if explained is not None and not all(
            np.isfinite(part).all() for part in explained.attribution
        ):
            self._metrics.count_non_finite()
            message = f"version {self.version}: its gradients are not finite"
            raise NonFiniteOutput(message)
        return explained


def _checked(state: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    problem = state_problem(state)
    if problem is not None:
        raise InvalidRequest(problem)
    return state, len(state)


def _end(span: Span | None, error: str | None = None) -> None:
    if span is not None:
        span.end(error)
