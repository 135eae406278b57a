"""A real Ray cluster of two nodes on this machine, for as long as standard input stays open.

Run as `python -m bench.ray_cluster`. Prints one JSON line with the cluster's address and each
node's metrics port.
"""

from __future__ import annotations

import json
import os
import sys

from predictor.ray_environ import prepare_environ

prepare_environ(os.environ)

import ray
from ray.cluster_utils import Cluster


def main() -> None:
    """Start, tell, wait, stop."""
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    ray.init(address=cluster.address, log_to_driver=False)
    ports = [node["MetricsExportPort"] for node in ray.nodes()]
    sys.stdout.write(json.dumps({"address": cluster.address, "metrics_ports": ports}) + "\n")
    sys.stdout.flush()
    sys.stdin.read()
    ray.shutdown()
    cluster.shutdown()


if __name__ == "__main__":
    main()
