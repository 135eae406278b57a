"""Fixtures of the live tests: one stack and one run through low, high and low load for all."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.live.phases import Phases, run_phases
from tests.live.services import Services
from tests.live.stack import LiveStack


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveStack]:
    """Two pods of `web` and one of `web-admin`, watched by Prometheus, without load."""
    with LiveStack(folder=tmp_path_factory.mktemp("live")) as live:
        live.scale("web", 2)
        live.scale("web-admin", 1)
        yield live


@pytest.fixture(scope="session")
def services(stack: LiveStack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Transformer and predictor, as `nimbusguard serve` starts them, with that Prometheus."""
    log = tmp_path_factory.mktemp("services") / "serve.log"
    with Services(prometheus=stack.endpoint, log=log) as running:
        yield running


@pytest.fixture(scope="session")
def phases(stack: LiveStack, services: Services) -> Phases:
    """What was measured and decided under low, high and low load again."""
    return run_phases(stack, services)
