"""States in, Q-values out: checks rows, batches them, runs the network.

A batch is one forward pass over all rows that wait. A row that is no state never joins it, so that
it cannot spoil its neighbours.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np
import orjson
from numpy.typing import NDArray

from nimbusguard.contract.actions import ACTION_DIM
from nimbusguard.contract.errors import InvalidRequest, NonFiniteOutput
from nimbusguard.contract.messages import check_row_count, parse_states
from nimbusguard.contract.tensors import InferResponse, OutputTensor, TensorSpec
from nimbusguard.telemetry.spans import Kind, Tracer
from predictor.explanation import PredictorExplanation
from predictor.loader import LoadedModel
from predictor.states import (
    STATE,
    STATE_EXAMPLE,
    STATE_SCHEMA,
    STATE_V2_EXAMPLE,
    States,
    array_of,
    is_state,
    state_problem,
)
from serving.batching import MicroBatcher
from serving.calls import Call, ModelService, deliver
from serving.metrics import ServingMetrics, ServingState
from serving.settings import ServerSettings
from serving.tracing import begin_batch

logger = logging.getLogger(__name__)

QValues = NDArray[np.float32]
PredictorCall = Call[States, QValues]

_FEW_ROWS: Final = 16
"""Up to here rows wait as they came, and become one array together with those of other requests."""
Q_VALUES: Final = TensorSpec("q_values", ("FP32",), (-1, ACTION_DIM))


class PredictorService(ModelService[States, QValues]):
    """Answers calls with the network's Q-values.

    Args:
        name: The model's name in every path.
        network: The version that answers.
        settings: Limits.
        metrics: Counts batches and failures.
        tracer: Records batches with sampled requests in them.
    """

    component: ClassVar[str] = "predictor"
    platform: ClassVar[str] = "pytorch_torchscript"
    inputs: ClassVar[Sequence[TensorSpec]] = (STATE,)
    outputs: ClassVar[Sequence[TensorSpec]] = (Q_VALUES,)
    v1_instance: ClassVar[Mapping[str, Any]] = STATE_SCHEMA
    v1_prediction: ClassVar[Mapping[str, Any]] = {
        "type": "array",
        "description": "Q-values in the order of the actions.",
        "items": {"type": "number"},
        "minItems": ACTION_DIM,
        "maxItems": ACTION_DIM,
    }
    v1_example: ClassVar[Any] = list(STATE_EXAMPLE)
    v2_example: ClassVar[Sequence[Mapping[str, Any]]] = STATE_V2_EXAMPLE

    def __init__(
        self,
        name: str,
        network: LoadedModel,
        settings: ServerSettings,
        metrics: ServingMetrics,
        tracer: Tracer | None = None,
    ) -> None:
        self.name = name
        self._tracer = tracer
        self._network = network
        self._max_rows = settings.max_rows
        self._metrics = metrics
        self._batcher: MicroBatcher[PredictorCall] = MicroBatcher(
            self._run,
            concurrency=1,
            max_waiting=settings.max_waiting,
            max_waiting_rows=settings.max_waiting_rows,
            max_batch_rows=settings.max_batch_rows,
        )
        self._explanation = PredictorExplanation(name, network, metrics, tracer)
        self._parameters = {
            "model_version": network.metadata.version,
            "fingerprint": network.metadata.fingerprint,
        }
        metrics.snapshot = lambda: ServingState(
            True, self._batcher.waiting, network.metadata.version, network.metadata.fingerprint
        )

    @property
    def version(self) -> str:
        """The loaded version."""
        return self._network.metadata.version

    @property
    def explanation(self) -> PredictorExplanation:
        """What answers `:explain`."""
        return self._explanation

    def check_ready(self) -> None:
        """Nothing to check: the server listens only once the network has answered a probe."""

    def check_room(self) -> None:
        """Refuse when the queue is full.

        Raises:
            Overloaded: It is.
        """
        self._batcher.check_room()

    def parse_v1(self, body: object) -> tuple[States, int]:
        """Rows of a V1 body.

        Raises:
            InvalidRequest: It has another form.
        """
        rows = parse_states(body, max_rows=self._max_rows)
        return array_of(rows) if len(rows) > _FEW_ROWS else rows, len(rows)

    def parse_v2(self, inputs: Mapping[str, NDArray[Any]]) -> tuple[States, int]:
        """Rows of a V2 request.

        Raises:
            InvalidRequest: There are none, or too many.
        """
        state = inputs[STATE.name]
        check_row_count(len(state), max_rows=self._max_rows, where=STATE.name)
        return state, len(state)

    def submit(self, call: PredictorCall) -> None:
        """Queue a call.

        Raises:
            Overloaded: The queue is full.
        """
        self._batcher.submit(call)

    @property
    def is_full(self) -> bool:
        """Whether the queue is full."""
        return self._batcher.is_full

    def v1_body(self, result: QValues) -> bytes:
        """The V1 answer."""
        return orjson.dumps({"predictions": result}, option=orjson.OPT_SERIALIZE_NUMPY)

    def v2_response(self, result: QValues) -> InferResponse:
        """The V2 answer."""
        output = OutputTensor(Q_VALUES.name, "FP32", result)
        return InferResponse(self.name, self._network.metadata.version, (output,), self._parameters)

    def _run(self, batch: list[PredictorCall]) -> None:
        try:
            self._answer([call for call in batch if not call.is_abandoned])
        finally:
            self._batcher.done()

    def _answer(self, calls: list[PredictorCall]) -> None:
        """One forward pass for all calls; each gets its own rows or its own error."""
        if not calls:
            return
        state = (
            np.concatenate([array_of(call.payload) for call in calls])
            if len(calls) > 1
            else array_of(calls[0].payload)
        )
        if not is_state(state):
            self._answer([call for call in calls if not _refuse(call)])
            return
        self._metrics.observe_batch(len(state))
        began = time.perf_counter()
        self._metrics.observe_stage("queue", began - calls[0].arrived)
        self._metrics.observe_states(state, began)
        try:
            q_values = self._infer(calls, state)
        except NonFiniteOutput as error:
            self._metrics.count_non_finite()
            if len(calls) == 1:
                calls[0].fail(error)
                return
            for call in calls:  # only those whose rows cause it shall fail
                self._answer([call])
            return
        except Exception as error:
            logger.exception("forward pass failed")
            for call in calls:
                call.fail(error)
            return
        self._metrics.observe_stage("forward", time.perf_counter() - began)
        start = 0
        for call in calls:
            deliver(call, q_values[start : start + call.rows])
            start += call.rows

    def _infer(self, calls: list[PredictorCall], state: NDArray[np.float32]) -> QValues:
        batch = begin_batch(self._tracer, calls, len(state))
        if batch is None or self._tracer is None:
            return self._network.infer(state)
        with batch, self._tracer.start("forward", Kind.INTERNAL, batch):
            return self._network.infer(state)


def _refuse(call: PredictorCall) -> bool:
    """Fail a call whose rows are no states, naming the first value that is none."""
    problem = state_problem(array_of(call.payload))
    if problem is None:
        return False
    call.fail(InvalidRequest(problem))
    return True
