"""Fixtures that several folders share: the real servers, started once for a whole run."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import settings

from tests.service.processes import Server, running

# The same examples every time, on a machine of any speed, and nothing written into the source tree.
settings.register_profile("steady", derandomize=True, deadline=None, database=None)
settings.load_profile("steady")


@pytest.fixture(scope="session")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A predictor with the packaged model."""
    log = tmp_path_factory.mktemp("predictor") / "log.jsonl"
    with running("predictor", log) as server:
        yield server


@pytest.fixture(scope="session")
def transformer(predictor: Server, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A transformer in front of it, with the default hop: V2 REST."""
    log = tmp_path_factory.mktemp("transformer") / "log.jsonl"
    with running("transformer", log, f"--predictor_host=127.0.0.1:{predictor.http_port}") as server:
        yield server


@pytest.fixture(scope="session")
def grpc_hop_transformer(
    predictor: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    """A transformer whose hop is V2 gRPC."""
    log = tmp_path_factory.mktemp("grpc-hop-transformer") / "log.jsonl"
    flags = (f"--predictor_host={predictor.grpc_target}", "--predictor_protocol=grpc-v2")
    with running("transformer", log, *flags) as server:
        yield server


@pytest.fixture(params=["v2", "grpc-v2"])
def either_transformer(request: pytest.FixtureRequest) -> Server:
    """The transformer with each of its two hops."""
    name = "transformer" if request.param == "v2" else "grpc_hop_transformer"
    server: Server = request.getfixturevalue(name)
    return server


@pytest.fixture(params=["predictor", "transformer"])
def either_service(request: pytest.FixtureRequest) -> Server:
    """Each of the two services."""
    server: Server = request.getfixturevalue(request.param)
    return server
