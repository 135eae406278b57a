"""Publish, resolve, promote, verify and fetch on a local folder."""

from __future__ import annotations

import shutil
import threading
import zipfile
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import orjson
import pytest

from model_store.local import LocalFolder
from model_store.packaged import packaged_path, packaged_store
from model_store.store import Candidate, ModelStore, open_store
from nimbusguard.contract.errors import (
    ArtifactCorrupted,
    InvalidRequest,
    NonFiniteOutput,
    NotFound,
    VersionNotFound,
)

MODEL = "nimbusguard-dqn"
CandidateOf = Callable[..., Candidate]


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def accept(_: object) -> None:
    """A check that finds nothing wrong; the real ones run a network."""


def test_published_versions_are_numbered_from_one_and_verify(
    store: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """Each publication takes the next number, and its bytes come back as they went in."""
    for seed in range(3):
        metadata = store.publish(candidate_of(seed), accept, now=now)
        assert metadata.version == str(seed + 1)

    assert store.versions(MODEL) == ["1", "2", "3"]
    assert store.models() == [MODEL]
    for seed in range(3):
        found = store.verify(MODEL, str(seed + 1))
        assert found.files == candidate_of(seed).files
        assert found.metadata.created == now


def test_versions_are_ordered_as_numbers(
    store: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """10 comes after 9, and the next number is above the highest."""
    for version in ("9", "10", "2"):
        store.publish(candidate_of(), accept, now=now, version=version)

    assert store.versions(MODEL) == ["2", "9", "10"]
    assert store.resolve(MODEL, "latest") == "10"
    assert store.publish(candidate_of(), accept, now=now).version == "11"


def test_a_version_directory_is_what_a_storage_uri_points_to(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path
) -> None:
    """Three files, no more, under the store, the model and the number."""
    store.publish(candidate_of(), accept, now=now)

    uri = store.version_uri(MODEL, "1")

    assert uri == str(tmp_path / "store" / MODEL / "1")
    assert names_in(Path(uri)) == ["metadata.json", "model.onnx", "model.pt"]
    assert names_in(tmp_path / "store" / MODEL) == ["1"]


def test_an_existing_version_is_refused_and_stays_as_it_was(
    store: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """A version is never changed, not even by its own bytes."""
    store.publish(candidate_of(1), accept, now=now, version="7")

    for seed in (1, 2):
        with pytest.raises(InvalidRequest, match=r"version 7 exists .* under another number"):
            store.publish(candidate_of(seed), accept, now=now, version="7")

    assert store.verify(MODEL, "7").files == candidate_of(1).files


def test_an_empty_folder_in_the_way_becomes_the_version(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path
) -> None:
    """A folder without metadata is no version; one with files in it is not overwritten."""
    (tmp_path / "store" / MODEL / "1").mkdir(parents=True)
    (tmp_path / "store" / MODEL / "2").mkdir()
    (tmp_path / "store" / MODEL / "2" / "notes.txt").write_text("mine")
    assert store.versions(MODEL) == []

    store.publish(candidate_of(), accept, now=now, version="1")
    with pytest.raises(InvalidRequest, match="version 2 exists"):
        store.publish(candidate_of(), accept, now=now, version="2")

    assert store.versions(MODEL) == ["1"]
    assert store.publish(candidate_of(), accept, now=now).version == "3"


def test_of_publishers_that_race_for_one_number_exactly_one_wins(
    store: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """Eight at once: one version, whole, of one of them, and seven refusals."""
    for number in range(1, 6):
        outcomes: list[int | None] = []
        gate = threading.Barrier(8)

        def publish(
            seed: int, version: str, gate: threading.Barrier, out: list[int | None]
        ) -> None:
            gate.wait()
            try:
                store.publish(candidate_of(seed), accept, now=now, version=version)
            except InvalidRequest:
                out.append(None)
            else:
                out.append(seed)

        threads = [
            threading.Thread(target=publish, args=(seed, str(number), gate, outcomes))
            for seed in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        winners = [seed for seed in outcomes if seed is not None]
        assert len(outcomes) == 8
        assert len(winners) == 1
        assert store.verify(MODEL, str(number)).files == candidate_of(winners[0]).files


def test_publishers_that_race_without_a_number_all_get_one(
    store: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """Nothing is lost: eight times four publications, 32 versions."""

    def publish(first: int) -> None:
        for seed in range(first, 32, 8):
            store.publish(candidate_of(seed), accept, now=now)

    threads = [threading.Thread(target=publish, args=(first,)) for first in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.versions(MODEL) == [str(number) for number in range(1, 33)]
    published = {
        store.verify(MODEL, version).files["model.pt"] for version in store.versions(MODEL)
    }
    assert published == {candidate_of(seed).files["model.pt"] for seed in range(32)}


def test_what_the_check_refuses_is_not_published(
    store: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """The check sees the bytes that would be stored, and its refusal is the answer."""
    seen: list[object] = []

    def refuse(files: object) -> None:
        seen.append(files)
        raise NonFiniteOutput("model.pt: expected finite Q-values")

    with pytest.raises(NonFiniteOutput):
        store.publish(candidate_of(4), refuse, now=now)

    assert seen == [candidate_of(4).files]
    assert store.versions(MODEL) == []


def test_a_candidate_without_a_model_file_is_refused(
    store: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """The operator's fallback needs the ONNX twin of every version."""
    whole = candidate_of()
    candidate = Candidate(draft=whole.draft, files={"model.pt": whole.files["model.pt"]})

    with pytest.raises(ArtifactCorrupted, match=r"^model\.onnx: expected in every version"):
        store.publish(candidate, accept, now=now)


@pytest.mark.parametrize(
    "evaluation", [{}, {"gate": {"passed": None}}, {"gate": {"passed": False}}]
)
def test_a_version_that_no_gate_passed_is_refused_unless_forced(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, evaluation: dict[str, object]
) -> None:
    """Without a verdict nothing is published; with a reason it is, and says so for ever."""
    candidate = candidate_of(evaluation=evaluation)

    with pytest.raises(InvalidRequest, match=r"evaluation\.gate\.passed: expected true"):
        store.publish(candidate, accept, now=now)
    with pytest.raises(InvalidRequest, match="reason: expected"):
        store.publish(candidate, accept, now=now, force_reason=" ")
    assert store.versions(MODEL) == []

    store.publish(candidate, accept, now=now, force_reason="a rehearsal")

    gate = store.show(MODEL, "1").evaluation["gate"]
    assert gate["passed"] is not True
    assert (gate["forced"], gate["reason"]) == (True, "a rehearsal")


def test_force_is_not_noted_where_the_gate_passed(
    store: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """A version that earned its place does not look forced."""
    metadata = store.publish(candidate_of(), accept, now=now, force_reason="to be sure")

    assert metadata.evaluation["gate"] == {"passed": True}


@pytest.mark.parametrize("version", ["../1", "0", "01", "1/..", "", "latest"])
def test_a_version_that_is_no_number_is_refused_before_anything_is_written(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path, version: str
) -> None:
    """No name leads out of the store."""
    with pytest.raises(InvalidRequest, match="version: expected a positive integer"):
        store.publish(candidate_of(), accept, now=now, version=version)

    assert not (tmp_path / "store" / MODEL).exists()


@pytest.mark.parametrize("name", ["../etc", "a/b", "", "."])
def test_a_model_name_that_leads_elsewhere_is_refused(store: ModelStore, name: str) -> None:
    """Every way in checks the name."""
    for call in (store.versions, store.aliases):
        with pytest.raises(InvalidRequest, match="model name"):
            call(name)
    for method in (store.resolve, store.show, store.verify):
        with pytest.raises(InvalidRequest, match="model name"):
            method(name, "1")


def test_references_resolve_to_versions(
    store: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """A number, `latest` and what was promoted."""
    for seed in range(3):
        store.publish(candidate_of(seed), accept, now=now)
    store.promote(MODEL, "production", "2")

    assert [store.resolve(MODEL, ref) for ref in ("1", "latest", "production")] == ["1", "3", "2"]


@pytest.mark.parametrize("reference", ["4", "canary", "latest"])
def test_a_reference_to_nothing_says_what_there_is(
    tmp_path: Path, candidate_of: CandidateOf, now: datetime, reference: str
) -> None:
    """The message lists the published versions."""
    store = open_store(tmp_path)
    if reference != "latest":
        store.publish(candidate_of(), accept, now=now)
    published = "none" if reference == "latest" else "1"

    with pytest.raises(
        VersionNotFound, match=f"no version '{reference}'.* published: {published}$"
    ):
        store.resolve(MODEL, reference)


@pytest.mark.parametrize("reference", ["../1", "", "newest", "-1", "Latest"])
def test_a_reference_of_no_kind_is_refused(store: ModelStore, reference: str) -> None:
    """Only a version, `latest` or an alias."""
    with pytest.raises(InvalidRequest, match="expected a version, latest or an alias"):
        store.resolve(MODEL, reference)


def test_an_alias_to_a_version_that_is_gone_says_which(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path
) -> None:
    """Somebody removed a folder by hand: the alias is named with its target."""
    store.publish(candidate_of(), accept, now=now)
    store.promote(MODEL, "production", "1")
    shutil.rmtree(tmp_path / "store" / MODEL / "1")

    with pytest.raises(VersionNotFound, match=r"no version 'production' \(version 1\)"):
        store.resolve(MODEL, "production")


def test_promoting_returns_what_it_replaced(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path
) -> None:
    """The file is the documented one: alias to version as text."""
    for seed in range(2):
        store.publish(candidate_of(seed), accept, now=now)

    assert store.promote(MODEL, "production", "1") is None
    assert store.promote(MODEL, "canary", "latest") is None
    assert store.promote(MODEL, "production", "2") == "1"

    content = orjson.loads((tmp_path / "store" / MODEL / "aliases.json").read_bytes())
    assert content == {"production": "2", "canary": "2"} == store.aliases(MODEL)


def test_promotions_at_once_lose_nothing(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path
) -> None:
    """Two aliases moved two hundred times from eight threads both end where they were last put."""
    store.publish(candidate_of(), accept, now=now)
    store.publish(candidate_of(), accept, now=now)
    path = tmp_path / "store" / MODEL / "aliases.json"
    path.write_bytes(orjson.dumps({"future": "2"}))
    seen: list[str | None] = []

    def promote(alias: str) -> None:
        seen.extend(store.promote(MODEL, alias, "1") for _ in range(25))

    threads = [
        threading.Thread(target=promote, args=(alias,)) for alias in ("production", "canary")
    ]
    threads += [threading.Thread(target=promote, args=(alias,)) for alias in ("canary",) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert store.aliases(MODEL) == {"future": "2", "production": "1", "canary": "1"}
    assert seen.count(None) == 2
    assert names_in(path.parent) == ["1", "2", "aliases.json"]


def test_aliases_that_changed_meanwhile_are_not_overwritten(tmp_path: Path) -> None:
    """Whoever read an older file is told so, and what a dead promoter left is removed."""
    folder = LocalFolder(tmp_path)
    (tmp_path / MODEL).mkdir()
    (tmp_path / MODEL / ".aliases-of-a-dead-one").write_bytes(b"half")

    assert folder.replace_aliases(MODEL, b"first", None) is True
    seen = folder.read_aliases(MODEL)
    assert folder.replace_aliases(MODEL, b"second", seen.tag) is True
    assert folder.replace_aliases(MODEL, b"third", seen.tag) is False
    assert folder.replace_aliases(MODEL, b"third", None) is False

    assert folder.read_aliases(MODEL).content == b"second"
    assert names_in(tmp_path / MODEL) == ["aliases.json"]


def test_a_broken_version_is_never_promoted(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path
) -> None:
    """Its digests are compared before the alias moves."""
    store.publish(candidate_of(), accept, now=now)
    (tmp_path / "store" / MODEL / "1" / "model.pt").write_bytes(b"changed")

    with pytest.raises(ArtifactCorrupted, match=r"^model\.pt: expected 3000 bytes"):
        store.promote(MODEL, "production", "1")

    assert store.aliases(MODEL) == {}


@pytest.mark.parametrize(
    "content", [b"", b"[]", b'{"production": 1}', b'{"production": "../2"}', b'{"production"']
)
def test_broken_aliases_are_refused(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path, content: bytes
) -> None:
    """An alias that leads nowhere sound is an error, not an empty store."""
    store.publish(candidate_of(), accept, now=now)
    (tmp_path / "store" / MODEL / "aliases.json").write_bytes(content)

    with pytest.raises(ArtifactCorrupted, match=r"^aliases\.json: "):
        store.resolve(MODEL, "production")
    with pytest.raises(ArtifactCorrupted, match=r"^aliases\.json: "):
        store.promote(MODEL, "production", "1")


@pytest.mark.parametrize("file", ["model.pt", "model.onnx"])
def test_verifying_names_the_file_that_is_wrong(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path, file: str
) -> None:
    """Changed, truncated and missing files are told apart."""
    store.publish(candidate_of(), accept, now=now)
    path = tmp_path / "store" / MODEL / "1" / file
    whole = path.read_bytes()

    path.write_bytes(b"x" + whole[1:])
    with pytest.raises(ArtifactCorrupted, match=f"^{file}: expected SHA-256"):
        store.verify(MODEL, "1")
    path.write_bytes(whole[:-1])
    with pytest.raises(ArtifactCorrupted, match=f"^{file}: expected {len(whole)} bytes"):
        store.verify(MODEL, "1")
    path.unlink()
    with pytest.raises(ArtifactCorrupted, match=f"^{file}: expected in .*, got no such file"):
        store.verify(MODEL, "1")


def test_swapped_folders_are_found(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path
) -> None:
    """A folder that was renamed still knows its number."""
    store.publish(candidate_of(), accept, now=now)
    (tmp_path / "store" / MODEL / "1").rename(tmp_path / "store" / MODEL / "2")

    with pytest.raises(ArtifactCorrupted, match=r"expected .* version 2, got .* version 1"):
        store.show(MODEL, "2")


def test_fetching_from_a_local_store_is_its_own_folder(
    store: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path
) -> None:
    """Nothing is copied, but everything is verified."""
    store.publish(candidate_of(), accept, now=now)
    into = tmp_path / "cache"

    assert store.fetch(MODEL, "latest", into) == tmp_path / "store" / MODEL / "1"
    assert not into.exists()
    (tmp_path / "store" / MODEL / "1" / "model.pt").write_bytes(b"")
    with pytest.raises(ArtifactCorrupted):
        store.fetch(MODEL, "latest", into)


def test_a_candidate_is_read_from_a_folder(tmp_path: Path, candidate_of: CandidateOf) -> None:
    """Both model files are needed, and the missing one is named."""
    whole = candidate_of()
    (tmp_path / "model.pt").write_bytes(whole.files["model.pt"])

    with pytest.raises(ArtifactCorrupted, match=r"^model\.onnx: expected a readable file"):
        Candidate.from_directory(tmp_path, whole.draft)
    (tmp_path / "model.onnx").write_bytes(whole.files["model.onnx"])

    assert Candidate.from_directory(tmp_path, whole.draft) == whole


def test_a_store_that_cannot_be_written_says_where(
    tmp_path: Path, candidate_of: CandidateOf, now: datetime
) -> None:
    """The folder and the reason are in the message."""
    (tmp_path / "file").write_text("in the way")
    store = open_store(tmp_path / "file")

    with pytest.raises(
        InvalidRequest, match=r"store .*file: expected a folder that may be written"
    ):
        store.publish(candidate_of(), accept, now=now)


def test_a_store_is_opened_by_path_or_address(tmp_path: Path) -> None:
    """A path, text of a path and `file:///` are one store."""
    uris = {open_store(place).uri for place in (tmp_path, str(tmp_path), tmp_path.as_uri())}

    assert uris == {str(tmp_path)}


@pytest.mark.parametrize(
    "location",
    [
        *("", "gs://bucket/x", "http://host/x", "file://host/x"),
        *("s3://", "s3:///x", "s3://UPPER/x", "s3://bucket/../x", "s3://user@bucket/x"),
    ],
)
def test_an_address_of_another_kind_is_refused(location: str) -> None:
    """The message lists what a store can be."""
    with pytest.raises(InvalidRequest, match=r"^store: expected a p"):
        open_store(location)


def test_an_unknown_model_has_no_versions(store: ModelStore) -> None:
    """Reading an empty store is no error until a version is asked for."""
    assert store.models() == []
    assert store.versions("other") == []
    assert store.aliases("other") == {}


def test_the_packaged_store_holds_a_sound_default() -> None:
    """`production` is promoted, verifies, and lies where the package is installed."""
    store = packaged_store()

    assert store.uri == str(packaged_path())
    assert store.models() == [MODEL]
    for version in store.versions(MODEL):
        store.verify(MODEL, version)
    assert store.resolve(MODEL, "production") in store.versions(MODEL)
    assert store.resolve(MODEL, "1") == "1"


def test_a_package_in_an_archive_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A model server reads files of a folder; the message says how to install."""
    with zipfile.ZipFile(tmp_path / "package.zip", "w") as archive:
        archive.writestr("default/readme.txt", "")
        monkeypatch.setattr("model_store.packaged.resources.files", lambda _: zipfile.Path(archive))

        with pytest.raises(NotFound, match=r"expected an installed folder, got .*package\.zip"):
            packaged_path()
