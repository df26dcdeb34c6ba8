"""A memory that outlives a process, as the mapped file will."""

from __future__ import annotations

from handfast_tunnel.continuity.storage import PlainMemory, PlainPeerMarks


class LastingMemory(PlainMemory):
    """Keeps the marks of each peer."""

    def __init__(self) -> None:
        self.marks: dict[bytes, PlainPeerMarks] = {}

    def peer_marks(self, public_key: bytes) -> PlainPeerMarks:
        return self.marks.setdefault(public_key, PlainPeerMarks())
