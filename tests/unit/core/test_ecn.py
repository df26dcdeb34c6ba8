from __future__ import annotations

import pytest

from handfast_tunnel.core.ecn import CE, inner_ecn, mark_congestion

from .packets import header_sum, ip_packet

NOT_ECT, ECT_1, ECT_0 = 0, 1, 2
ADDRESSES = [("10.0.0.1", "10.0.0.2"), ("fd00::1", "fd00::2")]


@pytest.mark.parametrize("addresses", ADDRESSES)
@pytest.mark.parametrize("ecn", [NOT_ECT, ECT_0, ECT_1, CE])
@pytest.mark.parametrize("dscp", [0, 0x88, 0xFC])
def test_ecn_bits_are_read_beside_any_dscp(addresses: tuple[str, str], ecn: int, dscp: int) -> None:
    assert inner_ecn(ip_packet(*addresses, b"x", traffic_class=dscp | ecn)) == ecn


@pytest.mark.parametrize("addresses", ADDRESSES)
@pytest.mark.parametrize("ecn", [ECT_0, ECT_1])
@pytest.mark.parametrize("dscp", [0, 0x88, 0xFC])
def test_congestion_on_the_way_reaches_a_transport_that_understands_it(
    addresses: tuple[str, str], ecn: int, dscp: int
) -> None:
    packet = ip_packet(*addresses, b"x", traffic_class=dscp | ecn)
    assert mark_congestion(packet) == ip_packet(*addresses, b"x", traffic_class=dscp | CE)


@pytest.mark.parametrize("addresses", ADDRESSES)
@pytest.mark.parametrize("ecn", [NOT_ECT, CE])
def test_nothing_is_marked_where_it_would_not_be_understood_or_is_already(
    addresses: tuple[str, str], ecn: int
) -> None:
    packet = ip_packet(*addresses, b"x", traffic_class=ecn)
    assert mark_congestion(packet) is packet


def test_header_checksum_stays_right_for_every_header() -> None:
    for last in range(256):
        packet = ip_packet("10.0.0.1", f"10.255.0.{last}", b"x" * last, traffic_class=ECT_0)
        assert header_sum(mark_congestion(packet)[:20]) == 0xFFFF
