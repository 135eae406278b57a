"""Where a network comes from: the commit and the libraries that stand in its metadata."""

from __future__ import annotations

import shutil
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_TIMEOUT_S = 10.0


def git_commit(folder: Path) -> str | None:
    """The commit that a folder is checked out at, with `-dirty` if tracked files were changed.

    Returns:
        None outside a repository, or without git.
    """
    git = shutil.which("git")
    if git is None:
        return None
    described = subprocess.run(  # noqa: S603 - a fixed command line
        [git, "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    return described.stdout.strip() or None if described.returncode == 0 else None


def library_versions(*names: str) -> dict[str, str | None]:
    """Installed version of each distribution; None if it is not installed."""
    versions: dict[str, str | None] = {}
    for name in names:
        try:
            versions[name] = version(name)
        except PackageNotFoundError:
            versions[name] = None
    return versions
