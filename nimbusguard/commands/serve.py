"""`nimbusguard serve`: transformer and predictor on one machine, as two real servers.

Both run as processes of their own, exactly as in their pods, and bind loopback unless told
otherwise.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import ctypes
import os
import signal
import socket
import sys
from collections.abc import Sequence
from typing import Final, NamedTuple

import httpx

from nimbusguard.contract.errors import InvalidRequest, Unavailable

_READY_TIMEOUT_S: Final = 60.0
_POLL_S: Final = 0.05
_STOP_TIMEOUT_S: Final = 40.0
"""Above the servers' own longest drain of 30 s."""
_PR_SET_PDEATHSIG: Final = 1

_EXAMPLE: Final = """\
curl -s {url}/v1/models/{name}:predict -d '{{"instances": [{{
  "cpu_utilization": 0.93, "memory_utilization": 0.55, "network_io_rate": 120000,
  "request_rate": 85, "pod_count": 4, "response_time_p95": 0.31, "error_rate": 0.002,
  "queue_depth": 12, "cpu_throttling": 0.2, "memory_pressure": 0.6, "node_utilization": 0.5}}]}}'"""


class Ports(NamedTuple):
    """Where the four fronts listen."""

    http: int
    grpc: int
    predictor_http: int
    predictor_grpc: int


_DEFAULTS: Final = Ports(8080, 8081, 8082, 8083)


def configure(parser: argparse.ArgumentParser) -> None:
    """Declare the flags."""
    for name, default in _DEFAULTS._asdict().items():
        parser.add_argument(
            f"--{name.replace('_', '-')}-port",
            type=int,
            metavar="N",
            help=f"default {default}, or a free port where that is taken; 0 takes a free one",
        )
    parser.add_argument("--host", default="127.0.0.1", help="address to bind; default loopback")
    parser.add_argument("--model-name", default="nimbusguard-dqn", help="name in every path")
    parser.add_argument(
        "--model-dir", help="version directory; default MODEL_DIR or the packaged model"
    )
    parser.add_argument(
        "--engine",
        choices=("process", "ray"),
        default="process",
        help="the predictor as one process, or as replicas on Ray Serve; default process",
    )
    parser.add_argument(
        "--predictor-protocol",
        choices=("v2", "grpc-v2"),
        default="v2",
        help="the hop from transformer to predictor; default v2 (REST with binary tensors)",
    )


def run(args: argparse.Namespace) -> int:
    """Serve until interrupted.

    Returns:
        0 after Ctrl-C or SIGTERM, 1 when a server ended by itself or did not become ready.
    """
    ports = choose_ports(args)
    return asyncio.run(_serve(args, ports))


def choose_ports(args: argparse.Namespace) -> Ports:
    """The ports to listen on.

    Raises:
        InvalidRequest: A port that was asked for is taken, or asked for twice.
    """
    asked: tuple[int | None, ...] = (
        args.http_port,
        args.grpc_port,
        args.predictor_http_port,
        args.predictor_grpc_port,
    )
    wanted = [port for port in asked if port]
    if len(set(wanted)) != len(wanted):
        message = f"ports: expected four different ones, got {sorted(wanted)}"
        raise InvalidRequest(message)
    taken = set(wanted)
    chosen = []
    for flag, port, default in zip(Ports._fields, asked, _DEFAULTS, strict=True):
        if port:
            if not _is_free(args.host, port):
                message = f"--{flag.replace('_', '-')}-port: expected a free port, {port} is taken"
                raise InvalidRequest(message)
            chosen.append(port)
            continue
        may_default = port is None and default not in taken
        is_default = may_default and _is_free(args.host, default)
        chosen.append(default if is_default else _free_port(args.host, taken))
        taken.add(chosen[-1])
    return Ports(*chosen)


async def _serve(args: argparse.Namespace, ports: Ports) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for sig in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(sig, stop.set)
    module = "predictor.ray_main" if args.engine == "ray" else "predictor"
    predictor = await _start(args, module, _predictor_flags(args, ports))
    transformer = await _start(args, "transformer", _transformer_flags(args, ports))
    ends = {
        asyncio.create_task(process.wait(), name=name)
        for name, process in (("predictor", predictor), ("transformer", transformer))
    }
    stopped = asyncio.create_task(stop.wait(), name="stop")
    try:
        ready = asyncio.create_task(_until_ready(args, ports), name="ready")
        done, _ = await asyncio.wait({*ends, stopped, ready}, return_when=asyncio.FIRST_COMPLETED)
        if ready in done:
            ready.result()
            _greet(args, ports)
            done, _ = await asyncio.wait({*ends, stopped}, return_when=asyncio.FIRST_COMPLETED)
        ready.cancel()
        for task in done & ends:
            sys.stderr.write(f"nimbusguard serve: the {task.get_name()} ended by itself\n")
        return 1 if done & ends else 0
    finally:
        # The transformer first: what it has accepted still needs the predictor.
        await _end(transformer)
        await _end(predictor)
        stopped.cancel()


def _predictor_flags(args: argparse.Namespace, ports: Ports) -> list[str]:
    flags = [f"--http_port={ports.predictor_http}", f"--grpc_port={ports.predictor_grpc}"]
    return flags + ([f"--model_dir={args.model_dir}"] if args.model_dir else [])


def _transformer_flags(args: argparse.Namespace, ports: Ports) -> list[str]:
    is_rest = args.predictor_protocol == "v2"
    hop_port = ports.predictor_http if is_rest else ports.predictor_grpc
    return [
        f"--http_port={ports.http}",
        f"--grpc_port={ports.grpc}",
        f"--predictor_host={_reachable(args.host)}:{hop_port}",
        f"--predictor_protocol={args.predictor_protocol}",
    ]


async def _start(
    args: argparse.Namespace, module: str, flags: Sequence[str]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-P",  # a folder called `predictor` where the user happens to stand is not ours
        "-m",
        module,
        f"--model_name={args.model_name}",
        *flags,
        env={
            **os.environ,  # noqa: TID251 - handed on, not read
            "NIMBUSGUARD_HOST": args.host,
            "NIMBUSGUARD_CONSOLE": "true",
        },
        stdin=asyncio.subprocess.DEVNULL,
        # Ctrl-C reaches a whole process group; the order of stopping is decided here instead.
        start_new_session=True,
        preexec_fn=_die_with_parent,
    )


def _die_with_parent() -> None:
    """On Linux: a server whose parent was killed gets SIGTERM instead of keeping its ports."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
    try:
        async with asyncio.timeout(_STOP_TIMEOUT_S):
            await process.wait()
    except TimeoutError:
        process.kill()
        await process.wait()


async def _until_ready(args: argparse.Namespace, ports: Ports) -> None:
    """Wait for the transformer, which is ready only together with its predictor."""
    url = f"http://{_reachable(args.host)}:{ports.http}/v1/models/{args.model_name}"
    try:
        async with asyncio.timeout(_READY_TIMEOUT_S), httpx.AsyncClient(timeout=2.0) as client:
            while True:
                with contextlib.suppress(httpx.HTTPError):
                    if (await client.get(url)).status_code == httpx.codes.OK:
                        return
                await asyncio.sleep(_POLL_S)
    except TimeoutError:
        message = f"{url}: expected 200 within {_READY_TIMEOUT_S:g} s; see the log lines above"
        raise Unavailable(message) from None


def _greet(args: argparse.Namespace, ports: Ports) -> None:
    url = f"http://{_reachable(args.host)}:{ports.http}"
    sys.stdout.write(
        f"transformer  {url}  (gRPC {ports.grpc})\n"
        f"predictor    http://{_reachable(args.host)}:{ports.predictor_http}"
        f"  (gRPC {ports.predictor_grpc})\n"
        f"console      {url}/console/\n\n"
        "Ready. Ask for a decision:\n\n"
        f"{_EXAMPLE.format(url=url, name=args.model_name)}\n\n"
        "Ctrl-C stops both.\n"
    )
    sys.stdout.flush()


def _reachable(host: str) -> str:
    """An address that reaches a server bound to `host` from here."""
    if host in ("0.0.0.0", "::"):  # noqa: S104 - compared, not bound
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _is_free(host: str, port: int) -> bool:
    with socket.socket(_family(host)) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _free_port(host: str, taken: set[int]) -> int:
    while True:
        with socket.socket(_family(host)) as probe:
            probe.bind((host, 0))
            port = int(probe.getsockname()[1])
        if port not in taken:
            return port


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
