"""The console's routes on a model server: the page's files and its documents."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Final

import orjson

from nimbusguard.console.api import NAMES, ConsoleApi
from nimbusguard.console.assets import API, HEADERS, ROOT, Asset, assets
from nimbusguard.contract.errors import NimbusGuardError
from serving.http_message import HttpRequest

Handler = Callable[[HttpRequest], None]
Fail = Callable[[HttpRequest, BaseException], None]
logger = logging.getLogger(__name__)

_HEADERS: Final = {name.encode(): value.encode() for name, value in HEADERS.items()}
_ROUTE: Final = "console"


class ConsoleRoutes:
    """Answers requests for the console.

    Args:
        api: The documents.
        fail: Tells an error in the server's own way.
    """

    def __init__(self, api: ConsoleApi, fail: Fail) -> None:
        self._api = api
        self._fail = fail
        self._tasks: set[asyncio.Task[None]] = set()

    def table(self) -> dict[bytes, Mapping[bytes, Handler]]:
        """Handlers by path and method."""
        files = {ROOT + name: self._file(asset) for name, asset in assets().items()}
        documents = {API + name: self._document(name) for name in NAMES}
        routes = {ROOT.rstrip("/"): _redirect, **files, **documents}
        return {
            path.encode(): {b"GET": handler, b"HEAD": handler} for path, handler in routes.items()
        }

    def _file(self, asset: Asset) -> Handler:
        def send(request: HttpRequest) -> None:
            request.route = _ROUTE
            request.respond(200, asset.body, asset.content_type.encode(), _HEADERS)

        return send

    def _document(self, name: str) -> Handler:
        def send(request: HttpRequest) -> None:
            request.route = _ROUTE
            task = asyncio.get_running_loop().create_task(self._answer(request, name))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

        return send

    async def _answer(self, request: HttpRequest, name: str) -> None:
        try:
            document = await self._api.answer(name, request.query)
            request.respond(200, orjson.dumps(document), headers=_HEADERS)
        except NimbusGuardError as error:
            self._fail(request, error)
        except Exception as error:
            logger.exception("unexpected error")
            self._fail(request, error)


def _redirect(request: HttpRequest) -> None:
    request.route = _ROUTE
    request.respond(308, b"{}", headers={b"location": ROOT.encode()})
