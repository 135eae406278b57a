"""Fixtures of the client's tests."""

from __future__ import annotations

from typing import Any

import pytest

from tests.client.harness import ROW, Caller


@pytest.fixture(params=["async", "sync"])
def call(request: pytest.FixtureRequest) -> Caller:
    return Caller(request.param)


@pytest.fixture
def row() -> dict[str, Any]:
    return dict(ROW)
