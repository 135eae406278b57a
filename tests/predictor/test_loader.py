"""One verified version in memory, and everything that must never get there."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import orjson
import pytest
import torch
from torch import nn

from model_store.metadata import METADATA_FILE, ONNX_FILE, TORCHSCRIPT_FILE, Draft, Network
from model_store.packaged import packaged_path, packaged_store
from model_store.probe import probe_states
from model_store.store import Candidate, open_store
from nimbusguard.contract.errors import ArtifactCorrupted, IncompatibleModel, NonFiniteOutput
from nimbusguard.contract.fingerprint import FINGERPRINT, action_table, feature_table
from predictor.loader import LoadedModel, load_version
from training.export import scripted_bytes
from training.network import NetworkConfig, QNetwork

MODEL = "nimbusguard-dqn"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def network_of(seed: int = 7) -> QNetwork:
    return QNetwork(NetworkConfig(hidden=(16, 8)), torch.Generator().manual_seed(seed))


def published(
    root: Path, module: nn.Module, *, features: list[dict[str, object]] | None = None
) -> Path:
    """A version directory with whatever network; only `model.pt` is ever loaded here."""
    draft = Draft(
        name=MODEL,
        features=tuple(features or feature_table()),
        actions=tuple(action_table()),
        network=Network(layers=(11, 16, 8, 5), weights="sha256:test"),
        training={"algorithm": "none", "seed": 0},
        evaluation={"gate": {"passed": True}},
    )
    files = {TORCHSCRIPT_FILE: scripted_bytes(module), ONNX_FILE: b"not loaded here"}
    store = open_store(root)
    metadata = store.publish(Candidate(draft=draft, files=files), lambda _: None, now=NOW)
    return store.fetch(MODEL, metadata.version, root)


@pytest.fixture(autouse=True)
def threads_as_before() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return published(tmp_path, network_of().folded())


def test_a_loaded_version_answers_as_the_eager_network(directory: Path) -> None:
    """Q-values equal torch called directly, for any batch."""
    model = load_version(directory)

    for rows in (1, 2, 3, 64, 1000):
        states = probe_states(rows, seed=rows)
        with torch.no_grad():
            eager = network_of()(torch.from_numpy(states)).numpy()
        assert np.abs(model.infer(states) - eager).max() <= 1e-6


def test_a_loaded_version_knows_what_it_is(directory: Path) -> None:
    """Name, version and fingerprint come with the network, for every answer to report."""
    metadata = load_version(directory).metadata

    assert (metadata.name, metadata.version, metadata.fingerprint) == (MODEL, "1", FINGERPRINT)


def test_loading_leaves_torch_on_one_thread(directory: Path) -> None:
    """A second thread costs more than it saves on a forward of this size."""
    torch.set_num_threads(2)

    load_version(directory)

    assert torch.get_num_threads() == 1


def test_a_state_that_may_not_be_written_is_answered(directory: Path) -> None:
    """A tensor that lies in a request's body is read-only, and torch would warn of it."""
    states = probe_states(3)
    body = np.frombuffer(states.tobytes(), dtype=np.float32).reshape(states.shape)

    assert np.array_equal(
        load_version(directory).infer(body), load_version(directory).infer(states)
    )


def test_many_threads_get_the_answers_of_one(directory: Path) -> None:
    """A loaded version is shared without a lock."""
    model = load_version(directory)
    batches = [probe_states(rows, seed=rows) for rows in range(1, 33)]
    expected = [model.infer(states) for states in batches]
    wrong: list[int] = []

    def compare() -> None:
        for _ in range(20):
            for states, answer in zip(batches, expected, strict=True):
                if not np.allclose(model.infer(states), answer, atol=1e-6):
                    wrong.append(len(states))

    threads = [threading.Thread(target=compare) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


@pytest.mark.parametrize("name", [METADATA_FILE, TORCHSCRIPT_FILE, ONNX_FILE])
def test_a_missing_file_is_named(directory: Path, name: str) -> None:
    """Every file that belongs to a version must be there, served or not."""
    (directory / name).unlink()

    with pytest.raises(ArtifactCorrupted, match=f"^{name}: expected a readable file"):
        load_version(directory)


@pytest.mark.parametrize("name", [TORCHSCRIPT_FILE, ONNX_FILE])
def test_a_truncated_file_is_named_with_both_sizes(directory: Path, name: str) -> None:
    """A copy that broke off is told apart by its size."""
    content = (directory / name).read_bytes()
    (directory / name).write_bytes(content[:-1])

    with pytest.raises(
        ArtifactCorrupted, match=f"^{name}: expected {len(content)} bytes .* got {len(content) - 1}"
    ):
        load_version(directory)


@pytest.mark.parametrize("name", [TORCHSCRIPT_FILE, ONNX_FILE])
def test_a_flipped_bit_is_found(directory: Path, name: str) -> None:
    """One changed bit in any file refuses the version."""
    content = bytearray((directory / name).read_bytes())
    content[len(content) // 2] ^= 1
    (directory / name).write_bytes(content)

    with pytest.raises(ArtifactCorrupted, match=f"^{name}: expected SHA-256"):
        load_version(directory)


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    """A sound `model.pt` that belongs to another version never answers under this one's name."""
    first = published(tmp_path, network_of(1).folded())
    second = published(tmp_path, network_of(2).folded())
    (first / TORCHSCRIPT_FILE).write_bytes((second / TORCHSCRIPT_FILE).read_bytes())

    with pytest.raises(ArtifactCorrupted, match=r"model\.pt: .* belongs to another version"):
        load_version(first)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"name": 3}', b"\xff\xfe"])
def test_broken_metadata_is_refused(directory: Path, content: bytes) -> None:
    """Metadata that is no JSON object of the right fields refuses the version."""
    (directory / METADATA_FILE).write_bytes(content)

    with pytest.raises(ArtifactCorrupted, match=r"^metadata\.json: "):
        load_version(directory)


def test_a_foreign_contract_is_refused_with_both_fingerprints(tmp_path: Path) -> None:
    """A network that was trained with other bounds means something else by the same state."""
    features = feature_table()
    features[3]["max"] = 2000.0
    directory = published(tmp_path, network_of().folded(), features=features)

    with pytest.raises(IncompatibleModel, match=f"expected fingerprint {FINGERPRINT}, got sha256:"):
        load_version(directory)


def test_a_fingerprint_that_is_not_of_its_own_tables_is_refused(directory: Path) -> None:
    """Writing the right fingerprint over a foreign table does not make it compatible."""
    document = orjson.loads((directory / METADATA_FILE).read_bytes())
    document["features"][3]["max"] = 2000.0
    (directory / METADATA_FILE).write_bytes(orjson.dumps(document))

    with pytest.raises(ArtifactCorrupted, match=r"fingerprint: expected sha256:.* its own tables"):
        load_version(directory)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_network_that_answers_nan_is_refused_at_load(tmp_path: Path, value: float) -> None:
    """A sound archive with a NaN in its weights is found before the first request."""
    network = network_of()
    with torch.no_grad():
        network.head.bias[2] = value
    directory = published(tmp_path, network.folded())

    with pytest.raises(NonFiniteOutput, match=r"^model\.pt: expected finite Q-values"):
        load_version(directory)


class _NanAbove(nn.Module):
    """Sound on the probe states, NaN for a state beyond them."""

    def forward(self, state: torch.Tensor) -> torch.Tensor:
        q_values = state[:, :5]
        return torch.where(state[:, :1] > 1.5, torch.full_like(q_values, float("nan")), q_values)


def test_a_single_nan_in_a_batch_is_found_at_inference(tmp_path: Path) -> None:
    """One bad row of many refuses the answer; the next good one is answered."""
    model = load_version(published(tmp_path, _NanAbove()))
    states = probe_states(1000)
    bad = states.copy()
    bad[777, 0] = 2.0

    with pytest.raises(NonFiniteOutput, match="version 1 of nimbusguard-dqn"):
        model.infer(bad)
    assert np.array_equal(model.infer(states), states[:, :5])


def test_large_finite_q_values_are_not_taken_for_infinity(tmp_path: Path) -> None:
    """A sum of squares that overflows is no proof of infinity."""
    linear = nn.Linear(11, 5)
    with torch.no_grad():
        linear.weight.zero_()
        linear.bias.fill_(3e38)
    model = load_version(published(tmp_path, nn.Sequential(linear)))

    assert np.isfinite(model.infer(probe_states(4))).all()


class _Tuple(nn.Module):
    def forward(self, state: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return state, state


class _Double(nn.Module):
    def forward(self, state: torch.Tensor) -> torch.Tensor:
        return state[:, :5].double()


@pytest.mark.parametrize(
    "module",
    [nn.Linear(11, 4), nn.Linear(10, 5), nn.Flatten(0), _Tuple(), _Double()],
    ids=["four actions", "ten features", "flat", "tuple", "float64"],
)
def test_a_network_of_another_shape_is_refused(tmp_path: Path, module: nn.Module) -> None:
    """Only float32 (B, 11) to float32 (B, 5) is served."""
    directory = published(tmp_path, nn.Sequential(module))

    with pytest.raises(ArtifactCorrupted, match=r"^model\.pt: expected"):
        load_version(directory)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 half of one"])
def test_a_file_that_is_no_archive_is_refused(tmp_path: Path, content: bytes) -> None:
    """A digest that fits does not make bytes a network."""
    directory = published(tmp_path, network_of().folded())
    document = orjson.loads((directory / METADATA_FILE).read_bytes())
    _replace(directory, document, content)

    with pytest.raises(ArtifactCorrupted, match=r"^model\.pt: expected a TorchScript network"):
        load_version(directory)


def test_a_pickled_module_is_refused(tmp_path: Path) -> None:
    """An archive of `torch.save` holds a pickle, which is never opened."""
    directory = published(tmp_path, network_of().folded())
    buffer = io.BytesIO()
    torch.save(network_of().state_dict(), buffer)
    _replace(directory, orjson.loads((directory / METADATA_FILE).read_bytes()), buffer.getvalue())

    with pytest.raises(ArtifactCorrupted, match=r"^model\.pt: expected a TorchScript network"):
        load_version(directory)


def test_the_packaged_default_loads_and_imitates_the_rule() -> None:
    """A busy workload is scaled up, an idle one down, a steady one left alone."""
    store = packaged_store()
    name = store.models()[0]
    model = load_version(store.fetch(name, "1", Path("unused")))
    states = np.full((3, 11), 0.5, dtype=np.float32)
    states[:, 0] = (0.98, 0.10, 0.70)
    states[:, 4] = (10 - 1) / 49

    assert model.infer(states).argmax(axis=1).tolist() == [4, 0, 2]
    assert isinstance(model, LoadedModel)


def _replace(directory: Path, document: dict[str, dict[str, object]], content: bytes) -> None:
    """Put other bytes in place of `model.pt`, with the digest that fits them."""
    document["files"][TORCHSCRIPT_FILE] = {
        "sha256": hashlib.sha256(content).hexdigest(),
        "size": len(content),
    }
    (directory / TORCHSCRIPT_FILE).write_bytes(content)
    (directory / METADATA_FILE).write_bytes(orjson.dumps(document))


@pytest.mark.parametrize("version", packaged_store().versions("nimbusguard-dqn"))
def test_an_answer_does_not_depend_on_the_batch(version: str) -> None:
    """Every state of a batch gets the same bits as alone, for the batches that a server forms."""
    network = load_version(packaged_path() / "nimbusguard-dqn" / version)
    state = probe_states(1000)
    together = network.infer(state)

    for rows in (1, 2, 3, 4, 5, 7, 8, 16, 33, 64, 100):
        parts = [network.infer(state[at : at + rows]) for at in range(0, 200, rows)]
        assert np.array_equal(np.concatenate(parts)[:200], together[:200]), f"batches of {rows}"
