"""The framework's part: it watches the policies and keeps the fleet as the cluster has it.

It runs in a thread with a loop of its own. At its end the framework cancels every task of its loop,
and an evaluation that is writing replicas must not be among them.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

import kopf

from autoscaler.kube import ClusterAccess
from autoscaler.policy_spec import GROUP, PLURAL, VERSION

Seen = Callable[[str, Mapping[str, Any]], None]
"""Hears the kind of event (`DELETED`, or anything else for "it is there") and the object."""
_RECONNECT_S: Final = 1.0
_WATCH_S: Final = 300.0
"""Seconds after which a watch is begun anew; one that hangs unnoticed lasts no longer."""


def registry_of(seen: Seen, access: ClusterAccess) -> kopf.OperatorRegistry:
    """The handlers.

    Args:
        seen: Called for every policy at the start, and for every change.
        access: The API server.
    """
    registry = kopf.OperatorRegistry()

    @kopf.on.startup(registry=registry)
    def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
        settings.posting.enabled = False  # events are written by `publish`
        settings.peering.standalone = True  # the Lease elects, not the framework
        settings.scanning.disabled = True  # the one kind that is watched is known
        settings.watching.server_timeout = _WATCH_S
        settings.watching.client_timeout = _WATCH_S + 10.0
        settings.watching.reconnect_backoff = _RECONNECT_S

    @kopf.on.login(registry=registry)
    def login(**_: Any) -> kopf.ConnectionInfo:
        token = access.token_file.read_text().strip() if access.token_file else None
        ca_path = str(access.ca_file) if access.ca_file else None
        return kopf.ConnectionInfo(server=access.server, token=token, ca_path=ca_path)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def changed(event: kopf.RawEvent, **_: Any) -> None:
        seen(event["type"] or "FOUND", event["object"])

    return registry


async def watch(
    registry: kopf.OperatorRegistry, namespaces: tuple[str, ...], *, stop: threading.Event
) -> None:
    """Watch until stopped.

    Args:
        registry: The handlers; they are called in the watching thread.
        namespaces: Where; everywhere if empty.
        stop: Ends it.
    """
    await asyncio.to_thread(
        kopf.run,
        registry=registry,
        standalone=True,
        clusterwide=not namespaces,
        namespaces=namespaces,
        stop_flag=stop,
    )
