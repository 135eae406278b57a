"""`python -m autoscaler`: the operator, from its environment to its end."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack

from prometheus_client import disable_created_metrics

from autoscaler.kube import ClusterAccess
from autoscaler.logs import configure
from autoscaler.run import Operator
from autoscaler.settings import OperatorSettings, operator_settings
from nimbusguard.contract.errors import NimbusGuardError
from nimbusguard.settings import Settings, from_environ
from nimbusguard.telemetry.spans import Tracer
from nimbusguard.telemetry.tracing import tracing


async def main(
    shared: Settings, own: OperatorSettings, access: ClusterAccess, tracer: Tracer | None = None
) -> int:
    """Run until SIGTERM or SIGINT; the exit status."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    async with AsyncExitStack() as stack:
        operator = Operator(shared, own, access, stack, tracer)
        asked = await operator.run(stop, listening=_announce)
    return 0 if asked else 1


def _announce(port: int) -> None:
    print(f"listening on port {port}", flush=True)


if __name__ == "__main__":
    configure()
    # A series for each one, which nobody asks for.
    disable_created_metrics()  # type: ignore[no-untyped-call]
    try:
        own = operator_settings(os.environ)
        if own.kube_api:
            access = ClusterAccess(server=own.kube_api)
        else:
            access = ClusterAccess.in_cluster(os.environ)
        with tracing(os.environ, "operator") as tracer:
            status = asyncio.run(main(from_environ(os.environ), own, access, tracer))
    except NimbusGuardError as error:
        print(f"autoscaler: {error}", file=sys.stderr)
        status = 1
    sys.exit(status)
