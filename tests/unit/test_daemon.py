"""The daemon as a process, on a node of its own: start, background, errors, signals, end."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from subprocess import CompletedProcess

import pytest

from tests.lab.namespaces import Lab, Node, Process, wait_until
from tests.lab.tools import tool

HANDFAST = str(tool("handfast-tunnel"))
WG = str(tool("wg"))
SOCKET = "/var/run/wireguard/wg0.sock"
CONTROL = "/run/handfast/wg0.control"
KEY = "2AyCHdKGQHbVjZG6Y6aBy4LSqTrqB8C9M5rW0T1Fqko="
PEER = "uFmW/sycfx/G0lcqdu2hHVm80gvo5UOxXOS9hajnWjM="
CONFIGURATION = f"""
[Interface]
PrivateKey = {KEY}
ListenPort = 51820

[Peer]
PublicKey = {PEER}
AllowedIPs = 10.0.0.2/32, fd00::2/128
Endpoint = 127.0.0.1:9
PersistentKeepalive = 25
"""


@pytest.fixture
def node() -> Iterator[Node]:
    with Lab() as lab:
        yield lab.add_nodes("node")[0]


def exists(node: Node, path: str) -> bool:
    return node.attempt("test", "-e", path).returncode == 0


def processes(node: Node) -> list[int]:
    found = node.attempt("pgrep", "-f", "handfast-tunnel").stdout.split()
    return [int(pid) for pid in found]


def start(node: Node, *options: str, **environment: str) -> Process:
    """In the foreground; returns when its socket is there."""
    process = node.start(HANDFAST, "-f", *options, "wg0", environment=environment)
    wait_until(lambda: exists(node, CONTROL) or process.poll() is not None, 10, "the daemon")
    return process


def one_line(done: CompletedProcess[str]) -> str:
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("handfast-tunnel: ")
    assert done.stderr.count("\n") == 1
    return done.stderr


def test_in_the_background_it_is_ready_when_the_command_returns(node: Node) -> None:
    node.run(HANDFAST, "wg0")
    node.run(WG, "setconf", "wg0", "/dev/stdin", input=CONFIGURATION)
    assert PEER in node.run(WG, "show", "wg0")
    pid = processes(node)[0]
    standard = [node.run("readlink", f"/proc/{pid}/fd/{number}").strip() for number in range(3)]
    session = node.run("ps", "-o", "sid=", "-p", str(pid)).strip()
    assert standard == ["/dev/null"] * 3
    assert session == str(pid)
    node.run("kill", str(pid))
    wait_until(lambda: not processes(node), 5, "its end")
    assert not exists(node, SOCKET)
    assert not exists(node, CONTROL)


def test_in_the_background_it_keeps_its_output_where_a_log_is_asked_for(node: Node) -> None:
    log = node.start("sh", "-c", f"LOG_LEVEL=debug exec {HANDFAST} wg0", log="background")
    assert log.wait() == 0
    node.run("ip", "link", "set", "wg0", "up")
    wait_until(lambda: "up on port" in log.output(), 5, "a line of the log")
    node.run("ip", "link", "del", "wg0")
    wait_until(lambda: not processes(node), 5, "its end")


def test_how_packets_move_is_said_to_who_looks_for_it(node: Node) -> None:
    """Nothing is lacking here: by default it says nothing."""
    for level, expected in (("debug", ["TUN: reads", "UDP: IPv4 sends"]), ("", [])):
        process = start(node, LOG_LEVEL=level)
        node.run("ip", "link", "set", "wg0", "up")
        wait_until(lambda: node.run("ss", "-ulnH"), 5, "its sockets")
        process.terminate()
        said = process.output()
        assert [text for text in ("TUN: reads", "UDP: IPv4 sends") if text in said] == expected
        process.log.write_text("")


def test_configuration_comes_back_as_it_was_given(node: Node) -> None:
    start(node)
    node.run(WG, "setconf", "wg0", "/dev/stdin", input=CONFIGURATION)
    shown = node.run(WG, "showconf", "wg0")
    assert sorted(shown.split()) == sorted(CONFIGURATION.split())
    for command in ("syncconf", "addconf", "setconf"):
        node.run(WG, command, "wg0", "/dev/stdin", input=shown)
        assert node.run(WG, "showconf", "wg0") == shown
    node.run(WG, "set", "wg0", "peer", PEER, "remove")
    assert PEER not in node.run(WG, "show", "wg0")


def test_wg_hears_why_a_set_was_refused(node: Node) -> None:
    start(node)
    node.run("ip", "link", "set", "wg0", "up")
    node.run(WG, "setconf", "wg0", "/dev/stdin", input=CONFIGURATION)
    with node.socket(2, 2) as taken:
        taken.bind(("0.0.0.0", 7777))
        done = node.attempt(WG, "set", "wg0", "listen-port", "7777", "peer", PEER, "remove")
    assert done.stderr.strip() == "Unable to modify interface: Address already in use"
    assert "listening port: 51820" in node.run(WG, "show", "wg0")
    assert PEER in node.run(WG, "show", "wg0")


def test_drain_over_the_configuration_socket(node: Node) -> None:
    start(node)
    talk = (
        "import socket,sys; s=socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
        "s.sendall(f'set=1\\ndrain={sys.argv[2]}\\n\\n'.encode()); print(s.recv(100).decode())"
    )
    for text, frozen in (("true", True), ("false", False)):
        assert node.run(sys.executable, "-c", talk, SOCKET, text).strip() == "errno=0"
        assert json.loads(node.run(HANDFAST, "status", "--json"))["frozen"] is frozen


def test_commands(node: Node) -> None:
    start(node)
    node.run(WG, "setconf", "wg0", "/dev/stdin", input=CONFIGURATION)
    node.run("ip", "link", "set", "wg0", "up")
    assert node.run(HANDFAST, "drain") == "wg0: frozen\n"
    assert node.run(HANDFAST, "status").startswith("wg0: frozen on port 51820, 1 peer")
    assert node.run(HANDFAST, "drain", "wg0", "--off") == "wg0: thawed\n"
    assert node.run(HANDFAST, "handshake", PEER) == "wg0: handshakes initiated with 1 peer\n"
    stranger = node.attempt(HANDFAST, "handshake", KEY)
    assert one_line(stranger) == f"handfast-tunnel: wg0 refused: wg0 has no peer {KEY}\n"
    assert "no tunnel answers at /run/handfast/wg9.control" in one_line(
        node.attempt(HANDFAST, "status", "wg9")
    )


@pytest.mark.parametrize("number", ["TERM", "INT"])
def test_a_signal_ends_it_with_status_0_and_nothing_is_left(node: Node, number: str) -> None:
    process = start(node)
    node.run(WG, "setconf", "wg0", "/dev/stdin", input=CONFIGURATION)
    node.run("ip", "link", "set", "wg0", "up")
    node.run("kill", f"-{number}", str(processes(node)[0]))
    assert process.wait() == 0
    assert not exists(node, SOCKET)
    assert not exists(node, CONTROL)
    assert not exists(node, "/sys/class/net/wg0")


def test_removing_its_socket_ends_it(node: Node) -> None:
    process = start(node)
    node.run("rm", SOCKET)
    assert process.wait() == 0


def test_after_kill_9_the_next_one_starts(node: Node) -> None:
    start(node).kill()
    assert exists(node, SOCKET)
    assert exists(node, CONTROL)
    node.run(HANDFAST, "wg0")
    assert node.run(WG, "show", "interfaces") == "wg0\n"


@pytest.mark.parametrize("options", [[], ["-f"]])
def test_a_second_instance_is_refused_and_the_first_goes_on(node: Node, options: list[str]) -> None:
    start(node)
    assert "another process has it" in one_line(node.attempt(HANDFAST, *options, "wg0"))
    assert node.run(WG, "show", "interfaces") == "wg0\n"


def test_a_socket_of_another_program_is_refused(node: Node) -> None:
    node.run("mkdir", "/run/wireguard")
    node.start("wireguard-go", "-f", "wg0")
    wait_until(lambda: exists(node, SOCKET), 5, "wireguard-go")
    node.run("ip", "link", "set", "wg0", "name", "wg9")
    assert f"{SOCKET}: another process serves it" in one_line(node.attempt(HANDFAST, "wg0"))


def test_without_permission_it_says_so(node: Node) -> None:
    done = node.attempt(
        "setpriv", "--bounding-set=-all", "--inh-caps=-all", "--ambient-caps=-all", HANDFAST, "wg0"
    )
    assert "wg0" in one_line(done)


def test_a_taken_metrics_port_is_refused_before_anything_is_left(node: Node) -> None:
    with node.socket(2, 1) as taken:
        taken.bind(("127.0.0.1", 9586))
        taken.listen()
        done = node.attempt(HANDFAST, "--metrics", "127.0.0.1:9586", "wg0")
    assert "--metrics 127.0.0.1:9586: Address already in use" in one_line(done)
    assert not exists(node, "/sys/class/net/wg0")
    assert not exists(node, SOCKET)


def test_metrics(node: Node) -> None:
    start(node, "--metrics", "127.0.0.1:9586", "--metrics-per-peer")
    node.run(WG, "setconf", "wg0", "/dev/stdin", input=CONFIGURATION)
    fetch = "import urllib.request, sys; print(urllib.request.urlopen(sys.argv[1]).read().decode())"
    text = node.run(sys.executable, "-c", fetch, "http://127.0.0.1:9586/metrics")
    assert 'handfast_peers{state="silent"} 1.0' in text
    assert f'public_key="{PEER}"' in text


def test_without_a_place_for_its_control_socket_it_runs_nevertheless(node: Node) -> None:
    process = node.start(HANDFAST, "-f", "wg0", environment={"HANDFAST_RUN_DIR": "/proc/nowhere"})
    wait_until(lambda: exists(node, SOCKET), 5, "the daemon")
    assert node.run(WG, "show", "interfaces") == "wg0\n"
    assert "drain, handshake and status will not work" in process.output()


def test_its_memory_cannot_be_dumped(node: Node) -> None:
    """By the same user, who needs no more rights than the tunnel for any other process."""
    as_user = ["setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all"]
    node.start(*as_user, HANDFAST, "-f", "wg0")
    node.start(*as_user, "sleep", "60", log="other")
    wait_until(lambda: exists(node, CONTROL), 10, "the daemon")
    keeper_and_worker, others = processes(node), node.run("pgrep", "-x", "sleep").split()
    assert (len(keeper_and_worker), len(others)) == (2, 1)
    for pid in keeper_and_worker:
        limits = node.run("cat", f"/proc/{pid}/limits")
        assert [line.split()[4:6] for line in limits.splitlines() if "core file" in line] == [["0", "0"]]
        assert "denied" in node.attempt(*as_user, "head", "-c1", f"/proc/{pid}/environ").stderr
    node.run(*as_user, "head", "-c1", f"/proc/{others[0]}/environ")


def test_descriptors_of_a_supervisor_are_used(node: Node) -> None:
    supervisor = (
        "import fcntl, os, socket, struct, sys\n"
        "tun = os.open('/dev/net/tun', os.O_RDWR)\n"
        "fcntl.ioctl(tun, 0x400454CA, struct.pack('16sH22x', b'tun7', 0x1001))\n"
        "listener = socket.socket(socket.AF_UNIX)\n"
        "listener.bind('/run/elsewhere.sock')\n"
        "listener.listen()\n"
        "os.set_inheritable(tun, True)\n"
        "listener.set_inheritable(True)\n"
        "os.environ |= {'WG_TUN_FD': str(tun), 'WG_UAPI_FD': str(listener.fileno())}\n"
        "os.execv(sys.argv[1], [sys.argv[1], '-f', 'wg0'])\n"
    )
    node.start(sys.executable, "-c", supervisor, HANDFAST)
    wait_until(lambda: exists(node, "/run/handfast/tun7.control"), 5, "the daemon")
    node.run("mkdir", "-p", "/run/wireguard")
    node.run("ln", "/run/elsewhere.sock", "/run/wireguard/tun7.sock")
    node.run(WG, "set", "tun7", "fwmark", "7")
    assert "fwmark: 0x7" in node.run(WG, "show", "tun7")
