"""The life of a pod's tunnel: read what is mounted, set up the network, serve, end.

Nothing here waits for the operator or for Kubernetes. The HTTP server is loaded after the first packets.
"""

from __future__ import annotations

import logging
import os
import socket
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import NamedTuple, Protocol

from .. import __version__
from ..adapters import control, uapi_server
from ..adapters.event_loop import EventLoop
from ..adapters.keeper import Keeper, KeeperLine, RestartLimit
from ..adapters.outliving import Outliving
from ..adapters.process import (
    configure_logging,
    end_on_signals,
    protect_secrets,
    spread_garbage_collection,
)
from ..adapters.rehearsal import rehearse
from ..adapters.systemd import Notifier
from ..adapters.text import parse_base64_key
from ..adapters.tun import Tun
from ..adapters.tunnel import Tunnel
from ..continuity.bystander import BystanderMemory
from ..continuity.packed_configuration import PackedConfiguration
from ..continuity.state_file import StateFile, StateHeldError, StateRefusedError, prepare_directory
from ..continuity.storage import Memory
from ..control.configuration import Configuration
from ..control.roles import Role, Standing
from ..control.state import State
from ..control.trust import TlsFiles
from ..core.endpoint import Endpoint
from ..core.handover import Handed
from ..errors import HandfastError, StartError
from . import server, translate
from .accepted import LEFT_FILE, STATE_FILE, Accepted, load, load_newest, newest_outline
from .ending import LastOffer
from .gateway import Gateway
from .left import Left
from .options import PodOptions
from .surroundings import Surroundings

log = logging.getLogger(__name__)


def run(options: PodOptions) -> int:
    """The exit status; raises StartError."""
    protect_secrets()
    spread_garbage_collection()
    configure_logging("pod", options.log_level)
    os.environ["HANDFAST_RUN_DIR"] = str(options.run_directory)
    work = partial(_serve, options)
    return Keeper(work, RestartLimit(), lambda: None, Notifier({}), rehearse).run()


def _serve(options: PodOptions, line: KeeperLine) -> int:
    """One worker's life."""
    line.wait_for_the_word()  # what is configured may change until then
    try:
        pod = _open(options, line)
    except HandfastError as error:
        print(f"handfast-tunnel: {error}", file=sys.stderr)
        return 1
    if options.after_app is None:
        end_on_signals(pod.gateway.tunnel)
    else:
        end_on_signals(pod.gateway.tunnel, LastOffer(pod.gateway, options.after_app).begin)
    log.info("handfast-tunnel %s runs", __version__)
    status = pod.gateway.tunnel.run()
    for each in pod.servers:
        each.close()
    return status


class Server(Protocol):
    def close(self) -> None: ...


class _Pod(NamedTuple):
    gateway: Gateway
    servers: list[Server]


def _open(options: PodOptions, line: KeeperLine) -> _Pod:
    accepted, left, configuration, begin = _read(options)
    spec = configuration.tunnel
    tun = Tun.from_descriptor(line.inherited["tun"]) if line.inherited else Tun.create(spec.interface)
    surroundings = Surroundings(tun.name, beside_app=options.beside_app)
    surroundings.set_up(spec)
    memory, outliving = _memory(options, spec.interface, line)
    line.can_be_replaced = True
    if not line.inherited:
        line.hold("tun", tun.fileno())
    tunnel = Tunnel(tun, EventLoop(), translate.settings(spec), line, memory, outliving)
    stored = accepted.load_standing(spec.uid)
    state = _state(options) if stored is None else None
    standing = stored or _new_standing(options, state)
    if memory is not None and memory.committed_term and standing.role is not Role.COMMITTED:
        # The mark is stored twice, because it must not be lost.
        standing = Standing(Role.COMMITTED, memory.committed_term, memory.committed_term)
    gateway = Gateway(tunnel, accepted, configuration, standing, options.pod_uid, left, alone=options.alone)
    offset = time.time() - tunnel.loop.now
    ceiling = state.outbound_timestamp_ceiling if state is not None else None
    gateway.boot(_known(state, offset), translate.stamp_from_text(ceiling), begin)
    servers = _start_local_servers(gateway, line)
    servers.append(_start_http(gateway, surroundings, accepted, options, line))
    return _Pod(gateway, servers)


class _Read(NamedTuple):
    accepted: Accepted
    left: Left
    configuration: Configuration
    """An outline, if there is what a former process left."""
    begin: PackedConfiguration | None


def _read(options: PodOptions) -> _Read:
    """What is configured, and where it will be kept."""
    try:
        prepare_directory(options.state, any_file_system=False)
    except (HandfastError, OSError) as error:
        raise StartError(f"--state {options.state} cannot hold secrets: {error}") from None
    accepted, left = Accepted(options.state), Left(options.state / LEFT_FILE)
    outline = newest_outline(options.config, accepted)
    if outline is not None and (begin := left.load(outline.tunnel.uid, outline.generation)) is not None:
        return _Read(accepted, left, outline, begin)
    return _Read(accepted, left, load_newest(options.config, accepted), None)


def _state(options: PodOptions) -> State | None:
    return load(options.state_secret / STATE_FILE, State.parse) if options.state_secret else None


def _new_standing(options: PodOptions, state: State | None) -> Standing:
    """Of a pod that was never anything."""
    term = state.term if state is not None else 0
    return Standing(Role.STANDBY if options.standby else Role.ACTIVE, term=term, heard=term)


def _known(state: State | None, wall_offset: float) -> Mapping[bytes, Handed]:
    if state is None:
        return {}
    return {
        parse_base64_key(key): translate.remembered(peer, state.created, wall_offset)
        for key, peer in state.peers.items()
    }


def _memory(options: PodOptions, interface: str, line: KeeperLine) -> tuple[Memory | None, Outliving | None]:
    """Without state memory everything works, but sessions end with the process."""
    path = options.state / f"{interface}.state"
    try:
        state = StateFile(path, interface)
    except (StateRefusedError, OSError) as error:
        log.warning("sessions will end with this process: %s", error)
        is_bystander = isinstance(error, StateHeldError)
        return BystanderMemory(path, interface) if is_bystander else None, None
    return state.memory, Outliving(state, None, line)


def _start_http(
    gateway: Gateway, surroundings: Surroundings, accepted: Accepted, options: PodOptions, line: KeeperLine
) -> Server:
    def listener(name: str, address: Endpoint) -> socket.socket:
        if name in line.inherited:
            return socket.socket(fileno=line.inherited[name])
        opened = server.open_listener(f"--{name}", address)
        line.hold(name, opened.fileno())
        return opened

    tls = TlsFiles.in_directory(options.tls) if options.tls is not None else None
    metrics = listener("metrics", options.metrics)
    api = listener("api", options.control) if tls is not None else None
    return server.PodServer(
        gateway, surroundings, accepted, mounted=options.config, metrics=metrics, control=api, tls=tls
    )


def _start_local_servers(gateway: Gateway, line: KeeperLine) -> list[Server]:
    """The sockets of `wg` and of hooks; a pod whose file system has no room for them runs without."""
    tunnel = gateway.tunnel
    servers: list[Server] = []
    if (uapi := _listener("uapi", uapi_server.open_listener, tunnel.name, line)) is not None:
        servers.append(uapi_server.UapiServer(tunnel, uapi))
    if (local := _listener("control", control.open_listener, tunnel.name, line)) is not None:
        servers.append(control.ControlServer(tunnel, local, partial(_answer_locally, gateway)))
    return servers


def _answer_locally(gateway: Gateway, request: bytes) -> Iterator[str]:
    from .local_calls import answer

    return answer(gateway, request)


def _listener(
    name: str, listen: Callable[[str], socket.socket], interface: str, line: KeeperLine
) -> socket.socket | None:
    """As it was inherited, or opened and held by the keeper."""
    if name in line.inherited:
        return socket.socket(fileno=line.inherited[name])
    try:
        listener = listen(interface)
    except StartError as error:
        log.warning("the pod runs without its local %s socket: %s", name, error)
        return None
    line.hold(name, listener.fileno())
    return listener
