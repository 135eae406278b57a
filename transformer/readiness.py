"""Is the predictor there? A real inference, again and again, beside the traffic."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Final

import numpy as np

from nimbusguard.contract.errors import NimbusGuardError, PredictorUnavailable, Unavailable
from nimbusguard.contract.features import STATE_DIM
from serving.calls import Trace
from transformer.hop import HopAnswer, PredictorClient

logger = logging.getLogger(__name__)

_INTERVAL_S: Final = 0.4
_TIMEOUT_S: Final = 1.0
_PROBE_STATE: Final = np.full((1, STATE_DIM), 0.5, dtype=np.float32)
_TRACE: Final = (Trace(b"readiness-probe"),)


class PredictorProbe:
    """Keeps an opinion on whether the predictor answers, at most half a second old.

    Args:
        client: A client of its own, so that a probe never waits behind traffic.
    """

    def __init__(self, client: PredictorClient) -> None:
        self._client = client
        self._task: asyncio.Task[None] | None = None
        self._fault: NimbusGuardError | None = PredictorUnavailable("predictor: not asked yet")
        self.last: HopAnswer | None = None
        """The last good answer; its version and fingerprint are those that serve."""

    def check(self) -> None:
        """Raise what kept the last probe from an answer.

        Raises:
            Unavailable: There was none.
        """
        if self._fault is not None:
            raise _as_unavailable(self._fault)

    async def start(self) -> None:
        """Probe once, then go on in the background."""
        await self._probe()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End probing."""
        if self._task is not None:
            self._task.cancel()
        await self._client.close()

    async def _run(self) -> None:
        while True:
            await asyncio.sleep(_INTERVAL_S)
            await self._probe()

    async def _probe(self) -> None:
        try:
            deadline_at = time.perf_counter() + _TIMEOUT_S
            self.last = await self._client.infer(_PROBE_STATE, _TRACE, deadline_at)
        except NimbusGuardError as error:
            self._fault = error
        except Exception as error:
            # A defect of ours must not end the probing: readiness would keep its last opinion.
            logger.exception("probing the predictor failed")
            self._fault = PredictorUnavailable(f"predictor: probing it failed: {error}")
        else:
            self._fault = None


def _as_unavailable(error: NimbusGuardError) -> Unavailable:
    """Whatever ails the predictor, its transformer is not ready."""
    return error if isinstance(error, Unavailable) else PredictorUnavailable(str(error))
