"""`python -m predictor.ray_main`: the predictor on Ray Serve, behind the HAProxy that Ray ships.

Joins the cluster of `RAY_ADDRESS`, or starts one on this machine.
"""

from __future__ import annotations

import os
import signal
import sys
import threading

from predictor.ray_environ import prepare_environ

prepare_environ(os.environ)  # before anything that imports Ray

import ray
from ray import serve as ray_serve

from predictor.ray_app import APP_NAME, make_application
from predictor.settings import ray_settings
from serving.flags import make_parser, parse_flags, run_main
from serving.settings import ServerSettings

GRPC_SERVICER = (
    "kserve.protocol.grpc.grpc_predict_v2_pb2_grpc.add_GRPCInferenceServiceServicer_to_server"
)


def serve(settings: ServerSettings) -> None:
    """Deploy, then serve until told to stop."""
    parser = make_parser("predictor.ray_main")
    parser.add_argument("--model_dir", help="version directory, on every node")
    flags = parse_flags(parser, None)
    address = os.environ.get("RAY_ADDRESS")
    # A cluster of this machine alone listens where its predictor does.
    local = {} if address else {"_node_ip_address": settings.host}
    ray.init(address=address, log_to_driver=False, namespace="serve", **local)
    stop = threading.Event()
    for sig in (signal.SIGINT, signal.SIGTERM):  # after Ray has set its own
        signal.signal(sig, lambda *_: stop.set())
    try:
        ray_serve.start(
            proxy_location="HeadOnly",
            http_options={"host": settings.host, "port": flags.http_port},
            grpc_options={"port": flags.grpc_port, "grpc_servicer_functions": [GRPC_SERVICER]},
        )
        application = make_application(
            settings, ray_settings(os.environ), flags.model_name, flags.model_dir
        )
        ray_serve.run(application, name=APP_NAME, route_prefix="/")
        stop.wait()
    finally:
        ray_serve.shutdown()
        ray.shutdown()


if __name__ == "__main__":
    sys.exit(run_main("predictor", dict(os.environ), serve))
