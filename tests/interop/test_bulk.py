"""Streams through the tunnel, with all that the kernel offers to make them fast, and without."""

from __future__ import annotations

import pytest

from tests.interop.conftest import Pair
from tests.interop.transfer import there_and_back

SIZE = 5_000_000


@pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])
def test_streams_arrive_as_they_were(pair: Pair, ipv6: bool) -> None:
    pair.start()
    there_and_back(pair.client, pair.server, SIZE, ipv6=ipv6)


@pytest.mark.parametrize("disabled", ["vnet_hdr", "tso,uso", "udp_gso", "udp_gro", "pktinfo", "all"])
def test_without_features_of_the_kernel(usual: Pair, disabled: str) -> None:
    everything = "vnet_hdr,tso,uso,udp_gso,udp_gro,pktinfo"
    usual.ours.environment["HANDFAST_DISABLE"] = everything if disabled == "all" else disabled
    usual.start()
    there_and_back(usual.client, usual.server, SIZE)
