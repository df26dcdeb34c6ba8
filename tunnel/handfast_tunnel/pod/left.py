"""The peers of the present configuration in a form that the next process serves from at once.

A document of 10,000 peers takes half a second to read and to configure; this takes less than a millisecond,
as peers are looked at when a packet needs them. It is a copy, made a while after a change: it counts only
where it is of the very generation that the newest document has, and that one is read when packets are served.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from struct import Struct
from typing import TYPE_CHECKING, Final

from ..continuity.packed_configuration import PackedConfiguration, pack
from ..continuity.saved_configuration import SavedConfiguration
from ..core.hashes import blake2s

if TYPE_CHECKING:
    from ..core.device import Device

_TAG: Final = Struct("<Q16s")
"""Generation, and a digest of the tunnel's UID."""

log = logging.getLogger(__name__)


class OvertakenError(Exception):
    """The configuration changed while it was written."""


class Left:
    """The file at `path`, 0600, replaced whole by atomic rename."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._saved = SavedConfiguration(path)

    def load(self, uid: str, generation: int) -> PackedConfiguration | None:
        """None where it is of another generation, or cannot be used."""
        try:
            data = self._saved.load()
            if data[: _TAG.size] != _tag(uid, generation):
                return None
            return PackedConfiguration(data[_TAG.size :])
        except (OSError, ValueError) as error:
            log.error("%s is not used: %s", self._path, error)  # noqa: TRY400
            return None

    def save(
        self, device: Device, uid: str, generation: int, is_current: Callable[[], bool]
    ) -> Generator[None, None, bool]:
        """A job. False, and nothing is saved, where in the end what it began with is not current any more."""

        def pieces() -> Iterator[bytes]:
            yield _tag(uid, generation)
            yield from pack(device)
            if not is_current():
                raise OvertakenError

        try:
            yield from self._saved.save(pieces())
        except OvertakenError:
            return False
        except OSError as error:
            log.warning("%s: %s; with many peers the next process will take its time", self._path, error)
            self.forget()
        return True

    def forget(self) -> None:
        self._saved.forget()


def _tag(uid: str, generation: int) -> bytes:
    return _TAG.pack(generation, blake2s(uid.encode(), digest_size=16).digest())
