"""A network and the two files that are made of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from model_store.metadata import ONNX_FILE, TORCHSCRIPT_FILE
from model_store.probe import PROBE_STATES, probe_states
from nimbusguard.contract.errors import ArtifactCorrupted, InvalidRequest, NonFiniteOutput
from training.dueling_network import DuelingNetwork
from training.export import (
    OPSET,
    check_artifacts,
    export,
    onnx_bytes,
    run_onnx,
    run_torchscript,
    torchscript_bytes,
    weights_digest,
)
from training.network import Affine, NetworkConfig, QNetwork
from training.parity import compare
from training.served import Q_SCALE, ServedNetwork

SMALL = NetworkConfig(hidden=(16, 8))
SMALL_DUELING = NetworkConfig(hidden=(16, 8), dueling=True)


def network_of(config: NetworkConfig = SMALL, seed: int = 7) -> QNetwork:
    return QNetwork(config, torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("exported")
    export(network_of(SMALL_DUELING), directory)
    return directory


@pytest.mark.parametrize("hidden", [(), (0,), (4097,), (8,) * 9])
def test_a_shape_out_of_range_is_refused(hidden: tuple[int, ...]) -> None:
    """Hidden layers number 1 to 8 and are 1 to 4096 units wide."""
    with pytest.raises(InvalidRequest, match="hidden: expected"):
        NetworkConfig(hidden=hidden)


def test_one_seed_gives_one_network_whatever_the_global_generator_did() -> None:
    """Weights come from the generator that is passed in, and the global one is left alone."""
    torch.manual_seed(1)
    first = network_of()
    state_of_global = torch.get_rng_state()
    second = network_of()

    assert weights_digest(first) == weights_digest(second)
    assert weights_digest(first) != weights_digest(network_of(seed=8))
    assert torch.equal(torch.get_rng_state(), state_of_global)


def test_fresh_weights_are_spread_as_those_of_a_linear_layer() -> None:
    """Uniform within 1/sqrt(inputs) of zero, to the edge."""
    first_layer = network_of(NetworkConfig(hidden=(256, 256))).folded()[0]

    assert isinstance(first_layer, Affine)
    bound = 1 / np.sqrt(11)
    assert 0.98 * bound < float(first_layer.weight.detach().abs().max()) <= bound


@pytest.mark.parametrize("config", [SMALL, SMALL_DUELING, NetworkConfig(hidden=(8,), dueling=True)])
def test_the_folded_network_has_the_function_of_the_eager_one(config: NetworkConfig) -> None:
    """Value and advantage streams become one plain network with the same Q-values."""
    network = network_of(config)
    states = torch.from_numpy(probe_states(500))

    with torch.no_grad():
        eager, folded = network(states), network.folded()(states)

    assert torch.allclose(eager, folded, atol=1e-6)
    widths = [layer.weight.shape[1] for layer in network.folded() if isinstance(layer, Affine)]
    assert (*widths, 5) == config.layers


def test_the_mean_advantage_of_a_dueling_network_is_zero() -> None:
    """The mean of the Q-values is the value stream's own answer."""
    network = network_of(SMALL_DUELING)
    states = torch.from_numpy(probe_states(100))

    with torch.no_grad():
        hidden = torch.relu(network.hidden[1](torch.relu(network.hidden[0](states))))
        value = network.value(hidden[:, :8])

    assert torch.allclose(network(states).mean(dim=1, keepdim=True), value, atol=1e-6)


def test_folding_copies_the_weights() -> None:
    """A later training step does not reach into a network that was folded before."""
    network = network_of()
    folded = network.folded()
    before = [parameter.clone() for parameter in folded.parameters()]

    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(1.0)

    assert all(torch.equal(*pair) for pair in zip(before, folded.parameters(), strict=True))
    assert not any(parameter.requires_grad for parameter in folded.parameters())


@pytest.mark.parametrize("config", [NetworkConfig(), NetworkConfig(hidden=(64, 32), dueling=True)])
def test_both_files_and_the_eager_network_agree(config: NetworkConfig, tmp_path: Path) -> None:
    """TorchScript, ONNX and eager choose the same action on 10,000 states, within 1e-5."""
    report = export(network_of(config), tmp_path)

    assert report.passed
    assert (report.states, report.argmax_differs) == (PROBE_STATES, 0)
    assert report.max_difference_onnx <= 1e-5
    assert report.max_difference_eager is not None
    assert report.max_difference_eager <= 1e-5
    assert report.to_json()["passed"] is True


@pytest.mark.parametrize("rows", [1, 2, 64, 1000])
def test_both_files_take_any_batch(exported: Path, rows: int) -> None:
    """The batch size is free in both files."""
    states = probe_states(rows)

    q_values = run_torchscript((exported / TORCHSCRIPT_FILE).read_bytes(), states)

    assert q_values.shape == (rows, 5)
    assert np.allclose(q_values, run_onnx((exported / ONNX_FILE).read_bytes(), states), atol=1e-5)


def test_no_path_of_the_machine_is_left_in_a_file(exported: Path) -> None:
    """Neither the source tree nor the interpreter's folder is named in what is published."""
    here = (str(Path(__file__).parents[2]), str(Path(torch.__file__).parent), "site-packages")

    for name in (TORCHSCRIPT_FILE, ONNX_FILE):
        content = (exported / name).read_bytes()
        assert not [path for path in here if path.encode() in content], name


def test_the_onnx_file_declares_its_names_and_opset(exported: Path) -> None:
    """`state` (batch, 11) to `q_values` (batch, 5), at the documented opset, in one valid file."""
    model = onnx.load(exported / ONNX_FILE)

    onnx.checker.check_model(model, full_check=True)
    shapes = {
        value.name: [axis.dim_param or axis.dim_value for axis in value.type.tensor_type.shape.dim]
        for value in (*model.graph.input, *model.graph.output)
    }
    assert shapes == {"state": ["batch", 11], "q_values": ["batch", 5]}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", OPSET)]


def test_the_onnx_file_is_the_same_byte_for_byte_each_time() -> None:
    """Nothing but the weights decides the content of the ONNX file."""
    served = network_of().folded()

    assert onnx_bytes(served) == onnx_bytes(served)


def test_the_torchscript_file_is_the_same_byte_for_byte_in_every_process() -> None:
    """Nothing but the weights decides its content, whatever Python hashes to."""
    program = (
        "import hashlib, torch\n"
        "from training.export import torchscript_bytes\n"
        "from training.network import NetworkConfig, QNetwork\n"
        "network = QNetwork(NetworkConfig(hidden=(16, 8)), torch.Generator().manual_seed(7))\n"
        "print(hashlib.sha256(torchscript_bytes(network.folded())).hexdigest())\n"
    )

    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(Path(__file__).parents[2])},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for seed in ("1", "2")
    }

    assert len(outputs) == 1
    assert len(outputs.pop().strip()) == 64


def test_a_torchscript_file_keeps_its_weights_readable(tmp_path: Path) -> None:
    """The weights of `model.pt` can be read by name and are those of the network."""
    network = network_of()
    path = tmp_path / TORCHSCRIPT_FILE
    path.write_bytes(torchscript_bytes(network.folded()))

    with pytest.warns(DeprecationWarning, match="torch.jit.load"):
        loaded = torch.jit.load(path)

    pairs = zip(loaded.parameters(), network.folded().parameters(), strict=True)
    assert all(torch.equal(*pair) for pair in pairs)


def test_files_of_two_networks_are_refused(exported: Path, tmp_path: Path) -> None:
    """A `model.onnx` beside the `model.pt` of another network never passes as one version."""
    (tmp_path / TORCHSCRIPT_FILE).write_bytes((exported / TORCHSCRIPT_FILE).read_bytes())
    (tmp_path / ONNX_FILE).write_bytes(onnx_bytes(network_of(seed=9).folded()))

    with pytest.raises(ArtifactCorrupted, match=r"model\.pt and model\.onnx: expected the same"):
        check_artifacts(tmp_path)


@pytest.mark.parametrize("name", [TORCHSCRIPT_FILE, ONNX_FILE])
@pytest.mark.parametrize("content", [None, b"", b"no network", "half"])
def test_an_unreadable_file_is_refused_by_name(
    exported: Path, tmp_path: Path, name: str, content: bytes | str | None
) -> None:
    """A missing, empty, foreign or truncated file is named in the refusal."""
    for other in (TORCHSCRIPT_FILE, ONNX_FILE):
        (tmp_path / other).write_bytes((exported / other).read_bytes())
    if content is None:
        (tmp_path / name).unlink()
    else:
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(
            content if isinstance(content, bytes) else whole[: len(whole) // 2]
        )

    with pytest.raises(ArtifactCorrupted, match=f"^{name}: expected"):
        check_artifacts(tmp_path)


def test_a_network_of_another_width_is_refused(exported: Path, tmp_path: Path) -> None:
    """Five Q-values a state, not four."""
    foreign = torch.nn.Sequential(torch.nn.Linear(11, 4))
    (tmp_path / TORCHSCRIPT_FILE).write_bytes(torchscript_bytes(foreign))
    (tmp_path / ONNX_FILE).write_bytes((exported / ONNX_FILE).read_bytes())

    with pytest.raises(
        ArtifactCorrupted, match=r"model\.pt: expected Q-values float32 \(10000, 5\)"
    ):
        check_artifacts(tmp_path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_network_that_answers_nan_is_never_exported(value: float, tmp_path: Path) -> None:
    """NaN and infinity are refused before anything is published."""
    network = network_of()
    with torch.no_grad():
        network.head.bias[3] = value

    with pytest.raises(NonFiniteOutput, match=r"model\.pt: expected finite Q-values"):
        export(network, tmp_path)


def test_a_tie_is_no_disagreement_and_a_clear_other_action_is() -> None:
    """Equal Q-values may be ordered either way by rounding; unequal ones may not."""
    tie = np.array([[1.0, 1.0, 0.0, 0.0, 0.0]], dtype=np.float32)
    nudged = tie + np.array([[0.0, 1e-6, 0.0, 0.0, 0.0]], dtype=np.float32)
    other = np.array([[0.0, 1.0, 0.5, 0.0, 0.0]], dtype=np.float32)

    excused = compare(tie, nudged, None)
    refused = compare(other, other[:, ::-1].copy(), None)

    assert (excused.argmax_differs, excused.ties, excused.passed) == (0, 1, True)
    assert (refused.argmax_differs, refused.ties, refused.passed) == (1, 0, False)


def test_the_tolerance_grows_with_large_q_values_only() -> None:
    """Float32 holds 1e-5 of 100 no better than 1e-7 of 1, so the limit is relative above 1."""
    large = np.full((1, 5), 100.0, dtype=np.float32) * np.arange(1, 6, dtype=np.float32)
    small = large / 1000

    assert compare(large, large + np.float32(1e-3), None).passed
    assert not compare(small, small + np.float32(1e-4), None).passed


def test_what_is_served_is_scaled_by_a_power_of_two_and_no_digit_changes() -> None:
    """Sixteenths of the learner's Q-values, eager and folded, to the bit."""
    torch.manual_seed(0)
    network = DuelingNetwork(hidden=(16, 16)).eval()
    states = torch.from_numpy(probe_states())

    with torch.inference_mode():
        plain, scaled = ServedNetwork(network), ServedNetwork(network, scale=Q_SCALE)

        assert torch.equal(scaled(states), plain(states) / 16)
        assert torch.equal(scaled.folded()(states), plain.folded()(states) / 16)
