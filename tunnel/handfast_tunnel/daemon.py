"""The daemon's life: open what can fail, go to the background, serve, end."""

from __future__ import annotations

import functools
import logging
import os
import socket
import sys
from pathlib import Path
from typing import NamedTuple, Protocol

from . import __version__
from .adapters import control, metrics_server, uapi_server
from .adapters.data_plane import PacketPlane, choose
from .adapters.event_loop import EventLoop
from .adapters.keeper import Keeper, KeeperLine
from .adapters.local_server import remove
from .adapters.outliving import Outliving
from .adapters.process import (
    READY,
    Background,
    configure_logging,
    end_on_signals,
    go_to_background,
    protect_secrets,
    spread_garbage_collection,
)
from .adapters.rehearsal import rehearse
from .adapters.systemd import Notifier, Unwatched
from .adapters.tun import Tun
from .adapters.tunnel import SignsOfLife, Tunnel
from .continuity.bystander import BystanderMemory
from .continuity.saved_configuration import SavedConfiguration
from .continuity.state_file import StateFile, StateHeldError, prepare_directory, wait_until_free
from .continuity.storage import Memory
from .errors import HandfastError, StartError
from .options import Options

log = logging.getLogger(__name__)


def run(options: Options) -> int:
    """The exit status; raises StartError.

    The device and the sockets exist before the parent ends, so `wg setconf` may follow at once.
    """
    protect_secrets()
    spread_garbage_collection()
    configure_logging(options.interface, options.log_level)
    plane = choose(options.data_plane)  # before the keeper forks: its workers need not import anything
    background = None if options.foreground else go_to_background(keep_output=options.keep_output)
    if options.state is None:
        return _serve(options, plane, background, None)
    detach = background.detach if background else lambda: None
    work = functools.partial(_serve, options, plane, background)
    return Keeper(work, options.restart_limit, detach, Notifier(os.environ), rehearse).run()


def _serve(
    options: Options, plane: PacketPlane, background: Background | None, line: KeeperLine | None
) -> int:
    """One process's life as the tunnel; with a keeper, one worker's."""
    is_first = line is None or not line.inherited
    if line is not None:
        _wait_for_the_end(options, line)
    try:
        tunnel, servers = _open(options, plane, line)
    except HandfastError as error:
        if line is not None:
            line.wait_for_the_word()
        if background is None or not is_first:
            print(f"handfast-tunnel: {error}", file=sys.stderr)
        else:
            background.report(str(error).encode())
        return 1
    if line is not None:
        line.wait_for_the_word()
    end_on_signals(tunnel)
    if background is not None and is_first:
        background.report(READY)
        background.detach()
    log.info("handfast-tunnel %s runs", __version__)
    status = tunnel.run()
    if line is None:
        Notifier(os.environ).stopping()
    for server in servers:
        server.close()
    return status


def _wait_for_the_end(options: Options, line: KeeperLine) -> None:
    """Of the worker before. A spare sees it as soon as the keeper does, and opens all while that one hears of
    it, reaps it, and gives the word."""
    if line.is_spare and (options.tun_fd is not None or not wait_until_free(_state_path(options))):
        line.wait_for_the_word()


def _open(options: Options, plane: PacketPlane, line: KeeperLine | None) -> tuple[Tunnel, list[_Server]]:
    """Opens what is not inherited, and has the keeper hold what is opened."""
    inherited = line.inherited if line else {}
    tun = _open_tun(options, plane, inherited.get("tun"))
    name = options.interface if options.tun_fd is None else tun.name  # it may be renamed; its files are not
    listeners = _open_listeners(name, options, inherited)
    if line is not None and not inherited:
        line.hold("tun", tun.fileno())
        for held, listener in listeners._asdict().items():
            if listener is not None:
                line.hold(held, listener.fileno())
    try:
        memory, outliving = _memory(name, options, line) if line else (None, None)
        life: SignsOfLife = Unwatched(Notifier(os.environ))
        if line is not None:
            line.can_be_replaced = outliving is not None
            life = line
        tunnel = Tunnel(tun, EventLoop(), options.settings, life, memory, outliving, plane=plane)
        return tunnel, _start_servers(tunnel, listeners, options, line)
    except Exception:
        if not inherited:
            _remove_files(listeners, options)
        raise


def _open_tun(options: Options, plane: PacketPlane, inherited: int | None) -> Tun:
    descriptor = options.tun_fd if inherited is None else inherited
    if descriptor is None:
        return Tun.create(options.interface, plane=plane)
    return Tun.from_descriptor(descriptor, plane=plane)


def _memory(interface: str, options: Options, line: KeeperLine) -> tuple[Memory | None, Outliving | None]:
    """Without state memory everything works, but sessions end with the process."""
    path = _state_path(options, interface)
    directory = path.parent
    try:
        if not line.inherited:
            prepare_directory(directory, any_file_system=options.state_on_disk)
        state = StateFile(path, interface)
    except (HandfastError, OSError) as error:
        if options.state_required:
            raise StartError(f"no state memory: {error}") from error
        log.warning("sessions will end with this process: %s", error)
        is_bystander = isinstance(error, StateHeldError)
        return BystanderMemory(path, interface) if is_bystander else None, None
    log.debug("state memory in %s, incarnation %d", directory, state.incarnation)
    configuration = SavedConfiguration(directory / f"{interface}.configuration")
    return state.memory, Outliving(state, configuration, line)


def _state_path(options: Options, interface: str | None = None) -> Path:
    assert options.state is not None
    return options.state / f"{interface or options.interface}.state"


class _Listeners(NamedTuple):
    uapi: socket.socket
    control: socket.socket | None
    metrics: socket.socket | None


def _open_listeners(interface: str, options: Options, inherited: dict[str, int]) -> _Listeners:
    if "uapi" in inherited:
        kept = {
            name: socket.socket(fileno=inherited[name]) for name in _Listeners._fields if name in inherited
        }
        return _Listeners(kept["uapi"], kept.get("control"), kept.get("metrics"))
    metrics = None if options.metrics is None else metrics_server.open_listener(options.metrics)
    if options.uapi_fd is None:
        uapi = uapi_server.open_listener(interface)
    else:
        uapi = uapi_server.inherit_listener(options.uapi_fd)
    return _Listeners(uapi, _open_control(interface), metrics)


def _remove_files(listeners: _Listeners, options: Options) -> None:
    """A start was refused: nothing of it is left. A supervisor's socket is its own."""
    for listener in (listeners.uapi if options.uapi_fd is None else None, listeners.control):
        if listener is not None:
            remove(Path(listener.getsockname()))


def _open_control(interface: str) -> socket.socket | None:
    """wireguard-go has no such socket: where there is no room for it, the tunnel runs without."""
    try:
        return control.open_listener(interface)
    except StartError as error:
        log.warning("the commands drain, handshake and status will not work: %s", error)
        return None


def _start_servers(
    tunnel: Tunnel, listeners: _Listeners, options: Options, line: KeeperLine | None
) -> list[_Server]:
    uapi = uapi_server.UapiServer(tunnel, listeners.uapi)
    former = line.inherited.get("inotify") if line else None
    watch = uapi.end_with_file(former)
    if line is not None and watch is not None and former is None:
        # A process that closes the last one of it takes 20 ms longer to die.
        line.hold("inotify", watch)
    servers: list[_Server] = [uapi]
    if listeners.control is not None:
        servers.append(control.ControlServer(tunnel, listeners.control))
    if listeners.metrics is not None:
        per_peer = options.metrics_per_peer
        servers.append(metrics_server.MetricsServer(tunnel, listeners.metrics, per_peer=per_peer))
    return servers


class _Server(Protocol):
    def close(self) -> None: ...
