"""What the two ports serve, on aiohttp, and who may speak to the control port."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
from typing import TYPE_CHECKING, Any, Final, cast
from weakref import WeakKeyDictionary

from aiohttp import web
from cryptography import x509

from ..control.errors import Refused
from ..control.fields import SIZE_LIMIT
from ..control.trust import CLIENT_AUTH, OPERATOR_URI, TlsFiles, server_context
from .api import Api, Handler
from .probes import Probes

if TYPE_CHECKING:
    from .gateway import Gateway

BODY_TIME: Final = 15.0
"""Seconds that a request may take from its head to its answer."""
SILENCE: Final = 30.0
"""A connection on which nothing is asked for so long is closed."""
HANDSHAKE_TIME: Final = 5.0
END_TIME: Final = 0.5
"""Seconds that a request may still take when the process ends."""
RELOAD_INTERVAL: Final = 5.0
"""Renewed certificates come by the mount: looked for so often."""
CONNECTIONS: Final = 64

log = logging.getLogger(__name__)


async def serve_control(api: Api, listener: socket.socket, tls: TlsFiles) -> None:
    """Until it is cancelled."""
    application = web.Application(
        middlewares=[_explain, _operator_only, _one_at_a_time(api)], client_max_size=SIZE_LIMIT
    )
    application.add_routes(api.routes())
    await _Site(application, listener, tls).serve()


async def serve_probes(gateway: Gateway, listener: socket.socket) -> None:
    """Until it is cancelled."""
    application = web.Application(middlewares=[_explain])
    application.add_routes(Probes(gateway).routes())
    await _Site(application, listener, None).serve()


class _Site:
    """An application on a socket that listens already."""

    def __init__(self, application: web.Application, listener: socket.socket, tls: TlsFiles | None) -> None:
        self._application = application
        self._listener = listener
        self._tls = tls

    async def serve(self) -> None:
        runner = web.AppRunner(
            self._application, access_log=None, keepalive_timeout=SILENCE, shutdown_timeout=END_TIME
        )
        await runner.setup()
        try:
            while True:
                version = self._version()
                server = await self._open(runner)
                try:
                    await self._while_unchanged(version)
                finally:
                    if server is not None:
                        server.close()
        finally:
            await runner.cleanup()

    def _version(self) -> tuple[int, ...] | None:
        try:
            return None if self._tls is None else self._tls.version()
        except OSError:
            return ()

    async def _while_unchanged(self, version: tuple[int, ...] | None) -> None:
        while self._tls is None or self._version() == version:  # noqa: ASYNC110 - files do not call
            await asyncio.sleep(RELOAD_INTERVAL)

    async def _open(self, runner: web.AppRunner) -> asyncio.Server | None:
        """None while there is no certificate that can be used."""
        context = None
        if self._tls is not None:
            try:
                context = server_context(self._tls)
            except (OSError, ssl.SSLError) as error:
                log.error("no control API: its certificate cannot be used: %s", error)  # noqa: TRY400
                return None
        server = runner.server
        assert server is not None

        def protocol() -> asyncio.Protocol:
            if len(server.connections) >= CONNECTIONS:
                return _Refusal()
            return server()

        times: dict[str, Any] = {} if context is None else {"ssl_handshake_timeout": HANDSHAKE_TIME}
        copy = self._listener.dup()
        return await asyncio.get_running_loop().create_server(protocol, sock=copy, ssl=context, **times)


class _Refusal(asyncio.Protocol):
    """There are as many connections as may be: slow clients must not add up."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        cast("asyncio.Transport", transport).abort()


# --- middlewares ------------------------------------------------------------------------------------


@web.middleware
async def _explain(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Every refusal is JSON that says what, which, why and what to do."""
    try:
        async with asyncio.timeout(BODY_TIME):
            return await handler(request)
    except Refused as refused:
        return _answer(refused)
    except web.HTTPException as error:
        return _answer(Refused(error.status, f"{request.method} {request.path}", error.reason))
    except TimeoutError:
        why = f"it took longer than {BODY_TIME:g} s"
        return _answer(Refused(408, f"{request.method} {request.path}", why))
    except Exception:
        log.exception("a bug in answering %s %s", request.method, request.path)
        return _answer(Refused(500, f"{request.method} {request.path}", "a bug", remedy="read the pod's log"))


def _answer(refused: Refused) -> web.Response:
    return web.json_response(refused.to_json(), status=refused.status)


_roles: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()
"""By connection: whether its certificate is the operator's."""


@web.middleware
async def _operator_only(request: web.Request, handler: Handler) -> web.StreamResponse:
    transport = request.transport
    tls = transport.get_extra_info("ssl_object") if transport is not None else None
    if tls is None:
        raise Refused(401, "call", "this connection has no certificate")
    if tls not in _roles:
        _roles[tls] = is_operator(tls.getpeercert(binary_form=True))
    if not _roles[tls]:
        why = f"this certificate does not have the operator's role, {OPERATOR_URI} for clients only"
        raise Refused(403, "call", why)
    return await handler(request)


def is_operator(certificate: bytes | None) -> bool:
    """Of a certificate that was verified: whether it names the operator, and serves for nothing else."""
    if certificate is None:
        return False
    try:
        extensions = x509.load_der_x509_certificate(certificate).extensions
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        purposes = extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (ValueError, x509.ExtensionNotFound):
        return False
    uris = names.get_values_for_type(x509.UniformResourceIdentifier)
    return uris == [OPERATOR_URI] and [purpose.dotted_string for purpose in purposes] == [CLIENT_AUTH]


def _one_at_a_time(api: Api) -> Any:
    """Calls that change something: each sees what the former left."""

    @web.middleware
    async def middleware(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.method == "GET":
            return await handler(request)
        await request.read()  # a slow sender must not keep the others waiting
        async with api.changing:
            return await handler(request)

    return middleware
