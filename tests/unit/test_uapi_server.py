from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from handfast_tunnel.adapters import local_server, uapi_server
from handfast_tunnel.adapters.uapi_server import UapiServer, inherit_listener, open_listener
from handfast_tunnel.continuity.packed_configuration import PackedConfiguration, pack
from handfast_tunnel.core.configuration import Settings
from handfast_tunnel.core.device import Device
from handfast_tunnel.errors import ConfigurationError, StartError
from tests.lab.namespaces import wait_until

from .fake_tunnel import FakeTunnel

KEYS = [bytes([number]) * 32 for number in range(1, 200)]


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(uapi_server, "DIRECTORY", tmp_path / "wireguard")
    return tmp_path / "wireguard" / "wg0.sock"


@pytest.fixture
def tunnel(path: Path) -> Iterator[FakeTunnel]:
    tunnel = FakeTunnel()
    server = UapiServer(tunnel.as_tunnel, open_listener("wg0"))
    server.end_with_file()
    tunnel.start()
    yield tunnel
    tunnel.stop()
    server.close()
    tunnel.close()
    assert not path.exists()


@contextlib.contextmanager
def client(path: Path) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.connect(str(path))  # waits while the queue is full, as it would not under a timeout
        connection.settimeout(10)
        yield connection


def ask(path: Path, request: str) -> str:
    with client(path) as connection:
        connection.sendall(request.encode())
        return receive_answer(connection)


def receive_answer(connection: socket.socket) -> str:
    answer = b""
    while not answer.endswith(b"\n\n"):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    return answer.decode()


def peers(count: int) -> str:
    return "".join(f"public_key={key.hex()}\n" for key in KEYS[:count])


def test_set_then_get(tunnel: FakeTunnel, path: Path) -> None:
    assert ask(path, f"set=1\nfwmark=5\n{peers(2)}\n") == "errno=0\n\n"
    answer = ask(path, "get=1\n\n")
    assert answer.startswith("fwmark=5\npublic_key=0101")
    assert answer.endswith("errno=0\n\n")
    assert list(tunnel.device.peers) == KEYS[:2]


def test_get_and_set_wait_until_all_peers_are_there(tunnel: FakeTunnel, path: Path) -> None:
    """A successor serves packets first."""
    ask(path, f"set=1\n{peers(40)}\n")
    left = PackedConfiguration(b"".join(pack(tunnel.device)))
    successor = Device(Settings())
    successor.succeed(left, tunnel.loop.now)
    assert len(successor.peers) < 40
    tunnel.device = successor
    with client(path) as getting, client(path) as setting:
        getting.sendall(b"get=1\n\n")
        setting.sendall(f"set=1\npublic_key={KEYS[0].hex()}\nremove=true\n\n".encode())
        for connection in (getting, setting):
            connection.settimeout(0.2)
            with pytest.raises(TimeoutError):
                connection.recv(1)
            connection.settimeout(10)
        tunnel.loop.call_soon_threadsafe(lambda: tunnel.loop.spawn(tunnel.build_up()))
        assert receive_answer(getting).count("public_key=") in {39, 40}
        assert receive_answer(setting) == "errno=0\n\n"
    assert list(tunnel.device.peers) == KEYS[1:40]


@pytest.mark.usefixtures("tunnel")
def test_one_connection_carries_many_operations(path: Path) -> None:
    with client(path) as connection:
        connection.sendall(b"set=1\nfwmark=5\n\nget=1\n\nset=1\nfwmark=x\n\nget=1\n\n")
        answers = receive_answer(connection)
        while answers.count("errno=") < 4:
            answers += receive_answer(connection)
    assert answers == "errno=0\n\nfwmark=5\nerrno=0\n\nerrno=-22\n\nfwmark=5\nerrno=0\n\n"


def test_a_refused_set_changes_nothing(
    tunnel: FakeTunnel, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert ask(path, f"set=1\nfwmark=5\n{peers(3)}allowed_ip=nonsense\n\n") == "errno=-22\n\n"
    assert tunnel.device.fwmark == 0
    assert not tunnel.device.peers
    assert "'nonsense' is not a network" in caplog.text


def test_the_answer_is_the_code_of_the_refusal(tunnel: FakeTunnel, path: Path) -> None:
    tunnel.failure = ConfigurationError("port taken", 98)
    assert ask(path, "set=1\nlisten_port=1\n\n") == "errno=-98\n\n"


def test_half_a_set_is_none(tunnel: FakeTunnel, path: Path) -> None:
    with client(path) as connection:
        connection.sendall(f"set=1\nfwmark=5\n{peers(3)}".encode())
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(100) == b""
    assert tunnel.device.fwmark == 0


@pytest.mark.usefixtures("tunnel")
@pytest.mark.parametrize("request_", [b"what=1\n\n", b"\n", b"\xff\0\n", b"x" * 100_000])
def test_an_unknown_operation_ends_the_connection(path: Path, request_: bytes) -> None:
    with client(path) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(request_)
        assert connection.recv(100) == b""
    assert ask(path, "get=1\n\n") == "errno=0\n\n"


@pytest.mark.usefixtures("tunnel")
def test_characters_after_get(path: Path) -> None:
    assert ask(path, "get=1\nx\n\n") == "errno=-22\n\n"


@pytest.mark.usefixtures("tunnel")
def test_a_client_that_only_looks_whether_someone_is_there(path: Path) -> None:
    for _ in range(10):
        with client(path):
            pass
    assert ask(path, "get=1\n\n") == "errno=0\n\n"


def test_slow_clients_hold_up_nobody(tunnel: FakeTunnel, path: Path) -> None:
    ask(path, f"set=1\n{peers(199)}\n")
    with client(path) as writer, client(path) as reader:
        writer.sendall(b"set=1\nfwmark=7\n")
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        reader.sendall(b"get=1\n\n" * 50)
        assert ask(path, "set=1\nfwmark=6\n\n") == "errno=0\n\n"
        assert "fwmark=6" in ask(path, "get=1\n\n")
        writer.sendall(b"\n")
        assert receive_answer(writer) == "errno=0\n\n"
        answers = receive_answer(reader)
        while answers.count("errno=0") < 50:
            answers += receive_answer(reader)
    assert tunnel.device.fwmark == 7


def test_sets_take_effect_one_after_the_other(tunnel: FakeTunnel, path: Path) -> None:
    requests = [f"set=1\nfwmark={number}\n{peers(150)}\n" for number in range(8)]
    threads = [threading.Thread(target=ask, args=(path, request)) for request in requests]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert tunnel.most_applying == 1
    assert len(tunnel.device.peers) == 150


def test_a_bug_in_a_set_ends_only_its_connection(tunnel: FakeTunnel, path: Path) -> None:
    tunnel.failure = RuntimeError("a bug")
    with client(path) as connection:
        connection.sendall(b"set=1\nfwmark=5\n\n")
        assert connection.recv(100) == b""
    tunnel.failure = None
    assert ask(path, "set=1\nfwmark=5\n\n") == "errno=0\n\n"


GET, DONE = b"get=1\n\n", "errno=0\n\n"


@pytest.mark.usefixtures("tunnel")
def test_idle_clients_keep_nobody_out(path: Path) -> None:
    with contextlib.ExitStack() as stack:
        for _ in range(local_server.CLIENT_LIMIT + 3):
            connection = stack.enter_context(client(path))
            with contextlib.suppress(BrokenPipeError):
                connection.sendall(b"set=1\n")
        for _ in range(3):
            assert ask(path, GET.decode()) == DONE


@pytest.mark.usefixtures("tunnel")
def test_who_was_idle_for_longest_goes_for_another(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_server, "CLIENT_LIMIT", 2)
    with client(path) as first, client(path) as second:
        for connection in (first, second, first):
            connection.sendall(GET)
            assert receive_answer(connection) == DONE
        assert ask(path, GET.decode()) == DONE
        assert second.recv(1) == b""
        first.sendall(GET)
        assert receive_answer(first) == DONE


def test_where_all_are_served_another_waits(
    tunnel: FakeTunnel, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(local_server, "CLIENT_LIMIT", 2)
    go_on = threading.Event()

    def apply(_: object) -> Iterator[None]:
        while not go_on.is_set():
            yield

    monkeypatch.setattr(tunnel, "apply", apply)
    with client(path) as first, client(path) as second:
        for connection in (first, second):
            connection.sendall(b"set=1\nfwmark=1\n\n")
        wait_until(lambda: len(tunnel.loop._jobs) == 2, 10, "both to be served")
        with client(path) as third:
            third.sendall(GET)
            third.settimeout(0.2)
            with pytest.raises(TimeoutError):
                third.recv(100)
            go_on.set()
            third.settimeout(10)
            answers = [receive_answer(connection) for connection in (first, second, third)]
        assert answers == [DONE] * 3


def test_removing_the_socket_ends_the_tunnel(tunnel: FakeTunnel, path: Path) -> None:
    path.unlink()
    tunnel.join()


@pytest.mark.usefixtures("tunnel")
def test_touching_the_socket_does_not(path: Path) -> None:
    path.chmod(0o660)
    assert ask(path, "get=1\n\n") == "errno=0\n\n"


def test_the_socket_is_its_owners(path: Path) -> None:
    with open_listener("wg0"):
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o755


def test_a_dead_process_socket_is_replaced(path: Path) -> None:
    open_listener("wg0").close()
    assert path.is_socket()
    with open_listener("wg0"), client(path):
        pass


def test_a_live_process_socket_is_refused(path: Path) -> None:
    with open_listener("wg0"):
        with pytest.raises(StartError, match=r"wg0\.sock.*another process serves it; end that one or choose"):
            open_listener("wg0")
        with client(path):
            pass


def test_a_socket_that_cannot_be_made_says_why(path: Path) -> None:
    path.parent.parent.joinpath("wireguard").touch()
    with pytest.raises(StartError, match=r"cannot create the socket .*wg0\.sock"):
        open_listener("wg0")


def test_a_supervisors_socket_is_taken_over(tmp_path: Path) -> None:
    supervisor = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    supervisor.bind(str(tmp_path / "socket"))
    with inherit_listener(supervisor.detach()), client(tmp_path / "socket"):
        pass


def test_a_wrong_descriptor_is_refused() -> None:
    with Path(os.devnull).open() as null, pytest.raises(StartError, match=r"WG_UAPI_FD=\d+ is not a socket"):
        inherit_listener(null.fileno())
    with pytest.raises(StartError, match="is not a Unix stream socket"):
        inherit_listener(socket.socket().detach())
