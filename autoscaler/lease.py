"""Leader election by a Lease: of several operators one evaluates, the others wait.

As in Kubernetes' own components, nobody's clock is compared with somebody else's: a candidate takes
the lease over when the record has not changed for its whole duration on the candidate's own clock.
A leader that cannot renew steps down before that, so two never lead at once.

Source: client-go, `tools/leaderelection`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from autoscaler.kube import Conflict, KubeApi
from nimbusguard.contract.errors import InvalidRequest, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseSettings:
    """Which lease, and how long it holds."""

    namespace: str
    name: str
    identity: str
    """Who this is; the pod's name."""
    duration_s: float = 15.0
    """Seconds without a renewal after which another may lead; one interval of the control loop."""
    renew_deadline_s: float = 10.0
    """Seconds without a successful renewal after which a leader steps down by itself."""

    def __post_init__(self) -> None:
        if not 0.0 < self.renew_deadline_s < self.duration_s:
            message = (
                f"renew_deadline_s: expected more than 0 and less than duration_s "
                f"({self.duration_s:g}), got {self.renew_deadline_s:g}"
            )
            raise InvalidRequest(message)

    @property
    def collection(self) -> str:
        """Where leases are made."""
        return f"/apis/coordination.k8s.io/v1/namespaces/{self.namespace}/leases"

    @property
    def path(self) -> str:
        """The lease itself."""
        return f"{self.collection}/{self.name}"


class Election:
    """One candidate; `step` it every two seconds or so."""

    def __init__(
        self,
        settings: LeaseSettings,
        api: KubeApi,
        *,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        """Nobody leads until the first `step`.

        Args:
            settings: The lease.
            api: The API server.
            clock: Seconds from any origin, never going back; decides.
            now: The time on the wall; only written into the lease, for people.
        """
        self._settings = settings
        self._api = api
        self._clock = clock
        self._now = now
        self._version = ""
        self._changed_s = -settings.duration_s
        self._renewed_s: float | None = None

    @property
    def is_leader(self) -> bool:
        """Whether this candidate leads now; false as soon as its renewals are late."""
        return (
            self._renewed_s is not None
            and self._clock() - self._renewed_s < self._settings.renew_deadline_s
        )

    async def step(self) -> None:
        """Renew the lease, take it over, or wait.

        Raises:
            NimbusGuardError: The API server did not answer; nothing changed.
        """
        started_s = self._clock()
        try:
            lease = await self._api.get(self._settings.path)
        except NotFound:
            await self._create(started_s)
            return
        spec = lease.get("spec") or {}
        # The version changes with every renewal, also where the leader's wall clock stands still.
        version = lease["metadata"]["resourceVersion"]
        if version != self._version:
            self._version, self._changed_s = version, started_s
        holder = spec.get("holderIdentity")
        expired = started_s - self._changed_s >= self._settings.duration_s
        if holder not in (self._settings.identity, "", None) and not expired:
            self._renewed_s = None
            return
        await self._write(lease, spec, started_s)

    async def resign(self) -> None:
        """Give the lease back at the end, so that nobody has to wait for it."""
        if not self.is_leader:
            return
        self._renewed_s = None
        lease = await self._api.get(self._settings.path)
        if (lease.get("spec") or {}).get("holderIdentity") == self._settings.identity:
            version = lease["metadata"]["resourceVersion"]
            await self._api.patch(
                self._settings.path,
                {"metadata": {"resourceVersion": version}, "spec": {"holderIdentity": ""}},
            )

    async def _create(self, started_s: float) -> None:
        body = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self._settings.name, "namespace": self._settings.namespace},
            "spec": self._spec(transitions=0, acquired=None),
        }
        try:
            await self._api.create(self._settings.collection, body)
        except Conflict:  # another candidate was faster
            return
        self._renewed_s = started_s

    async def _write(
        self, lease: Mapping[str, Any], spec: Mapping[str, Any], started_s: float
    ) -> None:
        is_mine = spec.get("holderIdentity") == self._settings.identity
        transitions = int(spec.get("leaseTransitions") or 0) + (0 if is_mine else 1)
        body = {
            "metadata": {"resourceVersion": lease["metadata"]["resourceVersion"]},
            "spec": self._spec(
                transitions=transitions, acquired=spec.get("acquireTime") if is_mine else None
            ),
        }
        try:
            await self._api.patch(self._settings.path, body)
        except Conflict:
            self._renewed_s = None
            return
        # Counted from before the call: the lease cannot have been renewed earlier than that.
        self._renewed_s = started_s

    def _spec(self, *, transitions: int, acquired: object) -> dict[str, Any]:
        moment = self._now().astimezone(UTC).isoformat("T", "microseconds").replace("+00:00", "Z")
        return {
            "holderIdentity": self._settings.identity,
            "leaseDurationSeconds": round(self._settings.duration_s),
            "acquireTime": acquired or moment,
            "renewTime": moment,
            "leaseTransitions": transitions,
        }
