"""The command line of `handfast-tunnel run`, read by hand: argparse would cost its start 8 ms."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ..adapters.text import parse_endpoint
from ..core.endpoint import Endpoint
from ..errors import StartError
from ..options import LOG_LEVELS

USAGE: Final = """\
usage: handfast-tunnel run --config DIRECTORY [options]

Runs the interface of a pod from its mounted configuration, and serves the
control API. It needs neither the Kubernetes API nor the operator to start.

options:
  --config DIRECTORY        holds config.jsonl.gz (a mounted Secret)
  --state-secret DIRECTORY  holds state.jsonl.gz, or nothing
  --tls DIRECTORY           holds tls.crt, tls.key, ca.crt; without it there is
                            no control API
  --state DIRECTORY         where sessions and roles outlive the process,
                            in memory; /run/handfast/state
  --run-dir DIRECTORY       where the local control socket is, /run/handfast
  --control ADDRESS:PORT    the control API, [::]:9587
  --metrics ADDRESS:PORT    metrics and probes, [::]:9586
  --pod-uid UID             this pod's; else POD_UID of the environment
  --standby                 a new pod waits to be activated; without it, or
                            alone for 10 s, it begins by itself
  --not-alone               other pods have the same tunnel: it never does
  --after-app SECONDS       at its end it offers its sessions to another pod,
                            and serves on meanwhile, for so long at most
  -h, --help

environment:
  LOG_LEVEL                 verbose, debug, error or silent
  POD_UID                   as --pod-uid
  HANDFAST_BESIDE_APP       1: an app shares the pod; nothing that it sends to
                            the tunnel's networks leaves past the tunnel
"""

_DIRECTORIES: Final = {
    "--config": "",
    "--state-secret": "",
    "--tls": "",
    "--state": "/run/handfast/state",
    "--run-dir": "/run/handfast",
}
_ADDRESSES: Final = {"--control": "[::]:9587", "--metrics": "[::]:9586"}
_OPTIONS: Final = frozenset({*_DIRECTORIES, *_ADDRESSES, "--pod-uid", "--after-app"})
MOST_SECONDS: Final = 3600.0
"""Of an offer: no pod's end takes longer."""
_SWITCHES: Final = frozenset({"--standby", "--not-alone"})


@dataclass(frozen=True, slots=True)
class PodOptions:
    config: Path
    state_secret: Path | None
    tls: Path | None
    state: Path
    run_directory: Path
    control: Endpoint
    metrics: Endpoint
    pod_uid: str
    standby: bool
    log_level: int
    alone: bool = True
    """Whether it may begin by itself as the only one that there is."""
    after_app: float | None = None
    """For so many seconds it offers its sessions when it is to end; None: it ends at once."""
    beside_app: bool = False


def parse(arguments: Sequence[str], environment: Mapping[str, str]) -> PodOptions:
    """Raises StartError."""
    values: dict[str, str] = {}
    switches: set[str] = set()
    rest = iter(arguments)
    for argument in rest:
        name, equals, value = argument.partition("=")
        if name in _OPTIONS:
            text = value if equals else next(rest, None)
            if not text:
                raise StartError(f"{name} needs a value: see handfast-tunnel run --help")
            values[name] = text
        elif argument in _SWITCHES:
            switches.add(argument)
        else:
            raise StartError(f"unknown argument {argument!r}: see handfast-tunnel run --help")
    paths = {name: values.get(name, default) for name, default in _DIRECTORIES.items()}
    if not paths["--config"]:
        raise StartError("--config is missing: say where the tunnel's config Secret is mounted")
    addresses = {name: _address(name, values.get(name, default)) for name, default in _ADDRESSES.items()}
    return PodOptions(
        config=Path(paths["--config"]),
        state_secret=Path(paths["--state-secret"]) if paths["--state-secret"] else None,
        tls=Path(paths["--tls"]) if paths["--tls"] else None,
        state=Path(paths["--state"]),
        run_directory=Path(paths["--run-dir"]),
        control=addresses["--control"],
        metrics=addresses["--metrics"],
        pod_uid=values.get("--pod-uid") or environment.get("POD_UID", ""),
        standby="--standby" in switches,
        log_level=LOG_LEVELS.get(environment.get("LOG_LEVEL", ""), logging.INFO),
        alone="--not-alone" not in switches,
        after_app=_seconds("--after-app", values["--after-app"]) if "--after-app" in values else None,
        beside_app=environment.get("HANDFAST_BESIDE_APP", "") == "1",
    )


def _address(name: str, text: str) -> Endpoint:
    try:
        return parse_endpoint(text)
    except ValueError as reason:
        raise StartError(f"{name}: {reason}") from None


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= MOST_SECONDS:
        raise StartError(f"{name} {text}: give seconds from 0 to {MOST_SECONDS:g}")
    return seconds
