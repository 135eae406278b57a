"""A publisher dies at any moment; a reader sees the old state or the new one, never half."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from model_store.store import Candidate, ModelStore, open_store
from nimbusguard.contract.errors import InvalidRequest

MODEL = "nimbusguard-dqn"
PUBLISHER = Path(__file__).with_name("publisher.py")


def leftovers(root: Path) -> list[str]:
    return [entry.name for entry in (root / MODEL).iterdir() if entry.name.startswith(".")]


def read_while_publishers_die(root: Path, *arguments: str) -> tuple[dict[str, int], int]:
    """Start publishers that are killed, and verify what can be seen until the last is dead.

    Returns:
        What the process of publishers printed, and how often the store was read meanwhile.
    """
    store = open_store(root)
    seen: list[str] = []
    production = 0
    reads = 0
    with subprocess.Popen(
        [sys.executable, str(PUBLISHER), str(root), *arguments], stdout=subprocess.PIPE, text=True
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
                    store.verify(MODEL, alias)
                reads += 1
            output = publishers.stdout.read() if publishers.stdout else ""
        finally:
            publishers.kill()
    assert publishers.returncode == 0
    result: dict[str, int] = json.loads(output)
    return result, reads


def require_clean(root: Path, candidate: Candidate, now: datetime) -> None:
    """What the dead left is removed by the next publisher, and nothing else is."""
    store = open_store(root)
    before = store.versions(MODEL)

    version = store.publish(candidate, lambda _: None, now=now).version
    store.promote(MODEL, "production", version)

    assert store.versions(MODEL) == [*before, version]
    assert leftovers(root) == []


def test_a_publisher_killed_before_any_of_its_file_events_leaves_nothing_half(
    tmp_path: Path, candidate_of: Callable[..., Candidate], now: datetime
) -> None:
    """Killed before the first, the second, … the last touch of a file: the store is whole."""
    result, _ = read_while_publishers_die(tmp_path, "--everywhere")

    assert result["killed"] >= 20
    require_clean(tmp_path, candidate_of(5), now)


def test_a_publisher_killed_at_random_is_never_seen_half(
    tmp_path: Path, candidate_of: Callable[..., Candidate], now: datetime
) -> None:
    """Fifty publishers die while a reader polls, at any moment of their work."""
    result, reads = read_while_publishers_die(tmp_path, "--kills", "50", "--seed", "1")

    assert result["killed"] == 50
    assert result["versions"] >= 5
    assert reads >= 5
    require_clean(tmp_path, candidate_of(5), now)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("seed", [2, 3, 4])
def test_five_hundred_publishers_killed_at_random_are_never_seen_half(
    tmp_path: Path, seed: int, candidate_of: Callable[..., Candidate], now: datetime
) -> None:
    """The same five hundred times, from three seeds."""
    result, reads = read_while_publishers_die(tmp_path, "--kills", "500", "--seed", str(seed))

    assert result["killed"] == 500
    assert result["versions"] >= 50
    assert reads >= 50
    require_clean(tmp_path, candidate_of(5), now)


def test_a_living_publisher_is_not_taken_for_a_dead_one(
    store: ModelStore, tmp_path: Path, candidate_of: Callable[..., Candidate], now: datetime
) -> None:
    """What a publisher is still writing survives the publication of another."""
    slow, fast = candidate_of(1), candidate_of(2)
    root = tmp_path / "store" / MODEL
    in_work: list[list[str]] = []

    def overtaken(file: object) -> None:
        """Publish another version while this one is written aside."""
        if not in_work:
            in_work.append(leftovers(tmp_path / "store"))
            store.publish(fast, lambda _: None, now=now)
            in_work.append(leftovers(tmp_path / "store"))

    with pytest.MonkeyPatch.context() as patch:
        sync = os.fsync
        patch.setattr(os, "fsync", lambda file: (overtaken(file), sync(file))[1])
        root.mkdir(parents=True)
        version = store.publish(slow, lambda _: None, now=now).version

    assert in_work[0] == in_work[1]
    assert store.versions(MODEL) == ["1", "2"]
    assert version == "2"
    assert leftovers(tmp_path / "store") == []


@pytest.mark.parametrize("moment", ["open", "flock"])
def test_a_folder_that_is_cleaned_before_it_is_locked_is_made_again(
    store: ModelStore,
    tmp_path: Path,
    candidate_of: Callable[..., Candidate],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
) -> None:
    """Between its creation and its lock a staging folder looks like a leftover."""
    module = os if moment == "open" else fcntl
    original = getattr(module, moment)
    removed: list[Path] = []

    def remove_first(*arguments: Any) -> Any:
        if not removed:
            removed.extend((tmp_path / "store" / MODEL).glob(".staging-*"))
            for folder in removed:
                folder.rmdir()
        return original(*arguments)

    (tmp_path / "store" / MODEL).mkdir(parents=True)
    monkeypatch.setattr(module, moment, remove_first)

    store.publish(candidate_of(1), lambda _: None, now=now)

    assert len(removed) == 1
    assert store.verify(MODEL, "1").files == candidate_of(1).files
    assert leftovers(tmp_path / "store") == []


def test_a_disk_that_fails_leaves_nothing_behind(
    store: ModelStore,
    tmp_path: Path,
    candidate_of: Callable[..., Candidate],
    now: datetime,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The error says where and why, and the staging folder is gone."""

    def fail(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(Path, "rename", fail)

    with pytest.raises(InvalidRequest, match=r"store .*: expected .*, got Input/output error"):
        store.publish(candidate_of(1), lambda _: None, now=now)

    assert store.versions(MODEL) == []
    assert leftovers(tmp_path / "store") == []
