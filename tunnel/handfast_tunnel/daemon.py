"""The daemon's life: open what can fail, go to the background, serve, end."""

from __future__ import annotations

import logging
import socket
from typing import NamedTuple, Protocol

from . import __version__
from .adapters import control, metrics_server, uapi_server
from .adapters.event_loop import EventLoop
from .adapters.process import (
    configure_logging,
    end_on_signals,
    go_to_background,
    protect_secrets,
    spread_garbage_collection,
)
from .adapters.tun import Tun
from .adapters.tunnel import Tunnel
from .continuity.state_file import StateFile, prepare_directory
from .errors import HandfastError, StartError
from .options import Options

log = logging.getLogger(__name__)


def run(options: Options) -> int:
    """The exit status; raises StartError.

    The device and the sockets exist before the parent ends, so `wg setconf` may follow at once.
    """
    protect_secrets()
    spread_garbage_collection()
    tun = Tun.create(options.interface) if options.tun_fd is None else Tun.from_descriptor(options.tun_fd)
    configure_logging(tun.name, options.log_level)
    listeners = _open_listeners(tun.name, options)
    background = None if options.foreground else go_to_background()
    try:
        state = _open_state(tun.name, options)
        tunnel = Tunnel(tun, EventLoop(), options.settings, state.memory if state else None)
        servers = _start_servers(tunnel, listeners, options)
    except HandfastError as error:
        if background is None:
            raise
        background.report(str(error).encode())
        return 1
    end_on_signals(tunnel)
    if background is not None:
        background.ready(keep_output=options.keep_output)
    log.info("handfast-tunnel %s runs", __version__)
    try:
        return tunnel.run()
    finally:
        for server in servers:
            server.close()


def _open_state(interface: str, options: Options) -> StateFile | None:
    """Without it everything works, but sessions end with the process."""
    if options.state is None:
        return None
    try:
        prepare_directory(options.state, any_file_system=options.state_on_disk)
        state = StateFile(options.state / f"{interface}.state", interface)
    except (HandfastError, OSError) as error:
        if options.state_required:
            raise StartError(f"no state memory: {error}") from error
        log.warning("sessions will end with this process: %s", error)
        return None
    log.debug("state memory %s, incarnation %d", options.state, state.incarnation)
    return state


class _Listeners(NamedTuple):
    uapi: socket.socket
    control: socket.socket | None
    metrics: socket.socket | None


def _open_listeners(interface: str, options: Options) -> _Listeners:
    metrics = None if options.metrics is None else metrics_server.open_listener(options.metrics)
    if options.uapi_fd is None:
        uapi = uapi_server.open_listener(interface)
    else:
        uapi = uapi_server.inherit_listener(options.uapi_fd)
    return _Listeners(uapi, _open_control(interface), metrics)


def _open_control(interface: str) -> socket.socket | None:
    """wireguard-go has no such socket: where there is no room for it, the tunnel runs without."""
    try:
        return control.open_listener(interface)
    except StartError as error:
        log.warning("the commands drain, handshake and status will not work: %s", error)
        return None


def _start_servers(tunnel: Tunnel, listeners: _Listeners, options: Options) -> list[_Server]:
    uapi = uapi_server.UapiServer(tunnel, listeners.uapi)
    uapi.end_with_file()
    servers: list[_Server] = [uapi]
    if listeners.control is not None:
        servers.append(control.ControlServer(tunnel, listeners.control))
    if listeners.metrics is not None:
        per_peer = options.metrics_per_peer
        servers.append(metrics_server.MetricsServer(tunnel, listeners.metrics, per_peer=per_peer))
    return servers


class _Server(Protocol):
    def close(self) -> None: ...
