"""Calls to the API server: rights, failures, and what is sent."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from autoscaler.kube import ClusterAccess, Conflict, KubeApi
from nimbusguard.contract.errors import InvalidRequest, NotFound, Overloaded, Unavailable
from tests.autoscaler.harness import Clock

Handler = Callable[[web.Request], Awaitable[web.Response]]


@asynccontextmanager
async def api_of(handler: Handler, **options: Any) -> AsyncIterator[KubeApi]:
    """A client before a server that does one thing."""
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handler)
    async with TestServer(app) as server:
        url = str(server.make_url("")).rstrip("/")
        access = ClusterAccess(server=url, token_file=options.pop("token_file", None))
        api = KubeApi(access, **options)
        try:
            yield api
        finally:
            await api.aclose()


def answering(status: int, **body: Any) -> Handler:
    async def handle(request: web.Request) -> web.Response:
        return web.Response(status=status, **body)

    return handle


async def test_a_patch_is_a_merge_patch() -> None:
    """With the content type that the API server needs to know that."""
    seen = []

    async def handle(request: web.Request) -> web.Response:
        seen.append((request.headers["content-type"], await request.json()))
        return web.json_response({"kind": "Scale"})

    async with api_of(handle) as api:
        assert await api.patch("/x", {"spec": {"replicas": 3}}) == {"kind": "Scale"}

    assert seen == [("application/merge-patch+json", {"spec": {"replicas": 3}})]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (302, Unavailable),
        (400, InvalidRequest),
        (401, Unavailable),
        (403, Unavailable),
        (404, NotFound),
        (409, Conflict),
        (422, InvalidRequest),
        (429, Overloaded),
        (500, Unavailable),
        (503, Unavailable),
    ],
)
async def test_a_status_becomes_an_error_of_the_contract(
    status: int, kind: type[Exception]
) -> None:
    """With the call and the API server's words."""
    body = '{"kind": "Status", "message": "because"}'

    async with api_of(answering(status, text=body)) as api:
        with pytest.raises(Exception, match=rf"GET /x: {status} because") as caught:
            await api.get("/x")

    assert type(caught.value) is kind


@pytest.mark.parametrize("content", [b"", b"<html>", b"[1]", b"null", b"\xff"])
async def test_an_answer_that_is_no_object_is_no_answer(content: bytes) -> None:
    """Whatever its status."""
    async with api_of(answering(200, body=content)) as api:
        with pytest.raises(Unavailable, match="GET /x: expected"):
            await api.get("/x")
    async with api_of(answering(500, body=content)) as api:
        with pytest.raises(Unavailable, match="GET /x: 500"):
            await api.get("/x")


async def test_an_api_server_that_is_not_there_is_unavailable() -> None:
    """The HTTP library's exception does not come out."""
    async with api_of(answering(200)) as api:
        pass

    gone = KubeApi(ClusterAccess(server=api._access.server))
    with pytest.raises(Unavailable, match="PATCH /x: "):
        await gone.patch("/x", {})
    await gone.aclose()


async def test_a_call_ends_in_time() -> None:
    """An API server that never answers costs one interval, not the loop."""
    leave = asyncio.Event()

    async def never(request: web.Request) -> web.Response:
        await leave.wait()
        return web.Response()

    async with api_of(never, timeout_s=0.02) as api:
        with pytest.raises(Unavailable, match="GET /x: TimeoutError"):
            await api.get("/x")
        leave.set()


async def test_the_token_is_read_again_while_the_process_lives(tmp_path: Path) -> None:
    """The kubelet renews it; an operator that kept the first one would be locked out."""
    token = tmp_path / "token"
    token.write_text("first\n")
    clock = Clock()
    seen = []

    async def handle(request: web.Request) -> web.Response:
        seen.append(request.headers["authorization"])
        return web.json_response({})

    async with api_of(handle, token_file=token, clock=clock) as api:
        await api.get("/x")
        token.write_text("second\n")
        await api.get("/x")
        clock.now += 60.0
        await api.get("/x")

    assert seen == ["Bearer first", "Bearer first", "Bearer second"]


def test_a_pod_finds_its_api_server(tmp_path: Path) -> None:
    """Address from the environment, rights from the service account; IPv6 in brackets."""
    (tmp_path / "token").write_text("t")
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}

    access = ClusterAccess.in_cluster(environ, tmp_path)

    assert access == ClusterAccess(
        server="https://[fd00::1]:443", token_file=tmp_path / "token", ca_file=tmp_path / "ca.crt"
    )


def test_outside_of_a_pod_the_setting_is_named(tmp_path: Path) -> None:
    """Somebody who starts it by hand reads what to do."""
    with pytest.raises(InvalidRequest, match="set AUTOSCALER_KUBE_API"):
        ClusterAccess.in_cluster({}, tmp_path)


async def test_a_certificate_authority_that_is_none_stops_the_start(tmp_path: Path) -> None:
    """The file is named."""
    broken = tmp_path / "ca.crt"
    broken.write_text("no certificate")

    with pytest.raises(InvalidRequest, match="expected certificates in PEM"):
        KubeApi(ClusterAccess(server="https://api", ca_file=broken))
