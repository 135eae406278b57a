"""The systems that are compared: which processes each one has and how they are started."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from pathlib import Path
from typing import Final

from bench.payloads import MODEL, READY_PATH
from bench.processes import ROOT, ProcessSpec, free_ports

QUIET_LOGS: Final = ROOT / "bench" / "reference" / "quiet.json"
"""The reference at its best: without the four log lines that the SDK writes for each request."""

ROWS_SETTING: Final = "NIMBUSGUARD_MAX_WAITING_ROWS"
"""The environment setting of both servers that bounds the rows in their queues."""


class System(Enum):
    """One complete service, or one raw server; the value is its name in the tables."""

    REFERENCE_REST = "reference, REST hop"
    REFERENCE_GRPC = "reference, gRPC hop"
    OURS_REST = "ours, REST hop"
    OURS_GRPC = "ours, gRPC hop"
    CONST = "uvicorn, constant answer"
    FORWARD = "uvicorn, one forward a request"


REFERENCES: Final = (System.REFERENCE_REST, System.REFERENCE_GRPC)
OURS: Final = System.OURS_REST
"""As it comes: the hop of the default flags, and that of the manifests."""
_HOP: Final = {
    System.REFERENCE_REST: "v1",
    System.REFERENCE_GRPC: "grpc-v2",
    System.OURS_REST: "v2",
    System.OURS_GRPC: "grpc-v2",
}


class Side(Enum):
    """Which end of a pair is asked; the value is its name in the tables."""

    PAIR = "pair"
    PREDICTOR = "predictor alone"

    @property
    def tensor(self) -> str:
        """Name of the V2 input tensor on this side."""
        return "raw_metrics" if self is Side.PAIR else "state"


@dataclass(frozen=True, slots=True, kw_only=True)
class Launch:
    """The processes of one system, predictor first, with the ports they got."""

    system: System
    specs: tuple[ProcessSpec, ...]


def launch(system: System, model_file: Path, *, max_waiting_rows: int | None = None) -> Launch:
    """Describe the processes of a system on free ports.

    Args:
        system: Which one.
        model_file: The TorchScript network that every system serves; for ours, of a version.
        max_waiting_rows: Rows that may wait in each process of ours; None leaves the limit as
            shipped. The others have no such limit.
    """
    if system is System.CONST:
        return Launch(system=system, specs=(_raw("uvicorn_const", ()),))
    if system is System.FORWARD:
        file = ("--model_file", str(model_file))
        return Launch(system=system, specs=(_raw("uvicorn_forward", file),))
    ours = system not in REFERENCES
    prefix = "" if ours else "bench.reference."
    extra: tuple[str, ...] = ()
    if not ours:
        extra = ("--enable_latency_logging=false", f"--log_config_file={QUIET_LOGS}")
    http_ports = free_ports(4)
    grpc_port = http_ports[2]
    predictor = _service(f"{prefix}predictor", http_ports[0], grpc_port, extra)
    # Ours serves a whole version, with its metadata, of which the file is a part.
    model = ("--model_dir", model_file.parent) if ours else ("--model_file", model_file)
    predictor = _extended(predictor, [str(each) for each in model])
    hop = _HOP[system]
    hop_port = grpc_port if hop == "grpc-v2" else http_ports[0]
    transformer = _extended(
        _service(f"{prefix}transformer", http_ports[1], http_ports[3], extra),
        ("--predictor_host", f"127.0.0.1:{hop_port}", "--predictor_protocol", hop),
    )
    specs = (predictor, transformer)
    if ours and max_waiting_rows is not None:
        limit = ((ROWS_SETTING, str(max_waiting_rows)),)
        specs = (replace(predictor, environ=limit), replace(transformer, environ=limit))
    return Launch(system=system, specs=specs)


def _raw(module: str, extra: Sequence[str]) -> ProcessSpec:
    (port,) = free_ports(1)
    arguments = ("-m", f"bench.limits.{module}", "--http_port", str(port), *extra)
    return ProcessSpec(name=module, arguments=arguments, port=port, ready_path="/")


def _service(module: str, http_port: int, grpc_port: int, extra: Sequence[str]) -> ProcessSpec:
    ports = ("--http_port", str(http_port), "--grpc_port", str(grpc_port))
    arguments = ("-m", module, "--model_name", MODEL, *ports, *extra)
    return ProcessSpec(
        name=module.rpartition(".")[2], arguments=arguments, port=http_port, ready_path=READY_PATH
    )


def _extended(spec: ProcessSpec, extra: Sequence[str]) -> ProcessSpec:
    return replace(spec, arguments=(*spec.arguments, *extra))
