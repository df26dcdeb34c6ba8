"""The nft table: what is in it, and that it replaces whatever it was."""

from __future__ import annotations

import pytest

from handfast_tunnel.control import ForwardingSpec
from handfast_tunnel.pod.firewall import FirewallError, install, table_name
from tests.unit.isolated import isolated, shell

BOTH = ForwardingSpec()


@isolated
def test_the_kernel_takes_it() -> None:
    install("wg0", BOTH, 1420)
    shown = shell("nft list table inet handfast_wg0")
    assert 'iifname "wg0" oifname != "wg0" masquerade' in shown
    assert "tcp option maxseg size set 1380" in shown
    assert "tcp option maxseg size set 1360" in shown


@isolated
def test_it_replaces_what_another_process_left() -> None:
    shell("nft add table inet handfast_wg0; nft add chain inet handfast_wg0 leftover")
    install("wg0", BOTH, 1420)
    install("wg0", ForwardingSpec(masquerade=False), 1300)
    shown = shell("nft list ruleset")
    assert "leftover" not in shown
    assert "masquerade" not in shown
    assert shown.count("size set 1260") == 2


@isolated
def test_nothing_asked_for_is_nothing_left_and_others_tables_stay() -> None:
    shell("nft add table inet somebodys")
    install("wg0", BOTH, 1420)
    install("wg0", ForwardingSpec(masquerade=False, clamp_mss=False), 1420)
    assert shell("nft list tables").split() == ["table", "inet", "somebodys"]


@pytest.mark.parametrize("name", ["wg-1", "a.b", "w=+", "_"])
def test_every_interface_has_a_table_name(name: str) -> None:
    @isolated
    def check() -> None:
        install(name, BOTH, 1420)
        assert table_name(name) in shell("nft list tables")

    check()


def test_without_the_program_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nonexistent")
    with pytest.raises(FirewallError, match="install nftables"):
        install("wg0", BOTH, 1420)


@isolated
def test_what_the_kernel_refuses() -> None:
    with pytest.raises(FirewallError, match="nft refused table handfast_wg0"):
        install("wg0", BOTH, -1)
