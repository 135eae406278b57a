"""`--kubeconfig FILE` lets the same checks ask a cluster."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    """Known when this folder is named on the command line, as `make e2e` does."""
    parser.addoption("--kubeconfig", help="ask the cluster of this file as well")


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest) -> str:
    """The file; without one the test is skipped."""
    named: str | None = request.config.getoption("--kubeconfig", default=None)
    if not named:
        pytest.skip("no --kubeconfig was given")
    return named
