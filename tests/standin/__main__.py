"""A cluster of stand-ins as a process of its own: API server, Prometheus and KServe.

`python -m tests.standin POLICIES` prints the three addresses in one line and serves until its input
ends. Whoever measures an operator beside it measures the operator alone.
"""

from __future__ import annotations

import asyncio
import itertools
import sys

import numpy as np

from tests.autoscaler.harness import BUSY
from tests.standin.kserve import StandInKserve, packaged_model
from tests.standin.kube_api import StandIn
from tests.standin.prometheus import StandInPrometheus


async def main(policies: int) -> None:
    cluster = StandIn()
    rng, reads = np.random.default_rng(1), itertools.count()
    load = rng.uniform(0.2, 0.95, policies)

    def metrics(namespace: str, name: str) -> dict[str, float]:
        # Load that wanders, so that every workload is scaled now and then.
        number = int(name.removeprefix("w"))
        load[number] = np.clip(load[number] + rng.normal(0.0, 0.05), 0.05, 1.0)
        pods = {"pod_count": float(cluster.replicas(name, namespace))}
        noise = {"network_io_rate": 1e5 + next(reads) % 1000}
        return BUSY | pods | noise | {"cpu_utilization": float(load[number])}

    for number in range(policies):
        cluster.deployment(f"w{number}", 1 + number % 20)
        cluster.policy(f"w{number}", mode="act")
    prometheus, kserve = StandInPrometheus(metrics), StandInKserve(packaged_model())
    for server in (cluster, prometheus, kserve):
        await server.start()
    print(cluster.url, prometheus.url, kserve.url, flush=True)
    await asyncio.to_thread(sys.stdin.read)
    for server in (kserve, prometheus, cluster):
        await server.stop()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
