"""What `handfast-tunnel drain|handshake|state|status` do: ask a running tunnel, or its memory, and print."""

from __future__ import annotations

import json
import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from .adapters.control import directory
from .adapters.control_client import ControlError, ask, running
from .adapters.text import parse_base64_key
from .options import DEFAULT_STATE_DIRECTORY

OFFER_TIME: Final = 10.0
"""Seconds; a pod's grace less 5 s, where that is less (KUBERNETES, section 4)."""
NAMES: Final = ("drain", "handshake", "state", "status")


def run(name: str, arguments: Sequence[str]) -> int:
    """The exit status; raises ControlError."""
    options = _parser(name).parse_intermixed_args(arguments)
    return {"drain": _drain, "handshake": _handshake, "state": _state, "status": _status}[name](options)


def _parser(name: str) -> ArgumentParser:
    parser = ArgumentParser(f"handfast-tunnel {name}", description=_DESCRIPTIONS[name])
    if name == "state":
        parser.add_argument("action", choices=["show"])
        parser.add_argument("--state", metavar="DIRECTORY", type=Path, help="as the tunnel's")
    parser.add_argument("interface", nargs="?", help="needed only where there is more than one")
    if name == "drain":
        parser.add_argument("--off", action="store_true", help="thaw: go on where the drain stopped")
        parser.add_argument(
            "--offer", action="store_true", help="in a pod: wait for a successor to take over"
        )
        parser.add_argument("--seconds", type=float, default=OFFER_TIME, help="how long at most, %(default)g")
    elif name == "handshake":
        parser.add_argument(
            "--no-wait",
            action="store_true",
            help="a hook after a start: greet whoever lost its session, and succeed whatever happens",
        )
        parser.add_argument("peers", nargs="*", metavar="peer", help="public keys; without any, all peers")
    else:
        parser.add_argument("--json", action="store_true", help="everything, for programs")
    return parser


_DESCRIPTIONS: Final = {
    "drain": "Freeze a tunnel: it seals, opens and answers nothing until it ends or thaws.",
    "handshake": "Initiate handshakes with peers now.",
    "state": "Show what outlives a tunnel's process, without secrets, and why it would be refused.",
    "status": "Show a tunnel's peers and how far its recovery has come.",
}


def _drain(options: Namespace) -> int:
    if options.offer:
        from .pod.offer import offer

        return offer(options.interface, options.seconds)
    interface = interface_named(options.interface)
    ask(interface, {"call": "drain", "on": not options.off})
    print(f"{interface}: {'thawed' if options.off else 'frozen'}")
    return 0


def _handshake(options: Namespace) -> int:
    if options.no_wait:
        return _handshake_without_waiting(options)
    return _force_handshakes(options)


def _handshake_without_waiting(options: Namespace) -> int:
    """A container whose hook fails is ended, and the process initiates by itself."""
    try:
        return _force_handshakes(options)
    except ControlError as error:
        print(f"handfast-tunnel: {error}", file=sys.stderr)
        return 0


def _force_handshakes(options: Namespace) -> int:
    peers = options.peers
    if options.interface is not None and _is_key(options.interface):
        peers, options.interface = [options.interface, *peers], None
    interface = interface_named(options.interface)
    request = {"call": "handshake", "peers": peers or None}
    answer = ask(interface, request | {"lost_only": True} if options.no_wait else request)
    print(f"{interface}: handshakes initiated with {_count(answer['initiated'], 'peer')}")
    return 0


def _status(options: Namespace) -> int:
    interface = interface_named(options.interface)
    answer = ask(interface, {"call": "status"})
    print(json.dumps(answer, indent=2) if options.json else "\n".join(format_status(answer)))
    return 0


def _state(options: Namespace) -> int:
    from .continuity.inspect import inspect

    where = options.state or Path(os.environ.get("HANDFAST_STATE_DIR") or DEFAULT_STATE_DIRECTORY)
    interface = options.interface or _only([path.stem for path in sorted(where.glob("*.state"))], where)
    try:
        found = inspect(where / f"{interface}.state", interface)
    except OSError as error:
        raise ControlError(f"no state of {interface} in {where}: {error.strerror}") from None
    print(json.dumps(found, indent=2) if options.json else "\n".join(format_state(found)))
    return 0


def _only(names: Sequence[str], where: Path) -> str:
    if len(names) == 1:
        return names[0]
    if names:
        raise ControlError(f"several tunnels have state in {where}, name one of: {', '.join(names)}")
    raise ControlError(f"no tunnel has state in {where}: say its directory with --state")


def interface_named(name: str | None) -> str:
    """The one that was named, or the one that there is."""
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
    if status["incarnation"] is not None:
        lost = {when: sum(drops.values()) for when, drops in status["queue_drops"].items()}
        lines.append(
            f"  incarnation {status['incarnation']}; packets lost in queues: "
            f"{lost['at_takeover']} at its takeover, {lost['total']} in all"
        )
    lines.append(f"  data plane: {status['data_plane']}")
    if "role" in status:
        offering = ", offering to hand over" if status["offering"] else ""
        at = f"at term {status['term']}, generation {status['generation']}"
        lines.append(f"  {status['role']} {at}{offering}")
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


_SESSION: Final = "{:<12} {:<9} {:<9} {:>9} {:>10} {:>10} {:<9}"


def format_state(state: Mapping[str, Any]) -> list[str]:
    """Lines of at most 80 columns, but for the one with the path."""
    lines = [f"{state['interface']}: {state['path']}, {format_bytes(state['bytes'])}"]
    if state["refused"] is not None:
        lines.append(f"  would be refused: {state['refused']}")
    if "peers" not in state:
        return lines
    owner = "in use" if state["held"] else "not in use"
    drained = ", drained" if state["drained"] else ""
    peers = _count(len(state["peers"]), "peer")
    lines.append(f"  {owner}{drained}, owner number {state['incarnation']}, {peers}")
    if state["peers"]:
        lines += ["", _SESSION.format("PEER", "SESSION", "ROLE", "AGE", "SENT <", "RECEIVED", "CONFIRMED")]
    for peer in state["peers"]:
        lines += _format_sessions(peer)
    return lines


def _format_sessions(peer: Mapping[str, Any]) -> list[str]:
    key = _fit(peer["public_key"], 12)
    lines = [
        _SESSION.format(
            key,
            "expired" if session["expired"] else session["position"],
            "initiator" if session["initiator"] else "responder",
            format_age(max(0.0, session["age"])),
            session["send_ceiling"],
            "-" if session["highest_received"] < 0 else session["highest_received"],
            "yes" if session["heard"] else "no",
        ).rstrip()
        for session in peer["sessions"]
    ]
    return lines or [f"{key} no session"]


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
