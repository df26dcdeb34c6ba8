"""Configurations that are packed one after the other."""

from __future__ import annotations

import base64
import gzip
import hashlib
from dataclasses import replace
from typing import Any

import pytest

from handfast_tunnel.control import Configuration, PeerSpec, TunnelSpec, packing
from handfast_tunnel.control.fields import line as fields_line
from handfast_tunnel.control.packing import WHOLE, Packer

SPEC = TunnelSpec("default", "office", "u-1", base64.b64encode(bytes(range(32))).decode(), ("10.8.0.1/16",))


def peer(number: int) -> PeerSpec:
    key = base64.b64encode(hashlib.sha256(str(number).encode()).digest()).decode()
    return PeerSpec(key, None, (f"10.8.{number // 256}.{number % 256}/32",))


def configuration(count: int) -> Configuration:
    return Configuration.of(7, SPEC, map(peer, range(count)))


@pytest.mark.parametrize("count", [0, 1, WHOLE, WHOLE + 1, 2000])
def test_whoever_reads_it_sees_no_pieces(count: int) -> None:
    wanted = configuration(count)
    packed = Packer().pack(wanted)
    assert gzip.decompress(packed) == wanted.dump(compressed=False)
    assert Configuration.parse(packed) == wanted
    assert Configuration.outline(packed).generation == 7


def test_only_what_has_changed_is_packed_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    packer, before = Packer(), configuration(2000)
    packer.pack(before)
    lines: list[str] = []

    def line(fields: Any) -> str:
        lines.append(fields_line(fields))
        return lines[-1]

    monkeypatch.setattr(packing, "line", line)
    changed = replace(next(iter(before.peers.values())), persistent_keepalive=25)
    after = Configuration.of(8, SPEC, [*list(before.peers.values())[1:], changed])
    packed = packer.pack(after)
    assert 0 < len(lines) < 2000 / 20
    assert packed == Packer().pack(after)
    assert Configuration.parse(packed) == after


@pytest.mark.parametrize("count", [1, WHOLE, WHOLE + 2])
def test_a_peer_that_goes_is_gone(count: int) -> None:
    packer, before = Packer(), configuration(count)
    packer.pack(before)
    after = Configuration.of(8, SPEC, list(before.peers.values())[1:])
    assert Configuration.parse(packer.pack(after)) == after


def test_pieces_take_hardly_more_room() -> None:
    wanted = configuration(10_000)
    assert len(Packer().pack(wanted)) < 1.04 * len(wanted.dump())
