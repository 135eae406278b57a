"""A process of publishers that are killed: each is forked, publishes and promotes until it dies.

::

    publisher.py STORE --kills 100                   each is killed after a random time, up to
                                                     three times what a publication takes here
    publisher.py STORE --everywhere                  the n-th is killed before its n-th step: a file
                                                     event, or a call to S3

After every kill the store is read as a stranger would: each version that is listed must verify, and
`production` must lead to one of them. Prints one JSON object when it is done.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np

from model_store.metadata import Draft, Network
from model_store.store import Candidate, ModelStore, open_store
from nimbusguard.contract.fingerprint import action_table, feature_table

MODEL = "nimbusguard-dqn"
FILE_EVENTS = frozenset(
    {"open", "os.mkdir", "os.rename", "os.rmdir", "os.remove", "os.scandir", "os.listdir"}
    | {"fcntl.flock", "shutil.rmtree"}
)


def candidate(seed: int) -> Candidate:
    """Files of random bytes, others for every seed."""
    rng = np.random.default_rng(seed)
    draft = Draft(
        name=MODEL,
        features=tuple(feature_table()),
        actions=tuple(action_table()),
        network=Network(layers=(11, 5), weights=f"sha256:{seed}"),
        training={"algorithm": "none", "seed": seed},
        evaluation={"gate": {"passed": True}},
    )
    files = {"model.pt": rng.bytes(40_000), "model.onnx": rng.bytes(30_000)}
    return Candidate(draft=draft, files=files)


def publish_and_promote(store: ModelStore, seed: int) -> None:
    """One version more, and production on it."""
    metadata = store.publish(candidate(seed), lambda _: None, now=datetime.now(UTC))
    store.promote(MODEL, "production", metadata.version)


def require_whole(store: ModelStore) -> list[str]:
    """The versions a reader sees; raises if one of them, or the alias, is half."""
    aliases = store.aliases(MODEL)
    versions = store.versions(MODEL)
    for version in versions:
        store.verify(MODEL, version)
    if aliases and aliases["production"] not in versions:
        message = f"production points to {aliases['production']}, published are {versions}"
        raise AssertionError(message)
    return versions


def killed(work: Callable[[ModelStore], None], location: str, after_s: float | None) -> bool:
    """Run `work` in a child; whether a signal ended it, ours after a time or its own.

    The time starts when the child has read the store once, so that it dies while it writes and not
    while it connects.
    """
    readable, writable = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            store = open_store(location)
            store.versions(MODEL)
            os.close(writable)
            work(store)
            status = 0
        finally:
            if status:
                traceback.print_exc()
            os._exit(status)  # never back into the loop of the parent
    os.close(writable)
    os.read(readable, 1)  # returns when the child has closed its end
    os.close(readable)
    if after_s is not None:
        time.sleep(after_s)  # the moment of the kill is what is drawn at random
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    if status != 0 and not os.WIFSIGNALED(status):
        message = f"a publisher failed with status {status}"
        raise AssertionError(message)
    return os.WIFSIGNALED(status)


def kill_at_random(location: str, kills: int, seed: int) -> dict[str, int]:
    rng = np.random.default_rng(seed)
    store = open_store(location)
    store.versions(MODEL)
    start = time.perf_counter()
    publish_and_promote(store, kills)
    longest_s = 3.0 * (time.perf_counter() - start)

    def work(store: ModelStore, first: int) -> None:
        for number in range(first, sys.maxsize, 1_000_000):
            publish_and_promote(store, number)

    count = 0
    for number in range(kills):
        after_s = float(rng.uniform(0.0, longest_s))
        count += killed(lambda store, first=number: work(store, first), location, after_s)
        versions = store.versions(MODEL)
        if versions:
            store.verify(MODEL, versions[-1])
    return {"killed": count, "versions": len(require_whole(store))}


def die_at_file_event(number: int) -> None:
    """From now on: SIGKILL to this process just before its n-th file event."""
    left = number

    def hook(name: str, _: object) -> None:
        nonlocal left
        if name not in FILE_EVENTS:
            return
        left -= 1
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(hook)


def die_at_s3_call(number: int) -> None:
    """The same before the n-th call to S3."""
    from model_store.s3 import S3Objects

    left = number

    def counted(call: Callable[..., object]) -> Callable[..., object]:
        def counting(*arguments: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*arguments)

        return counting

    for name in ("below", "read", "tag", "create", "replace", "delete"):
        setattr(S3Objects, name, counted(getattr(S3Objects, name)))


def kill_everywhere(location: str) -> dict[str, int]:
    """Kill at the first step, at the second, and so on, until one comes to its end."""
    die_at = die_at_s3_call if location.startswith("s3://") else die_at_file_event
    store = open_store(location)
    publish_and_promote(store, 0)
    step = 0

    def work(store: ModelStore) -> None:
        die_at(step)
        publish_and_promote(store, step)

    before = require_whole(store)
    while True:
        step += 1
        if not killed(work, location, None):
            return {"killed": step - 1, "versions": len(require_whole(store))}
        after = require_whole(store)
        if after[: len(before)] != before or len(after) > len(before) + 1:
            message = f"step {step}: versions {before} became {after}"
            raise AssertionError(message)
        before = after


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("store")
    parser.add_argument("--everywhere", action="store_true")
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    if args.everywhere:
        result = kill_everywhere(args.store)
    else:
        result = kill_at_random(args.store, args.kills, args.seed)
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main()
