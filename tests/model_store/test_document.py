"""`docs/model-store.md` says what is so: its commands run, its figures are those of the package."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from model_store.objects import ABANDONED_AFTER
from model_store.packaged import packaged_path, packaged_store
from nimbusguard.cli import main

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs" / "model-store.md").read_text(encoding="utf-8")


def test_the_commands_print_what_the_page_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The transcript, line by line, with the packaged version 1 as production."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "300")
    block = re.search(r"```console\n(.*?)```", DOCUMENT, re.DOTALL)
    assert block is not None
    version = packaged_store().resolve("nimbusguard-dqn", "production")
    shown = (
        block[1].replace("PACKAGE", str(packaged_path().parents[1])).replace("HERE", str(tmp_path))
    )
    shown = shown.replace("default/nimbusguard-dqn/1\n", f"default/nimbusguard-dqn/{version}\n")

    for step in shown.split("$ nimbusguard ")[1:]:
        command, _, expected = step.partition("\n")
        assert main(shlex.split(command)) == 0, command
        assert capsys.readouterr().out.startswith(expected.rstrip("\n")), command


def test_the_figures_of_the_default_model_are_those_of_its_metadata() -> None:
    """The table of agreement is not from another run."""
    figures = packaged_store().show("nimbusguard-dqn", "1").evaluation["agreement_with_hpa"]

    shown = re.findall(r"^\| .* \| (\d+\.\d+) % \|$", DOCUMENT, re.MULTILINE)

    assert shown == [f"{100 * entry['agreement']:.2f}" for entry in figures.values()]
    assert all(entry["opposite"] == 0 for entry in figures.values())


def test_the_hour_of_the_page_is_the_hour_of_the_code() -> None:
    """How long an unfinished version in S3 is left alone."""
    assert ABANDONED_AFTER.total_seconds() == 3600
    assert "An hour after its last object" in DOCUMENT
