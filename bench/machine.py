"""Where, when and with what a result was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Final

from bench.processes import ROOT

_PACKAGES: Final = (
    "kserve",
    "torch",
    "numpy",
    "orjson",
    "uvicorn",
    "uvloop",
    "httptools",
    "fastapi",
    "httpx",
    "grpcio",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What a reader needs to judge a figure and to measure it again."""

    date: str
    """Passed in; nothing here reads a calendar."""
    command: str
    commit: str
    cores: int
    cpu: str
    memory_gib: float
    kernel: str
    load_average: float
    """Of the last minute when the run began; what it was while measuring stands in the cells."""
    versions: dict[str, str]


def provenance(*, date: str, command: str) -> Provenance:
    """Describe this machine, this checkout and this environment."""
    return Provenance(
        date=date,
        command=command,
        commit=commit(),
        cores=len(os.sched_getaffinity(0)),
        cpu=cpu_model(Path("/proc/cpuinfo").read_text()),
        memory_gib=memory_gib(Path("/proc/meminfo").read_text()),
        kernel=platform.release(),
        load_average=os.getloadavg()[0],
        versions={"python": platform.python_version(), "wrk": wrk_version()}
        | {name: metadata.version(name) for name in _PACKAGES},
    )


def cpu_model(cpuinfo: str) -> str:
    """The first model name of /proc/cpuinfo."""
    for line in cpuinfo.splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return "unknown"


def memory_gib(meminfo: str) -> float:
    """The total of /proc/meminfo, which counts in KiB.

    Raises:
        ValueError: It has no total.
    """
    for line in meminfo.splitlines():
        name, _, value = line.partition(":")
        if name == "MemTotal":
            return int(value.split()[0]) / 1024**2
    msg = "expected a line MemTotal in /proc/meminfo, found none"
    raise ValueError(msg)


def commit() -> str:
    """The short commit of the checkout, `+` behind it if tracked files differ from it."""
    short = _output("git", "rev-parse", "--short=10", "HEAD") or "unknown"
    changed = _output("git", "status", "--porcelain", "--untracked-files=no", "--", ":!bench")
    return short + ("+" if changed else "")


def wrk_version() -> str:
    """As `wrk` names itself, or `missing`."""
    words = _output("wrk", "--version").split()
    return words[1].removeprefix("debian/") if len(words) > 1 else "missing"


def _output(*command: str) -> str:
    """The first line a command prints, whatever its status; empty if it does not exist."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return ""
    return done.stdout.strip().partition("\n")[0]
