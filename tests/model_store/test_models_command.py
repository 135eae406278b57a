"""`nimbusguard models`: what it prints, what it refuses, how it ends."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson
import pytest

from model_store.packaged import packaged_path
from model_store.store import open_store
from nimbusguard.cli import main

MODEL = "nimbusguard-dqn"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run the command on a wide terminal; status, standard output, standard error."""
    monkeypatch.setenv("COLUMNS", "300")

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(["models", *arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The packaged version as a folder to publish from."""
    return Path(shutil.copytree(packaged_path() / MODEL / "1", tmp_path / "candidate"))


def rewritten(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "metadata.json"
    document = orjson.loads(path.read_bytes())
    change(document)
    path.write_bytes(orjson.dumps(document))


def test_list_shows_versions_with_their_aliases(run: Run) -> None:
    """One row a version: who follows it, how it was trained, whether it fits this program."""
    status, out, _ = run("list")

    assert status == 0
    row = next(line for line in out.splitlines() if "production" in line)
    assert "11-64-64-5" in row
    assert "passed" in row
    assert "this" in row
    imitation = next(line for line in out.splitlines() if line.startswith("│ 1 "))
    assert "11-128-128-5" in imitation
    assert "forced" in imitation


def test_list_as_json_holds_the_same(run: Run) -> None:
    """JSON for programs, with whole values."""
    status, out, _ = run("list", "--json")

    versions = orjson.loads(out)["versions"]
    served = open_store(packaged_path()).resolve(MODEL, "production")
    assert status == 0
    assert (versions[0]["version"], versions[0]["compatible"]) == ("1", True)
    assert [one["version"] for one in versions if "production" in one["aliases"]] == [served]


def test_list_shows_a_broken_version_beside_the_sound_ones(
    run: Run, tmp_path: Path, folder: Path
) -> None:
    """One unreadable metadata file does not hide the rest."""
    store = tmp_path / "store"
    for _ in range(2):
        assert run("publish", str(folder), "--store", str(store), "--force", "a copy")[0] == 0
    (store / MODEL / "1" / "metadata.json").write_text("{")

    status, out, _ = run("list", "--store", str(store))

    assert status == 0
    assert "metadata.json: expected JSON" in out
    assert "11-128-128-5" in out


def test_show_prints_every_field_with_whole_digests(run: Run) -> None:
    """The statement of what the default is can be read in the terminal."""
    status, out, _ = run("show")

    metadata = open_store(packaged_path()).show(MODEL, "production")
    assert status == 0
    assert metadata.training["algorithm"].split(",")[0] in out
    assert "evaluation.gate.passed" in out
    assert metadata.files["model.pt"].sha256 in out


def test_show_as_json_is_the_metadata(run: Run) -> None:
    """The document as it lies in the store."""
    _, out, _ = run("show", "1", "--json")

    expected = orjson.loads((packaged_path() / MODEL / "1" / "metadata.json").read_bytes())
    assert orjson.loads(out)["metadata"] == expected


def test_verify_reports_each_version_and_fails_if_one_is_broken(
    run: Run, tmp_path: Path, folder: Path
) -> None:
    """The status is for scripts, the sentence for people."""
    store = tmp_path / "store"
    for _ in range(2):
        run("publish", str(folder), "--store", str(store), "--force", "a copy")
    (store / MODEL / "2" / "model.onnx").write_bytes(b"changed")

    status, out, _ = run("verify", "--store", str(store))

    assert status == 1
    assert f"{MODEL} version 1: sound, 2 files" in out
    assert f"{MODEL} version 2: model.onnx: expected" in out
    assert run("verify", "1", "--store", str(store))[0] == 0
    assert orjson.loads(run("verify", "--store", str(store), "--json")[1])["corrupted"] == ["2"]


@pytest.mark.parametrize("reference", ["1", "production"])
def test_resolve_prints_a_storage_uri(run: Run, reference: str) -> None:
    """One line that can stand in a command or a manifest."""
    status, out, _ = run("resolve", reference)

    assert status == 0
    version = open_store(packaged_path()).resolve(MODEL, reference)
    assert out == f"{packaged_path() / MODEL / version}\n"


def test_a_version_that_is_not_there_ends_with_status_one(run: Run) -> None:
    """The error goes to standard error and says what there is."""
    status, out, err = run("resolve", "999")

    assert (status, out) == (1, "")
    assert err.startswith(f"nimbusguard models: {MODEL}: no version '999'")


def test_the_packaged_store_is_not_written_by_default(run: Run, folder: Path) -> None:
    """An upgrade of the package would take the version away."""
    for arguments in (("publish", str(folder)), ("promote", "1")):
        status, _, err = run(*arguments)
        assert status == 1
        assert "packaged store is replaced by every upgrade" in err


def test_publish_needs_a_gate_or_a_reason(run: Run, tmp_path: Path, folder: Path) -> None:
    """The reason replaces the one of the version it was copied from, and is kept."""
    store = str(tmp_path / "store")

    status, _, err = run("publish", str(folder), "--store", store)
    assert status == 1
    assert "evaluation.gate.passed: expected true" in err
    status, out, _ = run("publish", str(folder), "--store", store, "--force", "a rehearsal")
    assert status == 0
    assert out == f"published {store}/{MODEL}/1\n"

    gate = open_store(store).show(MODEL, "1").evaluation["gate"]
    assert (gate["passed"], gate["forced"], gate["reason"]) == (None, True, "a rehearsal")


def test_publish_takes_a_draft_without_digests(run: Run, tmp_path: Path, folder: Path) -> None:
    """A trainer writes metadata without number, time and digests; publishing adds them."""

    def to_draft(document: dict[str, Any]) -> None:
        for key in ("version", "created", "files", "fingerprint"):
            del document[key]
        document["evaluation"]["gate"] = {"passed": True}

    rewritten(folder, to_draft)

    status, out, _ = run(
        "publish", str(folder), "--store", str(tmp_path / "s"), "--version", "7", "--json"
    )

    answer = orjson.loads(out)
    assert (status, answer["version"]) == (0, "7")
    assert answer["metadata"]["evaluation"]["gate"] == {"passed": True}
    assert set(answer["metadata"]["files"]) == {"model.pt", "model.onnx"}


def test_publish_refuses_a_folder_that_was_changed_on_the_way(
    run: Run, tmp_path: Path, folder: Path
) -> None:
    """Digests that came along are compared before new ones are made."""
    (folder / "model.onnx").write_bytes((folder / "model.onnx").read_bytes()[:-1] + b"x")

    status, _, err = run("publish", str(folder), "--store", str(tmp_path), "--force", "a copy")

    assert status == 1
    assert "model.onnx: expected SHA-256" in err


def test_publish_runs_the_network_and_refuses_two_that_differ(
    run: Run, tmp_path: Path, folder: Path
) -> None:
    """Whatever lies in the folder, what is published answers alike in both forms."""
    import torch

    from training.export import onnx_bytes
    from training.network import NetworkConfig, QNetwork

    other = QNetwork(NetworkConfig(), torch.Generator().manual_seed(99))
    (folder / "model.onnx").write_bytes(onnx_bytes(other.folded()))
    rewritten(folder, lambda document: document.pop("files"))

    status, _, err = run("publish", str(folder), "--store", str(tmp_path / "s"), "--force", "no")

    assert status == 1
    assert "model.pt and model.onnx: expected the same actions" in err
    assert not (tmp_path / "s").exists()


def test_publish_says_which_file_is_missing(run: Run, tmp_path: Path, folder: Path) -> None:
    """A folder without metadata, and one of another model, are refused by name."""
    status, _, err = run("publish", str(folder), "--store", str(tmp_path), "--name", "other")
    assert (status, "name: expected other, got nimbusguard-dqn" in err) == (1, True)

    (folder / "metadata.json").unlink()
    status, _, err = run("publish", str(folder), "--store", str(tmp_path))
    assert (status, "metadata.json: expected a readable file" in err) == (1, True)


def test_promote_says_what_it_replaced(run: Run, tmp_path: Path, folder: Path) -> None:
    """Who rolls back reads the number to go back to."""
    store = str(tmp_path / "store")
    for _ in range(2):
        run("publish", str(folder), "--store", store, "--force", "a copy")

    first = run("promote", "1", "--store", store)
    second = run("promote", "latest", "--store", store)
    canary = run("promote", "1", "--alias", "canary", "--store", store, "--json")

    assert first[:2] == (0, "production: version 1 (before: none)\n")
    assert second[:2] == (0, "production: version 2 (before: 1)\n")
    assert orjson.loads(canary[1]) == {"alias": "canary", "version": "1", "previous": None}
    assert open_store(store).aliases(MODEL) == {"production": "2", "canary": "1"}


def test_publish_without_torch_says_what_to_install(
    run: Run, tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command itself needs no torch; running a network does."""
    monkeypatch.setitem(sys.modules, "training.export", None)

    status, _, err = run("publish", str(folder), "--store", str(tmp_path), "--force", "a copy")

    assert status == 1
    assert "needs training.export; install nimbusguard[train]" in err


def test_s3_without_its_library_says_what_to_install(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A store in S3 needs an extra, and the message names it."""
    monkeypatch.setitem(sys.modules, "model_store.s3", None)

    status, _, err = run("list", "--store", "s3://bucket/models")

    assert status == 1
    assert "install nimbusguard[s3]" in err
