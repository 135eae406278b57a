"""Watching health, told as the order of what happens."""

from __future__ import annotations

from grpc_health.v1 import health_pb2

from serving.grpc_health import HealthServicer
from tests.serving.in_process import predictor_service

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


async def test_an_end_that_comes_while_a_status_is_sent_is_told() -> None:
    """SERVING is on its way when the server stops: NOT_SERVING follows, and then the end."""
    health = HealthServicer(predictor_service())
    watch = health.Watch(health_pb2.HealthCheckRequest(), None)
    first = await anext(watch)

    health.stop()

    assert first.status == SERVING
    assert [answer.status async for answer in watch] == [NOT_SERVING]
