"""Why a document or a call was refused: what, which thing, why, and what to do about it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from ..errors import HandfastError

UNPROCESSABLE: Final = 422
CONFLICT: Final = 409
GONE: Final = 410
UNAVAILABLE: Final = 503


class Refused(HandfastError):
    """A call that changed nothing. `status` is the HTTP status that says so."""

    def __init__(self, status: int, what: str, why: str, *, which: str = "", remedy: str = "") -> None:
        self.status = status
        self.what, self.which, self.why, self.remedy = what, which, why, remedy
        super().__init__(f"{what}{f' {which}' if which else ''}: {why}{f'; {remedy}' if remedy else ''}")

    def to_json(self) -> dict[str, Any]:
        fields = {"what": self.what, "which": self.which, "why": self.why, "remedy": self.remedy}
        return {"error": fields}

    @classmethod
    def from_json(cls, status: int, body: object) -> Refused:
        """What a sidecar answered; also where it is no answer of a sidecar's."""
        error = body.get("error") if isinstance(body, Mapping) else None
        fields = error if isinstance(error, Mapping) else {}
        what, which, why, remedy = (
            str(fields.get(name, default))
            for name, default in (
                ("what", "call"),
                ("which", ""),
                ("why", f"HTTP status {status}"),
                ("remedy", ""),
            )
        )
        return cls(status, what, why, which=which, remedy=remedy)


class DocumentError(Refused):
    """A document, or a part of one, is not what it has to be. No value is repeated: it may be secret."""

    def __init__(self, which: str, why: str) -> None:
        super().__init__(UNPROCESSABLE, "document", why, which=which)


class ControlError(HandfastError):
    """A sidecar could not be asked: no connection, no trust, no answer in time."""
