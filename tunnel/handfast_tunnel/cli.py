"""The command `handfast-tunnel`: a daemon as `wireguard-go` is one, and commands that ask a running one."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Sequence

from . import __version__
from .errors import HandfastError

COMMANDS = frozenset({"drain", "handshake", "state", "status"})


def main(arguments: Sequence[str] | None = None) -> int:
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        return _run(arguments)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except HandfastError as error:
        print(f"handfast-tunnel: {error}", file=sys.stderr)
        return 1


def _run(arguments: Sequence[str]) -> int:
    """Imports only what this call needs: the daemon's first packets wait for its imports."""
    if arguments and arguments[0] in COMMANDS:
        from . import commands

        return commands.run(arguments[0], arguments[1:])
    if arguments[:1] == ["run"]:
        return _run_pod(arguments[1:])
    if "--version" in arguments:
        print(f"handfast-tunnel {__version__}")
        return 0
    return _run_daemon(arguments)


def _run_daemon(arguments: Sequence[str]) -> int:
    gc.disable()  # imports leave no garbage, and to look for it meanwhile costs 6 ms
    try:
        from .options import USAGE, parse

        if not arguments or {"-h", "--help"} & set(arguments):
            print(USAGE, end="", file=sys.stdout if arguments else sys.stderr)
            return 0 if arguments else 1
        options = parse(arguments, os.environ)
        from . import daemon
    finally:
        gc.enable()
    return daemon.run(options)


def _run_pod(arguments: Sequence[str]) -> int:
    gc.disable()
    try:
        from .pod.options import USAGE, parse

        if {"-h", "--help"} & set(arguments):
            print(USAGE, end="")
            return 0
        options = parse(arguments, os.environ)
        from .pod import life
    finally:
        gc.enable()
    return life.run(options)
