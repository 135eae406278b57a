"""Status and events of policies, written when a reader would act on them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final

from autoscaler.fleet import Entry, Fleet
from autoscaler.kube import KubeApi
from autoscaler.policy_spec import GROUP, PLURAL, VERSION
from autoscaler.status import Event, event_body, events_of, with_times, worth_writing
from nimbusguard.contract.errors import NimbusGuardError, NotFound

_LOG: Final = logging.getLogger(__name__)


class Publisher:
    """Writes what `kubectl` shows."""

    def __init__(
        self,
        api: KubeApi,
        fleet: Fleet,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._api = api
        self._fleet = fleet
        self._clock = clock
        self._now = now

    async def publish(self, entry: Entry, status: Mapping[str, Any], *happened: Event) -> None:
        """Write a status if it is worth it, and the events of what changed; never raises.

        Args:
            entry: Whose status.
            status: The new one, without times.
            happened: Events beside those of conditions that turned.
        """
        now_s, now = self._clock(), self._now()
        full = with_times(status, entry.status, now)
        try:
            if worth_writing(full, entry.status, age_s=now_s - entry.status_s):
                await self._api.patch(f"{_path(entry)}/status", {"status": full})
                told = (*happened, *events_of(full, entry.status))
                entry.status, entry.status_s = full, now_s
                for event in told:
                    await self._tell(entry, event, now)
        except NotFound:
            # Deleted while nobody watched: the framework does not replay missed deletions.
            self._fleet.remove(entry.namespace, entry.name, entry.uid)
        except NimbusGuardError as exc:
            _LOG.warning("status not written", extra={"policy": entry.name, "error": str(exc)})

    async def _tell(self, entry: Entry, event: Event, now: datetime) -> None:
        """Write an event. An API server that is short of time refuses these first; one is lost."""
        body = event_body(event, namespace=entry.namespace, name=entry.name, uid=entry.uid, now=now)
        try:
            await self._api.create(f"/api/v1/namespaces/{entry.namespace}/events", body)
        except NimbusGuardError as exc:
            extra = {"policy": entry.name, "reason": event.reason, "error": str(exc)}
            _LOG.warning("event not written", extra=extra)


def _path(entry: Entry) -> str:
    return f"/apis/{GROUP}/{VERSION}/namespaces/{entry.namespace}/{PLURAL}/{entry.name}"
