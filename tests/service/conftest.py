"""What every test against a real server owes: it leaves no complaint in the server's log."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.service.processes import Server

_SERVERS = ("predictor", "transformer", "grpc_hop_transformer")


@pytest.fixture(autouse=True)
def quiet_logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """No warning, no error, no traceback, no line that is not JSON."""
    fixtures = (*_SERVERS, "either_service", "either_transformer")
    servers: list[Server] = [
        request.getfixturevalue(name) for name in fixtures if name in request.fixturenames
    ]

    yield

    for server in servers:
        assert server.complaints() == [], f"in the log of the {server.module}"
