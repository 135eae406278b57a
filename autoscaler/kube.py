"""The few calls that the operator makes to the Kubernetes API, and nothing else of it.

The framework watches the policies; what is written (replicas, status, events, the lease) goes
through here, so that the calls can be counted against the RBAC manifest and every failure is an
error of the contract.
"""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import aiohttp
import orjson

from nimbusguard.contract.errors import (
    InvalidRequest,
    NimbusGuardError,
    NotFound,
    Overloaded,
    Unavailable,
)

SERVICE_ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
MERGE_PATCH: Final = "application/merge-patch+json"
_JSON: Final = "application/json"
_CONNECTIONS: Final = 16
"""Calls at the same time; a thousand policies must not become a thousand connections."""
_TOKEN_LIFE_S: Final = 60.0
"""The kubelet renews a bound token long before it ends; it is read again this often."""


class Conflict(Unavailable):
    """Somebody else wrote the object first; read it again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterAccess:
    """How the API server is reached."""

    server: str
    """Base URL."""
    token_file: Path | None = None
    ca_file: Path | None = None

    @classmethod
    def in_cluster(
        cls, environ: Mapping[str, str], folder: Path = SERVICE_ACCOUNT
    ) -> ClusterAccess:
        """What the kubelet gives to every pod.

        Raises:
            InvalidRequest: This is no pod.
        """
        host, port = environ.get("KUBERNETES_SERVICE_HOST"), environ.get("KUBERNETES_SERVICE_PORT")
        if not host or not port or not (folder / "token").is_file():
            message = (
                f"cluster: expected KUBERNETES_SERVICE_HOST, KUBERNETES_SERVICE_PORT and {folder}, "
                "as in a pod; outside of one set AUTOSCALER_KUBE_API"
            )
            raise InvalidRequest(message)
        shown = f"[{host}]" if ":" in host else host
        return cls(
            server=f"https://{shown}:{port}",
            token_file=folder / "token",
            ca_file=folder / "ca.crt",
        )


class KubeApi:
    """A connection to the API server; one per process."""

    def __init__(
        self,
        access: ClusterAccess,
        *,
        timeout_s: float = 3.0,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Nothing is sent until the first call; made inside of a running event loop.

        Args:
            access: Where, and with which rights.
            timeout_s: Seconds for one call; a slow one is made again in the next interval.
            clock: Seconds from any origin, never going back.

        Raises:
            InvalidRequest: The file of certificates cannot be read.
        """
        self._access = access
        self._timeout_s = timeout_s
        self._clock = clock
        self._token = ""
        self._token_read_s = -_TOKEN_LIFE_S
        self._free = asyncio.Semaphore(_CONNECTIONS)
        # The framework's own HTTP library: a call takes a quarter of the CPU that httpx needs.
        self._http = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, ssl=_verification(access)),
            headers={"accept": _JSON, "user-agent": "nimbusguard-operator"},
        )

    async def get(self, path: str, **query: str) -> dict[str, Any]:
        """Read an object or a list.

        Raises:
            NotFound: There is none.
            Unavailable: The API server did not answer, or forbids it.
        """
        return await self._call("GET", path, query=query)

    async def patch(self, path: str, body: Mapping[str, Any], **query: str) -> dict[str, Any]:
        """Change some fields (JSON merge patch).

        Raises:
            Conflict: The body names another `resourceVersion` than the object has now.
            InvalidRequest: The API server refuses the object.
            NotFound: There is none.
            Unavailable: The API server did not answer, or forbids it.
        """
        return await self._call("PATCH", path, body=body, kind=MERGE_PATCH, query=query)

    async def create(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """Make an object; raises as `patch` does."""
        return await self._call("POST", path, body=body, kind=_JSON)

    async def aclose(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def _call(
        self,
        method: str,
        path: str,
        *,
        body: Mapping[str, Any] | None = None,
        kind: str = _JSON,
        query: Mapping[str, str] | None = None,
    ) -> dict[str, Any]:
        headers = {} if body is None else {"content-type": kind}
        if token := self._current_token():
            headers["authorization"] = f"Bearer {token}"
        call = f"{method} {path}"
        try:
            # The wait for a free connection is not the server's time.
            async with (
                self._free,
                asyncio.timeout(self._timeout_s),
                self._http.request(
                    method,
                    self._access.server + path,
                    data=None if body is None else orjson.dumps(body),
                    headers=headers,
                    params=query or None,
                    allow_redirects=False,
                ) as response,
            ):
                content = await response.read()
        except (aiohttp.ClientError, TimeoutError) as exc:
            message = f"{call}: {str(exc) or type(exc).__name__}"
            raise Unavailable(message) from exc
        if 200 <= response.status < 300:
            return _object(content, call)
        raise _error(response.status, content, call)

    def _current_token(self) -> str:
        if self._access.token_file is None:
            return ""
        if self._clock() - self._token_read_s >= _TOKEN_LIFE_S:
            self._token = self._access.token_file.read_text().strip()
            self._token_read_s = self._clock()
        return self._token


def _verification(access: ClusterAccess) -> ssl.SSLContext | bool:
    """Whose certificates are trusted."""
    if access.ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=access.ca_file)
    except OSError as exc:
        message = f"{access.ca_file}: expected certificates in PEM, got {exc}"
        raise InvalidRequest(message) from exc


def _object(content: bytes, call: str) -> dict[str, Any]:
    try:
        document = orjson.loads(content)
    except orjson.JSONDecodeError as exc:
        message = f"{call}: expected JSON, got {content[:80]!r}"
        raise Unavailable(message) from exc
    if not isinstance(document, dict):
        message = f"{call}: expected an object, got {content[:80]!r}"
        raise Unavailable(message)
    return document


def _error(status: int, content: bytes, call: str) -> NimbusGuardError:
    """The error that a status means, with the API server's message."""
    try:
        stated = orjson.loads(content)["message"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        stated = content[:200].decode("utf-8", "replace")
    kinds: dict[int, type[NimbusGuardError]] = {
        400: InvalidRequest,
        404: NotFound,
        409: Conflict,
        422: InvalidRequest,
        429: Overloaded,
    }
    return kinds.get(status, Unavailable)(f"{call}: {status} {stated}")
