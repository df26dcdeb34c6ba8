"""The daemon's command line and environment, read by hand: argparse would cost its start 8 ms."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final, Literal, NamedTuple

from .adapters.data_plane import CHOICES, Choice
from .adapters.keeper import RestartLimit
from .adapters.text import parse_endpoint, parse_number, parse_prefix
from .core.configuration import Prefix, Settings
from .core.endpoint import Endpoint
from .errors import StartError

USAGE: Final = """\
usage: handfast-tunnel [options] INTERFACE      run a WireGuard interface
       handfast-tunnel run --config DIRECTORY   the same in a pod; run --help
       handfast-tunnel drain [INTERFACE] [--off]
       handfast-tunnel handshake [INTERFACE] [PEER...]
       handfast-tunnel status [INTERFACE] [--json]
       handfast-tunnel state show [INTERFACE] [--json]

The first goes to the background. The others ask a running one, or show what
outlives it; INTERFACE may be left out where there is one.

options:
  -f, --foreground            stay in the foreground
  --metrics ADDRESS:PORT      serve /metrics for Prometheus, and /healthz
  --metrics-per-peer          with series for each of the first 500 peers
  --state DIRECTORY           where sessions outlive the process, or none
  --state-on-disk             even if DIRECTORY is not in memory
  --restart-limit N/SECONDS   give up when more workers die, 5/60
  --timers recovery|strict    strict: no timers but those of the paper
  --data-plane NAME           pure, native, or auto: native where installed
  --version, -h, --help

environment:
  LOG_LEVEL                   verbose, debug, error or silent
  WG_PROCESS_FOREGROUND=1     stay in the foreground
  WG_TUN_FD, WG_UAPI_FD       an open TUN device, a configuration socket
  HANDFAST_STATE_DIR          as --state; /run/handfast if neither is given
  HANDFAST_TIMERS             as --timers
  HANDFAST_DATA_PLANE         as --data-plane
  HANDFAST_ANNOUNCE           always, or never: greet known endpoints at start
  HANDFAST_SHARED_NETWORKS    addresses that all clients may share, 10.0.0.0/8
  HANDFAST_DISABLE            kernel features to avoid, as udp_gso,udp_gro
  HANDFAST_RUN_DIR            where control sockets are, /run/handfast
"""

DEFAULT_STATE_DIRECTORY: Final = "/run/handfast"

LOG_LEVELS: Final = {
    "verbose": logging.DEBUG,
    "debug": logging.DEBUG,
    "error": logging.ERROR,
    "silent": logging.CRITICAL + 1,
}

Timers = Literal["recovery", "strict"]
TIMERS: Final[Mapping[str, Timers]] = {"recovery": "recovery", "strict": "strict"}


class Options(NamedTuple):
    interface: str
    foreground: bool
    metrics: Endpoint | None
    metrics_per_peer: bool
    settings: Settings
    log_level: int
    keep_output: bool
    """In the background too, what is logged goes to the standard error stream: LOG_LEVEL asked for it."""
    state: Path | None
    """Where sessions outlive the process; None for nowhere."""
    state_required: bool
    """It was asked for: without it there is no start."""
    state_on_disk: bool
    restart_limit: RestartLimit
    data_plane: Choice
    tun_fd: int | None
    uapi_fd: int | None


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> Options:
    """Raises StartError."""
    flags: set[str] = set()
    values: dict[str, str] = {}
    interfaces: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in {"--data-plane", "--metrics", "--restart-limit", "--state", "--timers"}:
            values[name] = value if equals else _value(name, next(rest, None))
        elif argument in {"-f", "--foreground", "--metrics-per-peer", "--state-on-disk"}:
            flags.add(argument)
        elif argument.startswith("-"):
            raise StartError(f"unknown option {argument!r}: see handfast-tunnel --help")
        else:
            interfaces.append(argument)
    if len(interfaces) != 1:
        raise StartError(f"one INTERFACE is needed, not {len(interfaces)}: see handfast-tunnel --help")
    level = environment.get("LOG_LEVEL", "")
    state = values.get("--state") or environment.get("HANDFAST_STATE_DIR")
    return Options(
        interface=interfaces[0],
        foreground=bool(flags & {"-f", "--foreground"}) or environment.get("WG_PROCESS_FOREGROUND") == "1",
        metrics=_metrics_address(values.get("--metrics")),
        metrics_per_peer="--metrics-per-peer" in flags,
        settings=Settings(
            timers=_timers(values.get("--timers"), environment),
            announce=_announce(environment),
            shared_networks=_shared_networks(environment),
        ),
        state=None if state == "none" else Path(state or DEFAULT_STATE_DIRECTORY),
        state_on_disk="--state-on-disk" in flags,
        state_required=bool(state),
        restart_limit=_restart_limit(values.get("--restart-limit")),
        data_plane=data_plane(values.get("--data-plane"), environment),
        log_level=LOG_LEVELS.get(level, logging.WARNING),
        keep_output=level not in {"", "silent"},
        tun_fd=_descriptor(environment, "WG_TUN_FD"),
        uapi_fd=_descriptor(environment, "WG_UAPI_FD"),
    )


def _value(name: str, value: str | None) -> str:
    if value is None:
        raise StartError(f"{name} needs a value: see handfast-tunnel --help")
    return value


def _timers(option: str | None, environment: Mapping[str, str]) -> Timers:
    text = option or environment.get("HANDFAST_TIMERS") or "recovery"
    if text not in TIMERS:
        raise StartError(
            f"{'HANDFAST_TIMERS' if option is None else '--timers'}={text}: choose recovery or strict"
        )
    return TIMERS[text]


def data_plane(option: str | None, environment: Mapping[str, str]) -> Choice:
    """Raises StartError."""
    text = option or environment.get("HANDFAST_DATA_PLANE") or "auto"
    if text not in CHOICES:
        name = "HANDFAST_DATA_PLANE" if option is None else "--data-plane"
        raise StartError(f"{name}={text}: choose auto, pure or native")
    return CHOICES[text]


def _announce(environment: Mapping[str, str]) -> bool:
    text = environment.get("HANDFAST_ANNOUNCE") or "always"
    if text not in {"always", "never"}:
        raise StartError(f"HANDFAST_ANNOUNCE={text}: choose always or never")
    return text == "always"


def _shared_networks(environment: Mapping[str, str]) -> tuple[Prefix, ...]:
    text = environment.get("HANDFAST_SHARED_NETWORKS", "")
    try:
        return tuple([parse_prefix(each.strip()) for each in text.split(",") if each.strip()])
    except ValueError as error:
        raise StartError(
            f"HANDFAST_SHARED_NETWORKS={text}: {error}; give networks by comma, such as 10.0.0.0/8,fd00::/8"
        ) from None


def _restart_limit(text: str | None) -> RestartLimit:
    if text is None:
        return RestartLimit()
    deaths, _, seconds = text.partition("/")
    try:
        return RestartLimit(parse_number(deaths, 10**6), parse_number(seconds, 10**6))
    except ValueError:
        raise StartError(f"--restart-limit={text}: give N/SECONDS, such as 5/60") from None


def _metrics_address(text: str | None) -> Endpoint | None:
    if text is None:
        return None
    try:
        return parse_endpoint(text)
    except ValueError as reason:
        raise StartError(f"--metrics: {reason}") from None


def _descriptor(environment: Mapping[str, str], name: str) -> int | None:
    text = environment.get(name)
    if not text:
        return None
    try:
        return parse_number(text, 2**31 - 1)
    except ValueError as reason:
        raise StartError(f"{name}: {reason}") from None
