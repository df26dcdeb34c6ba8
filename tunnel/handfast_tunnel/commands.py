"""What `handfast-tunnel drain|handshake|status` do: ask a running tunnel, and print its answer."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from typing import Any, Final

from .adapters.control import directory
from .adapters.control_client import ControlError, ask, running
from .adapters.text import parse_base64_key

NAMES: Final = ("drain", "handshake", "status")


def run(name: str, arguments: Sequence[str]) -> int:
    """The exit status; raises ControlError."""
    options = _parser(name).parse_args(arguments)
    return {"drain": _drain, "handshake": _handshake, "status": _status}[name](options)


def _parser(name: str) -> ArgumentParser:
    parser = ArgumentParser(f"handfast-tunnel {name}", description=_DESCRIPTIONS[name])
    parser.add_argument("interface", nargs="?", help="needed only where more than one tunnel runs")
    if name == "drain":
        parser.add_argument("--off", action="store_true", help="thaw: go on where the drain stopped")
    elif name == "handshake":
        parser.add_argument("peers", nargs="*", metavar="peer", help="public keys; without any, all peers")
    else:
        parser.add_argument("--json", action="store_true", help="everything, for programs")
    return parser


_DESCRIPTIONS: Final = {
    "drain": "Freeze a tunnel: it seals, opens and answers nothing until it ends or thaws.",
    "handshake": "Initiate handshakes with peers now.",
    "status": "Show a tunnel's peers and how far its recovery has come.",
}


def _drain(options: Namespace) -> int:
    interface = _interface(options.interface)
    ask(interface, {"call": "drain", "on": not options.off})
    print(f"{interface}: {'thawed' if options.off else 'frozen'}")
    return 0


def _handshake(options: Namespace) -> int:
    peers = options.peers
    if options.interface is not None and _is_key(options.interface):
        peers, options.interface = [options.interface, *peers], None
    interface = _interface(options.interface)
    answer = ask(interface, {"call": "handshake", "peers": peers or None})
    print(f"{interface}: handshakes initiated with {_count(answer['initiated'], 'peer')}")
    return 0


def _status(options: Namespace) -> int:
    interface = _interface(options.interface)
    answer = ask(interface, {"call": "status"})
    print(json.dumps(answer, indent=2) if options.json else "\n".join(format_status(answer)))
    return 0


def _interface(name: str | None) -> str:
    if name is not None:
        return name
    names = running()
    if len(names) == 1:
        return names[0]
    if names:
        raise ControlError(f"several tunnels run here, name one of: {', '.join(names)}")
    raise ControlError(f"no tunnel answers in {directory()}: start one, or run this as its user")


def _is_key(text: str) -> bool:
    try:
        parse_base64_key(text)
    except ValueError:
        return False
    return True


_COLUMNS: Final = "{:<12} {:<27} {:<9} {:>9} {:>9} {:>9}"


def format_status(status: Mapping[str, Any]) -> list[str]:
    """Lines of at most 80 columns."""
    recovery = status["recovery"]
    state = "frozen" if status["frozen"] else "serving"
    peers = _count(len(status["peers"]), "peer")
    lines = [
        f"{status['interface']}: {state} on port {status['listen_port']}, {peers}, public key",
        f"  {status['public_key'] or 'not set yet'}",
    ]
    if recovery["total"]:
        lines.append(
            f"  recovery: {recovery['recovered']} of {_count(recovery['total'], 'peer')} back, "
            f"{recovery['pending']} in progress, {recovery['waiting']} left to come by themselves"
        )
    if status["peers"]:
        lines += ["", _COLUMNS.format("PEER", "ENDPOINT", "RECOVERY", "HANDSHAKE", "RECEIVED", "SENT")]
        lines += [_format_peer(peer) for peer in status["peers"]]
    return lines


def _format_peer(peer: Mapping[str, Any]) -> str:
    age = peer["handshake_age"]
    return _COLUMNS.format(
        _fit(peer["public_key"], 12),
        _fit(peer["endpoint"] or "-", 27),
        peer["method"] or peer["recovery"],
        "-" if age is None else format_age(age),
        format_bytes(peer["received_bytes"]),
        format_bytes(peer["sent_bytes"]),
    )


def _fit(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 1]}…"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")


def format_age(seconds: float) -> str:
    """The two leading units: `4s`, `2m 05s`, `3h 12m`, `9d 04h`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d {hours:02}h"
    if hours:
        return f"{hours}h {minutes:02}m"
    return f"{minutes}m {rest:02}s" if minutes else f"{rest}s"


def format_bytes(number: float) -> str:
    """At most three digits: `512 B`, `1.5 KiB`, `999 MiB`, `1.0 GiB`."""
    unit = "B"
    for larger in ("KiB", "MiB", "GiB", "TiB", "PiB"):
        if number < 1000:
            break
        number /= 1024
        unit = larger
    return f"{number:.0f} {unit}" if unit == "B" or number >= 99.5 else f"{number:.1f} {unit}"
