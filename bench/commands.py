"""Small steps that several experiments take on a node of the lab."""

from __future__ import annotations

import compileall
import socket
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from tests.lab.implementations import Implementation, implementation
from tests.lab.namespaces import LabError, Node, Process, wait_until

import handfast_tunnel


def compile_tunnel() -> None:
    """As an installation does: then a start compiles nothing."""
    compileall.compile_dir(Path(handfast_tunnel.__file__).parent, quiet=1)


def program_named(name: str) -> Implementation:
    """One of `results.TITLES`; forgetful is Handfast without state memory, whose sessions end with it."""
    if name != "handfast-forgetful":
        return implementation(name)
    return replace(implementation("handfast").with_options(HANDFAST_STATE_DIR="none"), name=name)


QUIET_LOG: Final = {"LOG_LEVEL": "error"}


def numbered(subnet: int, number: int) -> str:
    """Address `number` of 10.<subnet>.0.0/16."""
    return f"10.{subnet}.{number >> 8}.{number & 255}"


def peer_section(
    key: str, allowed_ip: str, endpoint: str | None = None, keepalive: int = 0, behind: str | None = None
) -> str:
    """`behind` is a network that the peer forwards to."""
    allowed_ips = f"{allowed_ip}/32, {behind}" if behind else f"{allowed_ip}/32"
    lines = ["[Peer]", f"PublicKey = {key}", f"AllowedIPs = {allowed_ips}"]
    lines += [f"Endpoint = {endpoint}"] if endpoint else []
    lines += [f"PersistentKeepalive = {keepalive}"] if keepalive else []
    return "\n".join([*lines, ""])


def interface_section(private_key: str, port: int) -> str:
    return f"[Interface]\nPrivateKey = {private_key}\nListenPort = {port}\n"


def setconf(interface: str, configuration: str) -> str:
    """A line of shell."""
    return f"wg setconf {interface} /dev/stdin <<'END'\n{configuration}END\n"


def ip_batch(lines: Iterable[str]) -> str:
    """A line of shell."""
    return "ip -batch - <<'END'\n" + "\n".join(lines) + "\nEND\n"


def uapi_socket(node: Node, interface: str) -> Path:
    """The configuration socket of an interface, as seen from outside its mount namespace."""
    return Path(f"/proc/{node.pid}/root/run/wireguard/{interface}.sock")


def listens(node: Node, interface: str) -> bool:
    """Whether it takes configuration. `wg` must not ask: it deletes a socket that does not listen yet."""
    with socket.socket(socket.AF_UNIX) as uapi:
        return uapi.connect_ex(str(uapi_socket(node, interface))) == 0


def start_interface(
    program: Implementation,
    node: Node,
    configuration: str,
    links: Iterable[str],
    environment: Mapping[str, str] = QUIET_LOG,
) -> Process:
    """Start `wg0`, configure it, bring it up: what wg-quick does, in its order."""
    process = program.launch(node, "wg0", environment)
    try:
        what = f"{program} to start on {node.name}"
        wait_until(lambda: process.poll() is not None or listens(node, "wg0"), 10, what, interval=0.001)
        node.run("sh", "-e", input=setconf("wg0", configuration) + ip_batch(links))
    except LabError as error:
        raise LabError(f"{error}; {program} said: {process.output() or 'nothing'}") from error
    return process


def bound(node: Node, address: str, port: int = 0) -> socket.socket:
    """A UDP socket of the node's network."""
    sock = node.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((address, port))
    return sock
