"""A trained network to the two files of a model version: `model.pt` and `model.onnx`.

Both hold the folded network in float32 with a free batch size. Nothing of the machine that wrote
them is left inside: torch and the ONNX exporter record file paths for tracebacks, which are taken
out again. `check_artifacts` proves that both files give the same Q-values.
"""

from __future__ import annotations

import hashlib
import io
import logging
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Final, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from model_store.metadata import ONNX_FILE, TORCHSCRIPT_FILE
from model_store.probe import probe_states, require_q_values
from nimbusguard.contract.errors import ArtifactCorrupted
from nimbusguard.contract.features import STATE_DIM
from training.network import Exportable
from training.parity import TOLERANCE, ParityReport, compare

STATE_NAME: Final = "state"
Q_VALUES_NAME: Final = "q_values"
OPSET: Final = 18
"""The lowest opset that the exporter of torch 2.13 writes without a conversion, for the oldest
readers. The network needs Gemm and Relu only."""
_LOCAL: Final = (".debug_pkl", "/serialization_id")
"""Entries of an archive that are made of local paths; no reader needs them."""
_ZIP_EPOCH: Final = (1980, 1, 1, 0, 0, 0)


class SameForAnyBatch(nn.Module):
    """A network whose answer to a state does not depend on how many others stand beside it.

    For fewer than four rows the matrix product takes another kernel, and Q-values differ by up to
    1.3e-5 from those of a larger batch. A server forms batches from what happens to wait, so a
    caller would see it. Padding costs a lone row 4 µs of 15; all batch sizes from 1 to 4,096 were
    then equal to the bit.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        """Q-values (B, A) of states (B, F)."""
        rows = state.size(0)
        if rows >= 4:  # a literal: TorchScript knows no module constants
            return self.network(state)  # type: ignore[no-any-return]
        padded = nn.functional.pad(state, [0, 0, 0, 4 - rows])  # (4, F)
        return self.network(padded)[:rows]  # type: ignore[no-any-return]


def export(network: Exportable, directory: Path) -> ParityReport:
    """Write `model.pt` and `model.onnx` of a network into an existing directory.

    Returns:
        The comparison of both files with the eager network on the probe states.

    Raises:
        NonFiniteOutput: The network answers a probe state with NaN or infinity.
        ArtifactCorrupted: The files do not agree with the network.
    """
    files, report = export_files(network)
    for name, content in files.items():
        (directory / name).write_bytes(content)
    return report


def export_files(network: Exportable) -> tuple[dict[str, bytes], ParityReport]:
    """`model.pt` and `model.onnx` of a network and their comparison; raises what `export` does."""
    served = network.folded()
    files = {TORCHSCRIPT_FILE: torchscript_bytes(served), ONNX_FILE: onnx_bytes(served)}
    return files, check_files(files, network)


def check_artifacts(directory: Path) -> ParityReport:
    """`check_files` of the two files in a directory.

    Raises:
        ArtifactCorrupted: A file cannot be read, answers in the wrong shape, or both differ.
        NonFiniteOutput: A file answers a probe state with NaN or infinity.
    """
    files: dict[str, bytes] = {}
    for name in (TORCHSCRIPT_FILE, ONNX_FILE):
        try:
            files[name] = (directory / name).read_bytes()
        except OSError as error:
            message = f"{name}: expected a readable file in {directory}, got {error.strerror}"
            raise ArtifactCorrupted(message) from error
    return check_files(files)


def check_files(
    files: Mapping[str, bytes], eager: Callable[[torch.Tensor], torch.Tensor] | None = None
) -> ParityReport:
    """Run both files on the probe states and compare their answers.

    Args:
        files: Content of `model.pt` and `model.onnx` by name.
        eager: The network they were made from, if it is at hand.

    Raises:
        ArtifactCorrupted: A file cannot be run, answers in the wrong shape, or both differ.
        NonFiniteOutput: A file answers a probe state with NaN or infinity.
    """
    states = probe_states()
    report = compare(
        run_torchscript(files[TORCHSCRIPT_FILE], states),
        run_onnx(files[ONNX_FILE], states),
        None if eager is None else _run_eager(eager, states),
    )
    if not report.passed:
        message = (
            f"{TORCHSCRIPT_FILE} and {ONNX_FILE}: expected the same actions and Q-values within "
            f"{TOLERANCE:g} on {report.states} states, got {report.argmax_differs} other actions "
            f"and differences of {report.max_difference_onnx:.3g} (ONNX) and "
            f"{report.max_difference_eager} (eager); export both from one network"
        )
        raise ArtifactCorrupted(message)
    return report


def weights_digest(network: Exportable) -> str:
    """`sha256:<hex>` over the shapes and float32 bytes of the folded weights, layer by layer.

    Unlike the digest of a file it does not depend on the versions of torch and ONNX.
    """
    digest = hashlib.sha256()
    for parameter in network.folded().parameters():
        values = parameter.detach().numpy().astype("<f4")
        digest.update(repr(values.shape).encode())
        digest.update(values.tobytes())
    return "sha256:" + digest.hexdigest()


def torchscript_bytes(served: nn.Module) -> bytes:
    """The network as a TorchScript archive; equal weights give equal bytes in a fresh process.

    It is scripted and not frozen, so that its weights can still be read by name; the predictor
    freezes what it loads.
    """
    return scripted_bytes(SameForAnyBatch(served))


def scripted_bytes(module: nn.Module) -> bytes:
    """Any module as a TorchScript archive without traces of the machine that wrote it."""
    buffer = io.BytesIO()
    with torchscript_is_on_purpose():
        torch.jit.save(torch.jit.script(module.eval()), buffer)
    stripped = io.BytesIO()
    with zipfile.ZipFile(buffer) as source, zipfile.ZipFile(stripped, "w") as target:
        for entry in source.infolist():
            if not entry.filename.endswith(_LOCAL):
                target.writestr(zipfile.ZipInfo(entry.filename, _ZIP_EPOCH), source.read(entry))
    return stripped.getvalue()


def onnx_bytes(served: nn.Module) -> bytes:
    """The network as an ONNX model: `state` (batch, F) to `q_values` (batch, A)."""
    with _quiet_exporter():
        program = torch.onnx.export(
            served,
            (torch.zeros(2, STATE_DIM),),
            dynamo=True,
            verbose=False,
            opset_version=OPSET,
            input_names=[STATE_NAME],
            output_names=[Q_VALUES_NAME],
            dynamic_shapes=({0: torch.export.Dim("batch")},),
        )
    # None is for the old exporter, which writes a file instead.
    model = cast("torch.onnx.ONNXProgram", program).model_proto
    for node in model.graph.node:
        del node.metadata_props[:]
        node.doc_string = ""
    serialized: bytes = model.SerializeToString(deterministic=True)
    return serialized


def run_torchscript(content: bytes, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Q-values (B, A) of states (B, F) by a TorchScript file.

    Raises:
        ArtifactCorrupted: The file cannot be loaded or run, or its answer has the wrong shape.
        NonFiniteOutput: A Q-value is NaN or infinite.
    """
    try:
        with torchscript_is_on_purpose(), torch.inference_mode():
            module = torch.jit.load(io.BytesIO(content))  # type: ignore[no-untyped-call]
            q_values: NDArray[np.float32] = module.eval()(torch.from_numpy(states)).numpy()
    except RuntimeError as error:
        message = f"{TORCHSCRIPT_FILE}: expected a TorchScript network, got {_first_line(error)}"
        raise ArtifactCorrupted(message) from error
    require_q_values(q_values, len(states), TORCHSCRIPT_FILE)
    return q_values


def run_onnx(content: bytes, states: NDArray[np.float32]) -> NDArray[np.float32]:
    """Q-values (B, A) of states (B, F) by an ONNX file, on one thread.

    Raises:
        ArtifactCorrupted: The file cannot be loaded or run, or its answer has the wrong shape.
        NonFiniteOutput: A Q-value is NaN or infinite.
    """
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as failures

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    try:
        session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
        q_values: NDArray[np.float32] = session.run([Q_VALUES_NAME], {STATE_NAME: states})[0]
    except (
        ValueError,
        failures.Fail,
        failures.InvalidArgument,
        failures.InvalidGraph,
        failures.InvalidProtobuf,
        failures.NotImplemented,
        failures.RuntimeException,
    ) as error:
        message = f"{ONNX_FILE}: expected an ONNX network, got {_first_line(error)}"
        raise ArtifactCorrupted(message) from error
    require_q_values(q_values, len(states), ONNX_FILE)
    return q_values


@contextmanager
def torchscript_is_on_purpose() -> Iterator[None]:
    """Silence torch's advice against TorchScript, and nothing else.

    torch 2.13 deprecates `torch.jit` in favour of `torch.export`. A TorchScript archive is still
    the one form that loads without the Python code of the network, which is what is served here.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", r"`torch\.jit\.\w+` is deprecated", DeprecationWarning)
        yield


@contextmanager
def _quiet_exporter() -> Iterator[None]:
    """Silence what the exporter says of itself, not of the network.

    It logs that torchvision is not installed, and trips over a deprecation inside torch's own
    pytree module while it copies a tree.
    """
    registry = logging.getLogger("torch.onnx._internal.exporter._registration")
    level = registry.level
    registry.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
            yield
    finally:
        registry.setLevel(level)


def _run_eager(
    network: Callable[[torch.Tensor], torch.Tensor], states: NDArray[np.float32]
) -> NDArray[np.float32]:
    with torch.inference_mode():
        q_values: NDArray[np.float32] = network(torch.from_numpy(states)).numpy()
    require_q_values(q_values, len(states), "the eager network")
    return q_values


def _first_line(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0] if text else 'no reason given'}"
