from __future__ import annotations

import errno
import select
import socket
from contextlib import closing

import pytest

from handfast_tunnel.adapters import link
from handfast_tunnel.adapters.link import DELETED, LinkState, LinkWatcher, set_queue_length
from handfast_tunnel.adapters.tun import Tun

from .isolated import isolated, shell

VETH = "ip link add one mtu 1400 type veth peer name two"


@isolated
def test_the_state_follows_the_interface() -> None:
    shell(VETH)
    with closing(LinkWatcher("one")) as watcher:
        assert watcher.current() == LinkState(up=False, mtu=1400)
        assert watcher.read() is None
        shell("ip link set one up")
        assert select.select([watcher], [], [], 1)[0]
        assert watcher.read() == LinkState(up=True, mtu=1400)
        shell("ip link set one mtu 1300")
        assert watcher.read() == LinkState(up=True, mtu=1300)
        shell("ip link set one down")
        assert watcher.read() == LinkState(up=False, mtu=1300)
        shell("ip link set one name other; ip link set other up")
        assert watcher.read() == LinkState(up=True, mtu=1300)
        shell("ip link del other")
        assert watcher.read() == DELETED
        assert watcher.current() == DELETED


@isolated
def test_other_interfaces_do_not_matter() -> None:
    shell(VETH)
    with closing(LinkWatcher("one")) as watcher:
        shell("ip link set two mtu 1300; ip link add three type bridge; ip link del three")
        assert watcher.read() is None


@isolated
def test_only_the_newest_state_counts() -> None:
    shell(VETH)
    with closing(LinkWatcher("one")) as watcher:
        shell("ip link set one up; ip link set one mtu 1200; ip link set one down; ip link set two up")
        assert watcher.read() == LinkState(up=False, mtu=1200)
        assert watcher.read() is None


@isolated
def test_a_namesake_is_another_interface() -> None:
    shell(VETH)
    with closing(LinkWatcher("one")) as watcher:
        shell(f"ip link del one; {VETH}; ip link set one up")
        assert watcher.read() == DELETED
        assert watcher.current() == DELETED


@isolated
def test_lost_messages_are_made_up_for() -> None:
    shell(VETH)
    with closing(LinkWatcher("one")) as watcher:
        watcher._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1)
        shell("for mtu in $(seq 1000 1200); do ip link set one mtu $mtu; done")
        assert watcher.read() == LinkState(up=False, mtu=1200)
        assert watcher.read() is None


@isolated
def test_an_interface_that_is_not_there() -> None:
    with pytest.raises(OSError, match="none") as caught:
        LinkWatcher("none")
    assert caught.value.errno == errno.ENODEV


@isolated
def test_a_netlink_error_is_raised(monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(LinkWatcher("lo")) as watcher:
        monkeypatch.setattr(link, "RTM_GETLINK", 9999)
        with pytest.raises(OSError, match="not supported"):
            watcher.current()


@isolated
def test_the_queue_length_is_set() -> None:
    shell(VETH)
    set_queue_length("one", 1234)
    assert "qlen 1234" in shell("ip link show one")
    with pytest.raises(OSError, match="no interface with this name"):
        set_queue_length("none", 1234)


@isolated
def test_drops_are_counted() -> None:
    with closing(Tun.create("wg0")) as tun, closing(LinkWatcher("wg0")) as watcher:
        shell("ip address add 10.9.0.1/24 dev wg0; ip link set wg0 txqueuelen 5 up")
        before = watcher.dropped()
        assert before is not None
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            for _ in range(105):
                sender.sendto(b"x", ("10.9.0.2", 9))
        after = watcher.dropped()
        assert after is not None
        assert after[0] - before[0] >= 100
        assert tun.read_batch()
        shell("ip link del wg0")
        assert watcher.dropped() is None
