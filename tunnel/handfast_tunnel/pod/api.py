"""The calls of /v1: what comes in is checked whole before the tunnel's thread hears of it.

Calls that change something come one at a time. The checks of role, term and generation are made on the
event loop's thread, in the same turn as their effect.
"""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from hashlib import blake2s
from typing import TYPE_CHECKING, Final

from aiohttp import web

from ..adapters.text import parse_base64_key
from ..control import account, roles
from ..control.client import TERM_HEADER
from ..control.configuration import GENERATION_LIMIT, Configuration, Patch
from ..control.errors import CONFLICT, UNPROCESSABLE, DocumentError, Refused
from ..control.export import Export, check
from ..control.fields import Fields, parse_json
from ..control.roles import FREEZE_LIMIT, Call, Event, Role
from ..errors import ConfigurationError
from . import exchange, translate
from .accepted import CONFIGURATION_FILE, load
from .bridge import run, run_job
from .report import gather
from .surroundings import SurroundingsError

if TYPE_CHECKING:
    from pathlib import Path

    from ..control.status import Listed
    from ..core.configuration import InterfaceChange
    from ..core.handover import Handed
    from .accepted import Accepted
    from .gateway import Gateway
    from .surroundings import Surroundings

CALL_LIMIT: Final = 1024 * 1024
"""Bytes of a call that is no document: 10,000 public keys take half of it."""
_OF_DOCUMENTS: Final = ("activate", "sessions")
"""Calls that carry what pods tell each other of all peers."""
FOLLOW_INTERVAL: Final = 5.0
_LISTED: Final[Mapping[str, Listed]] = {"false": "none", "heard": "heard"}
_FIXED: Final = ("namespace", "name", "uid", "interface", "private_key")
"""Of a tunnel: what another value of makes another tunnel, which takes another pod."""

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


class Api:
    def __init__(self, gateway: Gateway, surroundings: Surroundings, accepted: Accepted) -> None:
        self._gateway = gateway
        self._loop = gateway.tunnel.loop
        self._surroundings = surroundings
        self._accepted = accepted
        self.changing = asyncio.Lock()
        """Held while something is changed."""
        self._exported: tuple[str, Export] | None = None
        """The answer to a drain, for who asks again."""

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/v1/status", self.status),
            web.put("/v1/config", self.put_config),
            web.patch("/v1/peers", self.patch_peers),
            web.post("/v1/drain", self.drain),
            web.post("/v1/activate", self.activate),
            web.post("/v1/commit", self.commit),
            web.post("/v1/thaw", self.thaw),
            web.post("/v1/handshake", self.handshake),
            web.get("/v1/sessions", self.sessions),
            web.post("/v1/sessions", self.learn_sessions),
        ]

    # --- reading ----------------------------------------------------------------------------------

    async def status(self, request: web.Request) -> web.Response:
        return await self._status(_LISTED.get(request.query.get("peers", ""), "all"))

    async def _status(self, peers: Listed = "none") -> web.Response:
        status = await run_job(self._loop, gather(self._gateway, self._surroundings, peers=peers))
        await run(self._loop, self._gateway.note_control_call)
        return web.json_response(status.to_json())

    # --- configuration ----------------------------------------------------------------------------

    async def put_config(self, request: web.Request) -> web.Response:
        new = Configuration.parse(await request.read())
        await self._hear(request)
        if not self._is_there(new):
            self._check_same_tunnel(new)
            await self._apply(new, translate.whole(new, self._gateway.configuration))
        return await self._status()

    async def follow(self, mounted: Path) -> None:
        """Takes newer configurations from the mount, until it is cancelled: the Secret gets through, if late,
        where the operator does not."""
        path, seen = mounted / CONFIGURATION_FILE, None
        while True:
            await asyncio.sleep(FOLLOW_INTERVAL)
            try:
                status = path.stat()
            except OSError:
                continue
            if (status.st_mtime_ns, status.st_ino) != seen:
                seen = status.st_mtime_ns, status.st_ino
                await self._take_mounted(path)

    async def _take_mounted(self, path: Path) -> None:
        # What the operator has told of already is not read: ten thousand peers take a second.
        head = load(path, Configuration.outline)
        if head is None or head.generation <= self._gateway.configuration.generation:
            return
        new = load(path, Configuration.parse)
        async with self.changing:
            old = self._gateway.configuration
            if new is None or new.generation <= old.generation:
                return
            try:
                self._check_same_tunnel(new)
                await self._apply(new, translate.whole(new, old))
            except Refused as refused:
                log.error("%s is not used: %s", path, refused)  # noqa: TRY400
            else:
                log.info("generation %d came with the mount", new.generation)

    def _check_same_tunnel(self, new: Configuration) -> None:
        old = self._gateway.configuration.tunnel
        for name in _FIXED:
            if getattr(new.tunnel, name) != getattr(old, name):
                why = f"this pod serves tunnel {old.namespace}/{old.name} with another {name}"
                raise Refused(UNPROCESSABLE, "configuration", why, remedy="replace the pod")

    async def patch_peers(self, request: web.Request) -> web.Response:
        patch = Patch.parse(await request.read())
        await self._hear(request)
        old = self._gateway.configuration
        if patch.base_generation != old.generation:
            if patch.generation == old.generation and _holds(patch, old):
                return await self._status()
            why = f"this pod is at generation {old.generation}, not at {patch.base_generation}"
            raise Refused(CONFLICT, "patch", why, remedy="PUT the whole configuration")
        await self._apply(old.patched(patch), translate.difference(patch, old), patch)
        return await self._status()

    def _is_there(self, new: Configuration) -> bool:
        old = self._gateway.configuration
        if new.generation < old.generation:
            why = f"generation {new.generation} is over: this pod is at {old.generation}"
            raise Refused(CONFLICT, "configuration", why, remedy="read the config Secret again")
        if new.generation > old.generation:
            return False
        if new != old:
            why = f"generation {new.generation} is here already, with other content"
            raise Refused(CONFLICT, "configuration", why, remedy="raise the generation with each change")
        return True

    async def _apply(self, new: Configuration, change: InterfaceChange, patch: Patch | None = None) -> None:
        """`patch` is what made it of the present one, if it came so."""
        old = self._gateway.configuration
        try:
            draft = self._accepted.draft(new, patch)
        except OSError as error:
            why = f"it cannot be stored: {error.strerror}"
            raise Refused(503, "configuration", why, remedy="give the pod's memory volume room") from error
        if new.tunnel != old.tunnel:
            try:
                self._surroundings.set_up(new.tunnel)
            except SurroundingsError as error:
                draft.discard()
                self._surroundings.set_up(old.tunnel)
                raise Refused(UNPROCESSABLE, "configuration", str(error)) from error
        await run_job(self._loop, self._gateway.apply(new, change, draft))

    async def _hear(self, request: web.Request) -> None:
        text = request.headers.get(TERM_HEADER)
        if text is None:
            return
        if not (text.isascii() and text.isdigit() and len(text) <= len(str(GENERATION_LIMIT))):
            raise DocumentError(TERM_HEADER, "it is not a term")
        await run(self._loop, lambda: self._gateway.hear(int(text)))

    # --- roles ------------------------------------------------------------------------------------

    async def drain(self, request: web.Request) -> web.Response:
        fields, digest = await _fields(request, "drain")
        call = Call(
            Event.DRAIN,
            fields.number("term", 1, GENERATION_LIMIT),
            self._loop.now,
            digest,
            successor=fields.text("successorUID"),
            seconds=_seconds(fields),
        )
        generation = fields.number("generation", 0, GENERATION_LIMIT)
        fields.end()
        await run(self._loop, lambda: self._gateway.drain(call, generation))
        if self._exported is None or self._exported[0] != digest:
            handover = await run_job(self._loop, self._gateway.export())
            self._exported = digest, Export.seal(handover, *self._secret())
        if self._gateway.standing.role is not Role.DRAINING:
            raise Refused(CONFLICT, "drain", "its time was over before its answer", remedy="begin another")
        await run(self._loop, self._gateway.note_control_call)
        return web.json_response(self._exported[1].to_json())

    async def activate(self, request: web.Request) -> web.Response:
        fields, digest = await _fields(request, "activate")
        call = Call(Event.ACTIVATE, fields.number("term", 1, GENERATION_LIMIT), self._loop.now, digest)
        generation = fields.number("generation", 0, GENERATION_LIMIT)
        sealed = fields.take("export", None)
        floor = translate.stamp_from_text(fields.stamp("outboundTimestampCeiling"))
        fields.end()
        if roles.repeats(self._gateway.standing, call):
            return await self._status()
        known: Mapping[bytes, Handed] = {}
        frozen_at = call.now
        if sealed is not None:
            known, frozen_at, floor = self._open(Export.from_json(sealed), call)
        call = replace(call, has_export=sealed is not None, stamp_floor=floor)
        await run_job(self._loop, self._gateway.activate(call, generation, known, frozen_at))
        return await self._status()

    def _open(self, sealed: Export, call: Call) -> tuple[Mapping[bytes, Handed], float, int]:
        """What the former owner knew, when it froze, and up to where initiations were stamped."""
        handover = sealed.open(*self._secret())
        wall = time.time()
        check(handover, pod_uid=self._gateway.pod_uid, term=call.term, wall=wall)
        offset = wall - self._loop.now
        known = exchange.known(handover.peers, handover.created, offset)
        floor = translate.stamp_from_text(handover.outbound_ceiling)
        return known, handover.created - offset, floor

    async def commit(self, request: web.Request) -> web.Response:
        term = await self._term_of(request, "commit")
        await run(self._loop, lambda: self._gateway.commit(term))
        return await self._status()

    async def thaw(self, request: web.Request) -> web.Response:
        term = await self._term_of(request, "thaw")
        await run(self._loop, lambda: self._gateway.thaw(term))
        return await self._status()

    async def _term_of(self, request: web.Request, name: str) -> int:
        fields, _ = await _fields(request, name)
        term = fields.number("term", 0, GENERATION_LIMIT)
        fields.end()
        return term

    # --- what a successor needs where nothing is handed over --------------------------------------

    async def sessions(self, request: web.Request) -> web.Response:
        since = _moment(request.query.get("since", "0"))
        until, told = await run_job(self._loop, self._gateway.account(since))
        sealed = account.SealedAccount.seal(told, *self._secret()) if told.peers else None
        await run(self._loop, self._gateway.note_control_call)
        return web.json_response(account.News(until, told.generation, sealed).to_json())

    async def learn_sessions(self, request: web.Request) -> web.Response:
        fields, _ = await _fields(request, "sessions")
        listed = fields.take("accounts")
        fields.end()
        if not isinstance(listed, list) or not 0 < len(listed) <= account.ACCOUNTS_LIMIT:
            raise fields.wrong("accounts", f"they are not at least one and at most {account.ACCOUNTS_LIMIT}")
        sealed = list(map(account.SealedAccount.from_json, listed))
        told = [each.open(*self._secret()) for each in sealed]
        wall, generation = time.time(), self._gateway.configuration.generation
        for each in told:
            account.check(each, pod_uid=self._gateway.pod_uid, generation=generation, wall=wall)
        offset = wall - self._loop.now
        known = [exchange.known(each.peers, each.created, offset) for each in told]
        await run_job(self._loop, self._gateway.learn(max(each.term for each in told), known))
        return await self._status()

    def _secret(self) -> tuple[bytes, str]:
        """What is sealed is sealed with."""
        tunnel = self._gateway.configuration.tunnel
        return parse_base64_key(tunnel.private_key), tunnel.uid

    # --- handshakes -------------------------------------------------------------------------------

    async def handshake(self, request: web.Request) -> web.Response:
        fields, _ = await _fields(request, "handshake")
        named = fields.take("peers", None)
        fields.end()
        try:
            keys = None if named is None else list(map(parse_base64_key, named))
        except (TypeError, ValueError):
            raise DocumentError("peers of handshake", "it is not a list of public keys") from None
        unknown = [key for key in keys or () if key not in self._gateway.tunnel.device.peers]
        if unknown:
            raise Refused(404, "handshake", f"{len(unknown)} of these peers are not configured here")
        try:
            started = await run(self._loop, lambda: self._gateway.tunnel.handshake(keys))
        except ConfigurationError as error:
            raise Refused(CONFLICT, "handshake", str(error)) from error
        await run(self._loop, self._gateway.note_control_call)
        return web.json_response({"started": started})


def _holds(patch: Patch, configuration: Configuration) -> bool:
    """Whether the configuration is what the patch makes: it was applied before, and its answer was lost."""
    there = all(configuration.peers.get(peer.public_key) == peer for peer in patch.put)
    return there and not any(key in configuration.peers for key in patch.remove)


async def _fields(request: web.Request, name: str) -> tuple[Fields, str]:
    """The call's object, and a digest of what it says."""
    body = await request.read()
    if len(body) > CALL_LIMIT and name not in _OF_DOCUMENTS:
        raise web.HTTPRequestEntityTooLarge(CALL_LIMIT, len(body))
    value = parse_json(body, name)
    canonical = json.dumps(value, sort_keys=True).encode()
    return Fields(value, name), blake2s(canonical, digest_size=16).hexdigest()


def _moment(text: str) -> float:
    """Of a device's clock."""
    try:
        moment = float(text)
    except ValueError:
        moment = -1.0
    if not 0 <= moment < math.inf:
        raise DocumentError("since of sessions", "it is not the moment that an answer named, or 0")
    return moment


def _seconds(fields: Fields) -> float:
    value = fields.take("seconds", FREEZE_LIMIT)
    if type(value) not in {int, float} or not 0 < value <= FREEZE_LIMIT:
        raise fields.wrong("seconds", f"it is not a number above 0 and at most {FREEZE_LIMIT:g}")
    return float(value)
