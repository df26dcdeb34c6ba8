"""What a pod last accepted, in memory-backed files beside its state: the configuration, and its role.

Each is replaced whole by an atomic rename before the answer that says so; what came as a difference is
appended to a journal instead. They outlive the container, and die with the pod; another tunnel's are ignored.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import asdict, fields
from pathlib import Path
from typing import Final, Protocol, TypeVar

from ..control.configuration import Configuration, Patch
from ..control.errors import DocumentError
from ..control.roles import Role, Standing
from ..control.state import State
from ..errors import StartError
from .journal import Journal

log = logging.getLogger(__name__)

CONFIGURATION_FILE: Final = "config.jsonl.gz"
JOURNAL_FILE: Final = "changes.jsonl"
LEFT_FILE: Final = "peers"
STATE_FILE: Final = "state.jsonl.gz"
ROLE_FILE: Final = "role.json"

D = TypeVar("D", Configuration, State)


def load(path: Path, parse: Callable[[bytes], D]) -> D | None:
    """A document; None where there is none, or none that can be read: then why is in the log."""
    try:
        return parse(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, DocumentError) as error:
        log.error("%s is not used: %s", path, error)  # noqa: TRY400
        return None


def load_newest(mounted: Path, accepted: Accepted) -> Configuration:
    """The higher generation of what is mounted and what was accepted: a mounted Secret lags by up to a
    minute, and a peer that was revoked must not come back meanwhile. Raises StartError."""
    path = mounted / CONFIGURATION_FILE
    stored, from_mount = accepted.outline(), _outline(path)
    found = None
    if stored is not None and (from_mount is None or not _is_newer(from_mount, stored)):
        found = accepted.load_configuration()
    found = found or load(path, Configuration.parse) or accepted.load_configuration()
    if found is None:
        raise StartError(f"no configuration in {path}: is the tunnel's Secret mounted there?")
    return found


def newest_outline(mounted: Path, accepted: Accepted) -> Configuration | None:
    """The same without its peers, if that can be read."""
    stored, from_mount = accepted.outline(), _outline(mounted / CONFIGURATION_FILE)
    if stored is None or from_mount is None:
        return stored or from_mount
    return from_mount if _is_newer(from_mount, stored) else stored


def _is_newer(from_mount: Configuration, stored: Configuration) -> bool:
    """Also where the copy is of another tunnel."""
    return stored.tunnel.uid != from_mount.tunnel.uid or from_mount.generation > stored.generation


def _outline(path: Path) -> Configuration | None:
    """None where there is none: why is said when all of it is read."""
    try:
        return Configuration.outline(path.read_bytes())
    except (OSError, DocumentError):
        return None


class Accepted:
    """The files in `directory`, which is private and in memory."""

    def __init__(self, directory: Path) -> None:
        self._configuration = directory / CONFIGURATION_FILE
        self._journal = Journal(directory / JOURNAL_FILE)
        self._role = directory / ROLE_FILE

    def load_configuration(self) -> Configuration | None:
        return load(self._configuration, lambda data: self._journal.read(Configuration.parse(data)))

    def outline(self) -> Configuration | None:
        """The same without its peers; None where it cannot be had."""
        outline = _outline(self._configuration)
        try:
            return outline.at(self._journal.newest(outline)) if outline is not None else None
        except (OSError, DocumentError):
            return None

    def draft(self, configuration: Configuration, patch: Patch | None = None) -> Pending:
        """Written and not yet in force; where a patch made it, that is enough, until many have come. Raises
        OSError where there is no room."""
        entry = self._journal.draft(configuration.tunnel.uid, patch) if patch is not None else None
        return entry or _Whole(self._configuration, configuration, self._journal)

    def load_standing(self, tunnel_uid: str) -> Standing | None:
        """None for a pod that is new, and where nothing can be read: then it stands by."""
        try:
            stored = json.loads(self._role.read_bytes())
            if stored["uid"] != tunnel_uid:
                return None
            values = {field.name: stored[field.name] for field in fields(Standing) if field.name in stored}
            return Standing(**values | {"role": Role(stored["role"])})
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError) as error:
            log.error("%s is not used: %r", self._role, error)  # noqa: TRY400
            return None

    def save_standing(self, standing: Standing, tunnel_uid: str) -> None:
        text = json.dumps({"uid": tunnel_uid, **asdict(standing)})
        Draft(self._role, text.encode()).publish()


class Pending(Protocol):
    """What is written and not yet in force: either is called, once."""

    def publish(self) -> None: ...

    def discard(self) -> None: ...


class Draft:
    """A file's next content, beside it."""

    def __init__(self, path: Path, content: bytes) -> None:
        self._path = path
        self._draft = path.with_name(path.name + ".new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW
        with os.fdopen(os.open(self._draft, flags, 0o600), "wb") as file:
            file.write(content)

    def publish(self) -> None:
        self._draft.replace(self._path)

    def discard(self) -> None:
        self._draft.unlink(missing_ok=True)


class _Whole(Draft):
    """A whole configuration, from which changes are then counted."""

    def __init__(self, path: Path, configuration: Configuration, journal: Journal) -> None:
        super().__init__(path, configuration.dump())
        self._content, self._journal = configuration, journal

    def publish(self) -> None:
        super().publish()
        self._journal.begin(self._content)
