"""The command line, as users of kubectl expect it: flags before or after names, in any order."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, NoReturn

PROGRAM: Final = "kubectl handfast"
OUTPUTS: Final = ("json",)


class Parser(argparse.ArgumentParser):
    """Says what is wrong in one line, and where help is."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"error: {message}\nSee '{self.prog} --help' for usage.\n")


@dataclass(frozen=True, slots=True)
class Command:
    help: str
    name: str = ""
    """Of the argument: TUNNEL or PEER."""
    needed: bool = False
    everywhere: bool = False
    """Whether it has -A."""
    asks: bool = False
    """Whether it asks before it does anything."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Others, and what they are for."""
    outputs: bool = True


COMMANDS: Final[Mapping[str, Command]] = {
    "status": Command("how Tunnels are, and what is not as it should be", "TUNNEL", everywhere=True),
    "peers": Command("clients, and how each came back the last time", "TUNNEL", everywhere=True),
    "config": Command(
        "a client's configuration, as wg-quick reads it",
        "PEER",
        needed=True,
        flags={"--qr": "as a code for a phone's camera"},
        outputs=False,
    ),
    "handover": Command("move a Tunnel's clients to another pod", "TUNNEL"),
    "drill": Command(
        "restart a gateway for real, and show what each client notices",
        "TUNNEL",
        asks=True,
        flags={"--in-place": "end the container only: it starts again in its pod"},
    ),
    "doctor": Command("what is wrong, why, and the command that mends it", "TUNNEL", everywhere=True),
    "purge": Command(
        "remove what an uninstalled Handfast leaves; with -A also CRDs and what is of the cluster",
        everywhere=True,
        asks=True,
    ),
}
_COMMON: Final[Mapping[str, tuple[Sequence[str], str, str]]] = {
    "--namespace": (["-n"], "NAME", "else that of the context"),
    "--context": ([], "NAME", "of the kubeconfig; else its current one"),
    "--kubeconfig": ([], "FILE", "else KUBECONFIG, else ~/.kube/config"),
}
"""Flags of all commands: their short forms, what their values are, and what they are for."""
_EPILOG: Final = """\
Without TUNNEL: all of the namespace; where something is done to one, the only
one that there is. What may not be read is left out, and named.
"""


def parse(arguments: Sequence[str]) -> argparse.Namespace:
    """Exits for help, and with status 2 for what it does not understand."""
    return _parser().parse_args(arguments)


def _parser() -> Parser:
    from handfast_tunnel import __version__

    parser = Parser(
        PROGRAM, description="See and try WireGuard gateways that survive restarts.", epilog=_EPILOG
    )
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.add_argument("--version", action="version", version=f"kubectl-handfast {__version__}")
    _add_common(parser, None)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, command in COMMANDS.items():
        made = commands.add_parser(name, help=command.help, description=f"{command.help.capitalize()}.")
        _fill(made, command)
    return parser


def _add_common(parser: argparse.ArgumentParser, default: str | None) -> None:
    for name, (short, value, meaning) in _COMMON.items():
        parser.add_argument(*short, name, metavar=value, default=default, help=meaning)


def _fill(parser: argparse.ArgumentParser, command: Command) -> None:
    if command.name:
        parser.add_argument("name", metavar=command.name, nargs=None if command.needed else "?")
    # A default here would undo what was said before the command.
    _add_common(parser, argparse.SUPPRESS)
    if command.everywhere:
        parser.add_argument("-A", "--all-namespaces", action="store_true", help="of all namespaces")
    if command.outputs:
        parser.add_argument("-o", "--output", choices=OUTPUTS, help="for programs; else a table")
    if command.asks:
        parser.add_argument("-y", "--yes", action="store_true", help="do not ask; needed without a terminal")
    for flag, meaning in command.flags.items():
        parser.add_argument(flag, action="store_true", help=meaning)
    if "--in-place" in command.flags:
        parser.add_argument(
            "--timeout",
            type=float,
            default=60.0,
            metavar="SECONDS",
            help="after which who is not back is lost; %(default)g",
        )


def flags_of(command: Command | None) -> dict[str, str]:
    """All that a command has, or all have, and what they are for."""
    found = {name: meaning for name, (_, _, meaning) in _COMMON.items()}
    if command is None:
        return found
    if command.everywhere:
        found["--all-namespaces"] = "of all namespaces"
    if command.outputs:
        found["--output"] = "json"
    if command.asks:
        found["--yes"] = "do not ask"
    return found | {**command.flags}
