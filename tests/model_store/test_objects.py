"""The rules of a store without rename, on objects in memory that fail at any step."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from model_store.objects import ABANDONED_AFTER, Listed, ObjectFolder
from model_store.store import Candidate, ModelStore
from nimbusguard.contract.errors import InvalidRequest, Unavailable, VersionNotFound

MODEL = "nimbusguard-dqn"
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
LATER = NOW + ABANDONED_AFTER + timedelta(seconds=1)
CandidateOf = Callable[..., Candidate]


class Killed(BaseException):
    """Ends a publisher where it stands; no handler of errors sees it."""


class Memory:
    """Objects in memory; dies before its n-th write if it is told to."""

    def __init__(self) -> None:
        self.content: dict[str, bytes] = {}
        self.modified: dict[str, datetime] = {}
        self.now = NOW
        self.writes_left: int | None = None
        self.before_replace: Callable[[], None] = lambda: None

    uri = "s3://bucket/models"

    def folders(self) -> list[str]:
        return sorted({key.partition("/")[0] for key in self.content})

    def below(self, folder: str) -> list[Listed]:
        return [
            Listed(key, len(content), self.modified[key])
            for key, content in self.content.items()
            if key.startswith(f"{folder}/")
        ]

    def read(self, key: str) -> bytes:
        if key not in self.content:
            raise FileNotFoundError(key)
        return self.content[key]

    def tag(self, key: str) -> str | None:
        return str(hash(self.content[key])) if key in self.content else None

    def create(self, key: str, content: bytes) -> None:
        if key in self.content:
            self._count()
            raise FileExistsError(key)
        self._write(key, content)

    def replace(self, key: str, content: bytes, tag: str) -> bool:
        self.before_replace()
        if self.tag(key) != tag:
            return False
        self._write(key, content)
        return True

    def delete(self, key: str) -> None:
        self._count()
        self.content.pop(key, None)

    def _write(self, key: str, content: bytes) -> None:
        self._count()
        self.content[key] = content
        self.modified[key] = self.now

    def _count(self) -> None:
        if self.writes_left is not None:
            if self.writes_left == 0:
                raise Killed
            self.writes_left -= 1


def accept(_: object) -> None:
    """A check that finds nothing wrong."""


@pytest.fixture
def memory() -> Memory:
    return Memory()


@pytest.fixture
def folder(memory: Memory) -> ModelStore:
    return ModelStore(ObjectFolder(memory))


def test_a_version_is_published_with_its_metadata_last(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """The order of writing is what makes it atomic, so the order is a fact."""
    folder.publish(candidate_of(1), accept, now=NOW)

    assert list(memory.content) == [
        f"{MODEL}/1/model.onnx",
        f"{MODEL}/1/model.pt",
        f"{MODEL}/1/metadata.json",
    ]
    assert folder.verify(MODEL, "1").files == candidate_of(1).files
    assert folder.version_uri(MODEL, "1") == f"s3://bucket/models/{MODEL}/1"


@pytest.mark.parametrize("writes", [0, 1, 2])
def test_a_publisher_killed_before_any_write_leaves_no_version(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf, writes: int
) -> None:
    """A reader sees the versions from before, and the next publisher takes another number."""
    folder.publish(candidate_of(1), accept, now=NOW)
    memory.writes_left = writes

    with pytest.raises(Killed):
        folder.publish(candidate_of(2), accept, now=NOW)

    memory.writes_left = None
    assert folder.versions(MODEL) == ["1"]
    with pytest.raises(VersionNotFound):
        folder.verify(MODEL, "2")
    version = folder.publish(candidate_of(3), accept, now=NOW).version
    assert version == ("2" if writes == 0 else "3")
    assert folder.verify(MODEL, version).files == candidate_of(3).files


@pytest.mark.parametrize("writes", [1, 2])
def test_leftovers_are_removed_an_hour_later_and_their_number_is_spent(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf, writes: int
) -> None:
    """Not before, because the publisher may live; never reused, because it may still."""
    memory.writes_left = writes
    with pytest.raises(Killed):
        folder.publish(candidate_of(1), accept, now=NOW)
    memory.writes_left = None
    left = dict(memory.content)

    folder.publish(candidate_of(2), accept, now=NOW + ABANDONED_AFTER / 2)
    assert {key: memory.content[key] for key in left} == left

    folder.publish(candidate_of(3), accept, now=LATER)
    assert not left.keys() & memory.content.keys()
    assert memory.content[f"{MODEL}/1/metadata.json"] == b""
    assert folder.versions(MODEL) == ["2", "3"]
    with pytest.raises(VersionNotFound):
        folder.show(MODEL, "1")
    with pytest.raises(InvalidRequest, match="version 1 exists"):
        folder.publish(candidate_of(4), accept, now=LATER, version="1")


def test_a_slow_publisher_that_was_taken_for_dead_is_refused_at_its_last_step(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """It can then no longer make half a version of what is left."""
    slow = candidate_of(1)
    backend = ObjectFolder(memory)
    create = memory.create

    def interrupted(key: str, content: bytes) -> None:
        if key.endswith("metadata.json") and content:
            memory.create = create  # type: ignore[method-assign]
            backend.clean(MODEL, LATER)
        create(key, content)

    memory.create = interrupted  # type: ignore[method-assign]

    with pytest.raises(InvalidRequest, match="version 1 exists"):
        folder.publish(slow, accept, now=NOW, version="1")

    assert folder.versions(MODEL) == []
    assert list(memory.content) == [f"{MODEL}/1/metadata.json"]


def test_what_a_slow_publisher_adds_to_a_spent_number_is_removed_too(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """A spent number never becomes a version, so its objects need no hour."""
    memory.content[f"{MODEL}/1/metadata.json"] = b""
    memory.modified[f"{MODEL}/1/metadata.json"] = NOW
    memory.create(f"{MODEL}/1/model.pt", b"late")

    folder.publish(candidate_of(1), accept, now=NOW)

    assert f"{MODEL}/1/model.pt" not in memory.content
    assert folder.versions(MODEL) == ["2"]


def test_a_cleaner_that_is_killed_leaves_nothing_half(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """Between the spent number and the last deletion any step may be its last."""
    for writes in range(4):
        memory.content.clear()
        memory.writes_left = 2
        with pytest.raises(Killed):
            folder.publish(candidate_of(1), accept, now=NOW)
        memory.writes_left = writes
        with pytest.raises(Killed):
            folder.publish(candidate_of(2), accept, now=LATER)

        memory.writes_left = None
        assert folder.versions(MODEL) == []
        version = folder.publish(candidate_of(3), accept, now=LATER).version
        assert folder.verify(MODEL, version).files == candidate_of(3).files


def test_a_publisher_that_finishes_before_the_cleaner_keeps_its_version(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """Listed as unfinished, then finished: the condition decides, not the listing."""
    memory.writes_left = 2
    with pytest.raises(Killed):
        folder.publish(candidate_of(1), accept, now=NOW)
    memory.writes_left = None
    create = memory.create

    def finished_meanwhile(key: str, content: bytes) -> None:
        memory.content[key] = b"{}"
        create(key, content)

    memory.create = finished_meanwhile  # type: ignore[method-assign]

    assert ObjectFolder(memory).clean(MODEL, LATER) == []
    assert sorted(memory.content) == [
        f"{MODEL}/1/{file}" for file in ("metadata.json", "model.onnx", "model.pt")
    ]


def test_published_versions_are_never_cleaned(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """Age alone removes nothing."""
    folder.publish(candidate_of(1), accept, now=NOW)

    assert ObjectFolder(memory).clean(MODEL, NOW + timedelta(days=3650)) == []
    assert folder.verify(MODEL, "1").files == candidate_of(1).files


def test_a_lost_answer_does_not_lose_the_publication(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """A retried write that meets its own object goes on."""
    candidate = candidate_of(1)
    memory.create(f"{MODEL}/1/model.onnx", candidate.files["model.onnx"])

    folder.publish(candidate, accept, now=NOW, version="1")

    assert folder.verify(MODEL, "1").files == candidate.files


def test_a_rival_with_other_bytes_is_refused_at_its_first_object(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """The number belongs to whoever wrote first, and nothing of theirs is overwritten."""
    memory.create(f"{MODEL}/1/model.onnx", b"of the first")

    with pytest.raises(InvalidRequest, match=r"version 1 exists .* or is being published"):
        folder.publish(candidate_of(1), accept, now=NOW, version="1")

    assert memory.content == {f"{MODEL}/1/model.onnx": b"of the first"}


def test_a_promotion_that_was_overtaken_is_repeated_on_what_it_finds(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """The alias that somebody else set meanwhile is kept."""
    folder.publish(candidate_of(1), accept, now=NOW)
    folder.promote(MODEL, "canary", "1")
    key = f"{MODEL}/aliases.json"

    def overtake() -> None:
        memory.before_replace = lambda: None
        memory.content[key] = b'{"canary": "1", "other": "9"}'

    memory.before_replace = overtake

    assert folder.promote(MODEL, "production", "1") is None
    assert folder.aliases(MODEL) == {"canary": "1", "other": "9", "production": "1"}


def test_the_first_promotion_may_be_overtaken_as_well(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """Creating the aliases is a race like replacing them."""
    folder.publish(candidate_of(1), accept, now=NOW)
    create = memory.create

    def overtaken(key: str, content: bytes) -> None:
        memory.create = create  # type: ignore[method-assign]
        create(key, b'{"canary": "1"}')
        create(key, content)

    memory.create = overtaken  # type: ignore[method-assign]

    folder.promote(MODEL, "production", "1")

    assert folder.aliases(MODEL) == {"canary": "1", "production": "1"}


def test_a_promotion_that_is_always_overtaken_gives_up(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """It ends with an error, not in a loop."""
    folder.publish(candidate_of(1), accept, now=NOW)
    folder.promote(MODEL, "production", "1")
    counter = iter(range(1_000_000))

    def overtake() -> None:
        memory.content[f"{MODEL}/aliases.json"] = b'{"x": "%d"}' % (next(counter) + 1)

    memory.before_replace = overtake

    with pytest.raises(Unavailable, match="aliases in s3://bucket/models changed 100 times"):
        folder.promote(MODEL, "production", "1")


def test_a_publisher_that_never_finds_a_free_number_gives_up(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """As above, for numbers."""

    def taken(key: str, content: bytes) -> None:
        raise FileExistsError(key)

    memory.create = taken  # type: ignore[method-assign]

    with pytest.raises(Unavailable, match=r"no free version .* after 100 tries"):
        folder.publish(candidate_of(1), accept, now=NOW)


def test_fetching_makes_a_local_store_of_what_was_asked_for(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf, tmp_path: Path
) -> None:
    """The folder is a version of a local store; a second time nothing is written."""
    folder.publish(candidate_of(1), accept, now=NOW)

    first = folder.fetch(MODEL, "latest", tmp_path)
    second = folder.fetch(MODEL, "1", tmp_path)

    assert first == second == tmp_path / MODEL / "1"
    assert (first / "metadata.json").read_bytes() == memory.content[f"{MODEL}/1/metadata.json"]
    assert (first / "model.pt").read_bytes() == candidate_of(1).files["model.pt"]


def test_other_objects_below_a_model_are_no_versions(
    memory: Memory, folder: ModelStore, candidate_of: CandidateOf
) -> None:
    """Only numbers count."""
    for key in ("notes.txt", "v1/metadata.json", "01/metadata.json", "1"):
        memory.create(f"{MODEL}/{key}", b"{}")
    memory.create("other-model/readme.md", b"")

    assert folder.versions(MODEL) == []
    assert folder.models() == []
    assert folder.publish(candidate_of(1), accept, now=NOW).version == "1"
