"""Builds the images without a Docker engine: Debian's debootstrap, buildah and podman, as root.

The base image is made from the machine's own Debian mirror, the build uses the machine's own pip
configuration: both are found out here, so that nothing about a machine stands in the Dockerfiles.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("buildah", "podman", "runc", "debootstrap", "catatonit", "haproxy")
PREFIX = "localhost/nimbusguard"
VERSION = "0.1.0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """One image that was built.

    Attributes:
        reference: Name and tag in podman's storage.
        bytes_over_base: Unpacked size less the unpacked size of the base.
        seconds: What the build took; little when the layers were cached.
    """

    reference: str
    bytes_over_base: int
    seconds: float


def run(*command: str, timeout: float = 600, stdin: int | None = None) -> str:
    """Run a program to its end and give back what it printed; its errors are the failure's text."""
    result = subprocess.run(
        command, capture_output=True, text=True, timeout=timeout, check=False, stdin=stdin
    )
    assert result.returncode == 0, (
        f"{shlex.join(command)}\n{result.stdout[-2000:]}{result.stderr[-4000:]}"
    )
    return result.stdout


def ensure_tools() -> None:
    """Install what is missing.

    Raises:
        RuntimeError: That is not possible here.
    """
    missing = [name for name in PACKAGES if not shutil.which(name)]
    if os.geteuid() != 0:
        raise RuntimeError("building images without an engine needs root")
    if missing and not shutil.which("apt-get"):
        raise RuntimeError(f"{', '.join(missing)}: not installed, and this is no Debian")
    if missing:
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for step in (["update"], ["install", "-y", "--no-install-recommends", *PACKAGES]):
            subprocess.run(
                ["apt-get", "-q", *step],
                env=environment,
                check=True,
                capture_output=True,
                timeout=600,
            )


def suite() -> str:
    """The Debian release of this machine, which is the one that its mirror surely has."""
    release = Path("/etc/os-release").read_text()
    found = re.search(r"^VERSION_CODENAME=(\w+)$", release, re.MULTILINE)
    return found[1] if found else "bookworm"


def mirror() -> str:
    """Where this machine gets its Debian packages from."""
    listed = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    return listed.split("\n", 1)[0]


def base_image(directory: Path) -> str:
    """A minimal Debian with Python, imported once into podman's storage.

    Args:
        directory: Where the root file system may be unpacked while it is imported.
    """
    reference = f"{PREFIX}-base:{suite()}"
    known = subprocess.run(["podman", "image", "exists", reference], check=False)
    if known.returncode == 0:
        return reference
    root = directory / "root"
    run(
        "debootstrap",
        "--variant=minbase",
        "--include=python3,python3-venv,ca-certificates",
        suite(),
        str(root),
        mirror(),
    )
    with subprocess.Popen(["tar", "-C", str(root), "-c", "."], stdout=subprocess.PIPE) as packed:
        assert packed.stdout is not None
        run("podman", "import", "-q", "-", reference, stdin=packed.stdout.fileno())
    assert packed.returncode == 0
    shutil.rmtree(root)
    return reference


def pip_settings() -> dict[str, str]:
    """This machine's pip configuration, environment over files, by plain option name."""
    listed = run(sys.executable, "-m", "pip", "config", "list")
    settings: dict[str, str] = {}
    for line in sorted(listed.splitlines(), key=lambda line: line.startswith(":env:")):
        if found := re.fullmatch(r"(?:global|install|:env:)\.([\w-]+)='(.*)'", line):
            settings[found[1]] = found[2]
    return settings


def pip_mounts(directory: Path) -> list[str]:
    """Arguments that give a build this machine's pip configuration and the folders it names."""
    settings = pip_settings()
    configuration = directory / "pip.conf"
    lines = "".join(f"{name} = {value}\n" for name, value in settings.items())
    configuration.write_text(f"[global]\n{lines}")
    mounts = {str(configuration): "/etc/pip.conf"}
    for value in " ".join(settings.values()).split():
        path = Path(value.removeprefix("file://"))
        if path.is_absolute() and path.exists():
            # An index is a folder of links to the files beside it.
            folder = path.parent if value.startswith("file://") else path
            mounts[str(folder)] = str(folder)
    return [part for source, to in mounts.items() for part in ("-v", f"{source}:{to}:ro")]


CHAINS = (("predictor", "training"), ("transformer", "autoscaler"))
"""Built side by side; within a chain the second finds the first's layers, torch among them."""

NAMES = tuple(name for chain in CHAINS for name in chain)


def build(name: str, base: str, mounts: list[str]) -> Built:
    """Build one of the Dockerfiles; unchanged layers come from the cache of earlier builds.

    Args:
        name: One of `NAMES`.
        base: Image that both stages stand on.
        mounts: From `pip_mounts`.
    """
    reference = f"{PREFIX}/{name}:{VERSION}"
    started = time.perf_counter()
    run(
        "buildah",
        "build",
        "--layers",
        "--isolation",
        "chroot",
        "--network",
        "host",
        "--build-arg",
        f"BASE_IMAGE={base}",
        "--build-arg",
        "TORCH_INDEX_URL=",
        *mounts,
        "-f",
        str(ROOT / f"Dockerfile.{name}"),
        "-t",
        reference,
        str(ROOT),
        timeout=1800,
    )
    seconds = time.perf_counter() - started
    return Built(
        reference=reference,
        bytes_over_base=_size(reference) - _size(base),
        seconds=seconds,
    )


@cache
def build_all(names: tuple[str, ...] = NAMES) -> dict[str, Built]:
    """Images by name, once in a process.

    Args:
        names: Of `NAMES`.

    Raises:
        RuntimeError: This machine cannot build any.
    """
    ensure_tools()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(len(CHAINS)) as pool:
        base = base_image(Path(folder))
        mounts = pip_mounts(Path(folder))

        def build_chain(chain: tuple[str, ...]) -> dict[str, Built]:
            return {name: build(name, base, mounts) for name in chain if name in names}

        return {k: v for chain in pool.map(build_chain, CHAINS) for k, v in chain.items()}


def inspect(reference: str) -> dict[str, object]:
    """What podman knows of an image."""
    (found,) = json.loads(run("podman", "image", "inspect", reference))
    return dict(found)


def _size(reference: str) -> int:
    size = inspect(reference)["Size"]
    assert isinstance(size, int)
    return size
