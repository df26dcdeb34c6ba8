"""Packs one configuration after the other, and of each only what has changed since.

A gzip file may consist of several, one behind the other: here the head, and the peers in pieces. Which piece
a peer is in follows from its key, so that the same content still becomes the same bytes.
"""

from __future__ import annotations

from collections import defaultdict
from itertools import chain
from typing import Final

from .configuration import Configuration, PeerSpec
from .fields import line, pack

WHOLE: Final = 256
"""So many peers are one piece: small ones pack worse, and cost little."""


class Packer:
    """For the configurations of one tunnel."""

    def __init__(self) -> None:
        self._pieces: dict[str, tuple[list[PeerSpec], bytes]] = {}

    def pack(self, configuration: Configuration) -> bytes:
        """As `Configuration.dump` does it, but for the pieces."""
        former, self._pieces = self._pieces, {}
        for name, peers in sorted(_pieces(configuration).items()):
            known = former.get(name)
            same = known is not None and known[0] == peers
            self._pieces[name] = (peers, known[1] if known and same else _packed(peers))
        return b"".join(chain([pack([configuration.head()])], (data for _, data in self._pieces.values())))


def _pieces(configuration: Configuration) -> dict[str, list[PeerSpec]]:
    """By the first digit of their keys. In the order of keys, as long as the configuration's is that."""
    peers = configuration.peers.values()
    if len(peers) <= WHOLE:
        return {"": list(peers)} if peers else {}
    found: defaultdict[str, list[PeerSpec]] = defaultdict(list)
    for peer in peers:
        found[peer.public_key[0]].append(peer)
    return found


def _packed(peers: list[PeerSpec]) -> bytes:
    return pack(line(peer.to_json()) for peer in peers)
