"""Calling a sidecar: one method a call of /v1, documents in, documents out.

    async with ControlClient("10.1.2.3", 9587, files, namespace="default", tunnel="office") as sidecar:
        await sidecar.put_config(configuration, term=7)

A call that the sidecar refused raises Refused; one that did not come through raises ControlError. Calls may
be repeated: the same call gets the same answer.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import Iterable, Mapping
from io import BytesIO
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self

from .account import News, SealedAccount
from .configuration import Configuration, Patch
from .errors import ControlError, DocumentError, Refused
from .export import Export
from .fields import parse_json
from .roles import FREEZE_LIMIT
from .status import Listed, Status
from .trust import TlsFiles, client_context, sidecar_uri

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIME: Final = 2.0
ANSWER_TIME: Final = 10.0
TERM_HEADER: Final = "Handfast-Term"


class ControlClient:
    """A sidecar's control API; an async context manager that keeps its connection."""

    def __init__(
        self,
        host: str,
        port: int,
        tls: TlsFiles,
        *,
        namespace: str,
        tunnel: str,
        answer_time: float = ANSWER_TIME,
    ) -> None:
        name = f"[{host}]" if ":" in host else host
        self._base = f"https://{name}:{port}"
        self._tls = tls
        self._uri = sidecar_uri(namespace, tunnel)
        self._answer_time = answer_time
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        from aiohttp import ClientSession, ClientTimeout

        try:
            context = client_context(self._tls, self._uri)
        except (OSError, ssl.SSLError) as error:
            raise ControlError(f"our own certificate cannot be used: {error}") from error
        timeout = ClientTimeout(total=self._answer_time, connect=CONNECT_TIME)
        self._session = ClientSession(connector=self._connector(context), timeout=timeout)
        return self

    def _connector(self, context: ssl.SSLContext) -> aiohttp.BaseConnector:
        from aiohttp import TCPConnector

        return TCPConnector(ssl=context)

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    # --- calls ------------------------------------------------------------------------------------

    async def status(self, *, peers: Listed = "all") -> Status:
        """A pod of a former release lists all where those that were heard are asked for."""
        query = {"all": "", "heard": "?peers=heard", "none": "?peers=false"}[peers]
        return Status.from_json(await self._call("GET", f"/v1/status{query}"))

    async def put_config(self, configuration: Configuration, *, term: int | None = None) -> Status:
        headers = {"Content-Type": "application/jsonl", "Content-Encoding": "gzip", **_term(term)}
        body = await asyncio.to_thread(configuration.dump)
        return Status.from_json(await self._call("PUT", "/v1/config", data=BytesIO(body), headers=headers))

    async def patch_peers(self, patch: Patch, *, term: int | None = None) -> Status:
        answer = await self._call("PATCH", "/v1/peers", json=patch.to_json(), headers=_term(term))
        return Status.from_json(answer)

    async def drain(
        self, *, term: int, generation: int, successor_uid: str, seconds: float = FREEZE_LIMIT
    ) -> Export:
        body = {"term": term, "generation": generation, "successorUID": successor_uid, "seconds": seconds}
        return Export.from_json(await self._call("POST", "/v1/drain", json=body))

    async def activate(
        self,
        *,
        term: int,
        generation: int,
        export: Export | None = None,
        outbound_timestamp_ceiling: str | None = None,
    ) -> Status:
        body = {
            "term": term,
            "generation": generation,
            "export": None if export is None else export.to_json(),
            "outboundTimestampCeiling": outbound_timestamp_ceiling,
        }
        return Status.from_json(await self._call("POST", "/v1/activate", **_large(body)))

    async def commit(self, *, term: int) -> Status:
        return Status.from_json(await self._call("POST", "/v1/commit", json={"term": term}))

    async def thaw(self, *, term: int) -> Status:
        return Status.from_json(await self._call("POST", "/v1/thaw", json={"term": term}))

    async def sessions(self, since: float) -> News:
        """What an active pod tells of its peers that is new since the moment which its last answer named; of
        all of them where that is 0."""
        return News.from_json(await self._call("GET", f"/v1/sessions?since={since!r}"))

    async def tell_sessions(self, accounts: Iterable[SealedAccount]) -> Status:
        """Gives a standby what active pods told."""
        body = {"accounts": [account.to_json() for account in accounts]}
        return Status.from_json(await self._call("POST", "/v1/sessions", **_large(body)))

    async def handshake(self, peers: Iterable[str] | None = None) -> int:
        body = {"peers": None if peers is None else list(peers)}
        return int((await self._call("POST", "/v1/handshake", json=body))["started"])

    async def _call(self, method: str, path: str, **request: Any) -> Mapping[str, Any]:
        from aiohttp import ClientError

        if self._session is None:
            raise ControlError("the client is closed: use it as `async with`")
        try:
            async with self._session.request(method, self._base + path, **request) as response:
                body = await response.read()
        except TimeoutError as error:
            raise ControlError(f"{method} {self._base}{path}: no answer in time") from error
        except (ClientError, OSError, ssl.SSLError) as error:
            raise ControlError(f"{method} {self._base}{path}: {error}") from error
        try:
            answer = parse_json(body, "answer")
        except DocumentError:
            answer = None
        if response.status != 200:
            raise Refused.from_json(response.status, answer)
        if not isinstance(answer, dict):
            raise ControlError(f"{method} {self._base}{path}: the answer is no JSON object")
        return answer


def _large(body: object) -> dict[str, Any]:
    """A request that may have megabytes: sent in pieces, so that others have their turn meanwhile."""
    data = BytesIO(json.dumps(body).encode())
    return {"data": data, "headers": {"Content-Type": "application/json"}}


def _term(term: int | None) -> dict[str, str]:
    return {} if term is None else {TERM_HEADER: str(term)}
