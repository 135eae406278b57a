"""The store against a real S3 server process."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import fsspec
import pytest

from model_store.objects import ABANDONED_AFTER
from model_store.store import Candidate, ModelStore, open_store
from nimbusguard.contract.errors import (
    ArtifactCorrupted,
    InvalidRequest,
    Unavailable,
    VersionNotFound,
)
from tests.model_store.s3 import s3_environment

pytestmark = pytest.mark.service

MODEL = "nimbusguard-dqn"
LOCATION = "s3://models-of-the-test/some/prefix"
HERE = Path(__file__).parent
CandidateOf = Callable[..., Candidate]


def accept(_: object) -> None:
    """A check that finds nothing wrong."""


@pytest.fixture(scope="module")
def server() -> Iterator[dict[str, str]]:
    with s3_environment() as environ:
        yield environ


@pytest.fixture(autouse=True)
def environment(server: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for key, value in server.items():
        monkeypatch.setenv(key, value)


@pytest.fixture
def files(environment: None) -> Iterator[fsspec.AbstractFileSystem]:
    """The bucket, empty, seen past the store."""
    s3 = fsspec.filesystem("s3", use_listings_cache=False, skip_instance_cache=True)
    bucket = LOCATION.split("/")[2]
    if not s3.exists(bucket):
        s3.mkdir(bucket)
    for path in s3.find(bucket):
        s3.rm_file(path)
    return s3


@pytest.fixture
def bucket(files: fsspec.AbstractFileSystem) -> ModelStore:
    return open_store(LOCATION)


def test_a_version_makes_the_whole_way(
    bucket: ModelStore, candidate_of: CandidateOf, now: datetime, tmp_path: Path
) -> None:
    """Published, listed, shown, verified, promoted, resolved and fetched, byte for byte."""
    for seed in (1, 2):
        bucket.publish(candidate_of(seed), accept, now=now)
    assert bucket.promote(MODEL, "production", "1") is None
    assert bucket.promote(MODEL, "production", "latest") == "1"
    bucket.promote(MODEL, "canary", "1")

    assert bucket.models() == [MODEL]
    assert bucket.versions(MODEL) == ["1", "2"]
    assert bucket.aliases(MODEL) == {"production": "2", "canary": "1"}
    assert bucket.verify(MODEL, "production").files == candidate_of(2).files
    fetched = bucket.fetch(MODEL, "canary", tmp_path)
    assert (fetched / "model.pt").read_bytes() == candidate_of(1).files["model.pt"]
    assert sorted(path.name for path in fetched.iterdir()) == [
        "metadata.json",
        "model.onnx",
        "model.pt",
    ]


def test_a_version_is_what_a_storage_uri_points_to(
    bucket: ModelStore, files: fsspec.AbstractFileSystem, candidate_of: CandidateOf, now: datetime
) -> None:
    """Three objects below the address, no more."""
    bucket.publish(candidate_of(1), accept, now=now)

    uri = bucket.version_uri(MODEL, "1")

    assert uri == f"{LOCATION}/{MODEL}/1"
    names = [path.rpartition("/")[2] for path in files.find(uri)]
    assert sorted(names) == ["metadata.json", "model.onnx", "model.pt"]


def test_an_existing_version_is_refused(
    bucket: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """The condition of the server holds, for other bytes and for the same."""
    bucket.publish(candidate_of(1), accept, now=now, version="5")

    for seed in (1, 2):
        with pytest.raises(InvalidRequest, match="version 5 exists"):
            bucket.publish(candidate_of(seed), accept, now=now, version="5")

    assert bucket.verify(MODEL, "5").files == candidate_of(1).files


def test_of_racing_publishers_exactly_one_wins(
    bucket: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """Four stores at once, with one number: one version, whole, of one of them."""
    for version in ("1", "2", "3"):
        outcomes: list[int | None] = []
        gate = threading.Barrier(4)

        def publish(
            seed: int, version: str, gate: threading.Barrier, out: list[int | None]
        ) -> None:
            store = open_store(LOCATION)
            gate.wait()
            try:
                store.publish(candidate_of(seed), accept, now=now, version=version)
            except InvalidRequest:
                out.append(None)
            else:
                out.append(seed)

        threads = [
            threading.Thread(target=publish, args=(seed, version, gate, outcomes))
            for seed in range(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        winners = [seed for seed in outcomes if seed is not None]
        assert (len(outcomes), len(winners)) == (4, 1)
        assert bucket.verify(MODEL, version).files == candidate_of(winners[0]).files


def test_racing_promotions_lose_nothing(
    bucket: ModelStore, candidate_of: CandidateOf, now: datetime
) -> None:
    """Two writers of two aliases, ten times each: both are kept."""
    for seed in (1, 2):
        bucket.publish(candidate_of(seed), accept, now=now)

    def promote(alias: str) -> None:
        store = open_store(LOCATION)
        for turn in range(10):
            store.promote(MODEL, alias, str(turn % 2 + 1))

    threads = [
        threading.Thread(target=promote, args=(alias,)) for alias in ("production", "canary")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert bucket.aliases(MODEL) == {"production": "2", "canary": "2"}


def test_a_changed_object_is_found(
    bucket: ModelStore, files: fsspec.AbstractFileSystem, candidate_of: CandidateOf, now: datetime
) -> None:
    """Changed, truncated and missing objects are told apart."""
    bucket.publish(candidate_of(1), accept, now=now)
    path = f"{bucket.version_uri(MODEL, '1')}/model.pt"
    whole = files.cat_file(path)

    files.pipe_file(path, b"x" + whole[1:])
    with pytest.raises(ArtifactCorrupted, match=r"^model\.pt: expected SHA-256"):
        bucket.verify(MODEL, "1")
    files.pipe_file(path, whole[:-1])
    with pytest.raises(ArtifactCorrupted, match=r"^model\.pt: expected 3000 bytes"):
        bucket.verify(MODEL, "1")
    files.rm_file(path)
    with pytest.raises(
        ArtifactCorrupted, match=r"^model\.pt: expected in s3://.*, got no such file"
    ):
        bucket.verify(MODEL, "1")


def test_a_publisher_killed_before_any_of_its_calls_leaves_nothing_half(
    bucket: ModelStore, files: fsspec.AbstractFileSystem, candidate_of: CandidateOf
) -> None:
    """Killed before the first, the second, … the last call; an hour later all is cleaned up."""
    result = read_while_publishers_die(bucket, "--everywhere")

    assert result["killed"] >= 10
    unfinished = spent_or_unfinished(files, bucket)
    assert len(unfinished) == 2
    later = datetime.now(UTC) + ABANDONED_AFTER + timedelta(minutes=1)
    before = bucket.versions(MODEL)
    version = bucket.publish(candidate_of(1), accept, now=later).version
    assert bucket.versions(MODEL) == [*before, version]
    for number in unfinished:
        uri = f"{LOCATION}/{MODEL}/{number}"
        assert [path.rpartition("/")[2] for path in files.find(uri)] == ["metadata.json"]
        with pytest.raises(VersionNotFound):
            bucket.show(MODEL, number)


def test_publishers_killed_at_random_are_never_seen_half(bucket: ModelStore) -> None:
    """Ten publishers die at random moments while a reader polls."""
    result = read_while_publishers_die(bucket, "--kills", "10")

    assert result["killed"] == 10


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_hundred_publishers_killed_at_random_are_never_seen_half(bucket: ModelStore) -> None:
    """The same a hundred times."""
    result = read_while_publishers_die(bucket, "--kills", "100", "--seed", "2")

    assert result["killed"] == 100
    assert result["versions"] >= 10


def read_while_publishers_die(store: ModelStore, *arguments: str) -> dict[str, int]:
    """Verify everything that can be seen until the last publisher is dead."""
    seen: list[str] = []
    production = reads = 0
    with subprocess.Popen(
        [sys.executable, str(HERE / "publisher.py"), LOCATION, *arguments],
        stdout=subprocess.PIPE,
        text=True,
    ) as publishers:
        try:
            while publishers.poll() is None:
                versions = store.versions(MODEL)
                assert versions[: len(seen)] == seen, "a published version went away"
                for version in [*versions[len(seen) :], *versions[-1:]]:
                    store.verify(MODEL, version)
                seen = versions
                alias = store.aliases(MODEL).get("production")
                if alias is not None:
                    assert int(alias) >= production, "an alias went back"
                    production = int(alias)
                reads += 1
            output = publishers.stdout.read() if publishers.stdout else ""
        finally:
            publishers.kill()
    assert publishers.returncode == 0
    assert reads >= 5
    result: dict[str, int] = json.loads(output)
    return result


def spent_or_unfinished(files: fsspec.AbstractFileSystem, store: ModelStore) -> list[str]:
    """Numbers that have objects and are no version."""
    start = len(f"{LOCATION}/{MODEL}/") - len("s3://")
    numbers = {path[start:].partition("/")[0] for path in files.find(f"{LOCATION}/{MODEL}")}
    return sorted(numbers - {"aliases.json"} - set(store.versions(MODEL)))


def test_a_bucket_that_is_not_there_is_named(
    environment: None, candidate_of: CandidateOf, now: datetime
) -> None:
    """A misspelt address is an error, not an empty store."""
    store = open_store("s3://no-such-bucket-here/models")
    expected = r"store s3://no-such-bucket-here/models: expected an existing bucket"

    with pytest.raises(InvalidRequest, match=expected):
        store.versions(MODEL)
    with pytest.raises(InvalidRequest, match=expected):
        store.models()
    with pytest.raises(InvalidRequest, match=expected):
        store.publish(candidate_of(1), accept, now=now)


def test_a_server_that_is_not_there_is_unavailable(
    monkeypatch: pytest.MonkeyPatch, candidate_of: CandidateOf, now: datetime
) -> None:
    """The caller may try again; nothing is taken for an empty store."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{closed.getsockname()[1]}")
    store = open_store(LOCATION)

    with pytest.raises(Unavailable, match=r"^store s3://.*: expected an answer of S3, got "):
        store.versions(MODEL)
    with pytest.raises(Unavailable):
        store.publish(candidate_of(1), accept, now=now)


def test_missing_credentials_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Trying again would not help."""
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")

    with pytest.raises(
        InvalidRequest, match=r"expected access to it, got .* check the credentials"
    ):
        open_store(LOCATION).versions(MODEL)


def test_the_command_speaks_s3(
    bucket: ModelStore,
    candidate_of: CandidateOf,
    now: datetime,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """`nimbusguard models` works on an address as on a folder."""
    from nimbusguard.cli import main

    bucket.publish(candidate_of(1), accept, now=now)

    assert main(["models", "promote", "latest", "--store", LOCATION]) == 0
    assert main(["models", "resolve", "production", "--store", LOCATION]) == 0

    assert capsys.readouterr().out.splitlines() == [
        "production: version 1 (before: none)",
        f"{LOCATION}/{MODEL}/1",
    ]
