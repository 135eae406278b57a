"""`nimbusguard explain` without a server, and its bars."""

from __future__ import annotations

from pathlib import Path

import pytest

from nimbusguard.cli import main
from nimbusguard.client.endpoint import Endpoint
from nimbusguard.commands.explain import bar


@pytest.mark.parametrize(
    ("share", "line"),
    [
        (1.0, "    │████"),
        (0.5, "    │██"),
        (0.53125, "    │██▏"),
        (0.0, "    │"),
        (-0.5, "  ██│"),
        (-1.0, "████│"),
    ],
)
def test_a_bar_goes_to_the_side_of_its_sign(share: float, line: str) -> None:
    """To an eighth of a character to the right, to a whole one to the left."""
    assert bar(share, width=4) == line


def test_explanations_are_asked_for_beside_predictions() -> None:
    """On the same model of the same server."""
    url = Endpoint.parse("http://127.0.0.1:8080/v1/models/m:predict").explain_url

    assert url == "http://127.0.0.1:8080/v1/models/m:explain"


def test_without_a_server_the_command_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the address that was tried, and exit status 1."""
    payload = tmp_path / "payload.json"
    payload.write_text("[0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]")

    status = main(["explain", str(payload), "--endpoint", "http://127.0.0.1:1"])

    assert status == 1
    assert "http://127.0.0.1:1/v1/models/" in capsys.readouterr().err
