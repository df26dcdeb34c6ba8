"""What one pod tells another by way of the operator, which carries it unread (RECOVERY, section 7).

Only pods that hold the tunnel's private key can make or open it:

    K = BLAKE2s(tunnel UID; key = private key, person = "handover")
    mac = BLAKE2s(body; key = K)

The body says what it is good for: which pod made it, when, at which term and generation.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import blake2s
from hmac import compare_digest
from typing import ClassVar, Self

from .errors import CONFLICT, DocumentError, Refused
from .fields import Fields


@dataclass(frozen=True, slots=True)
class Sealed:
    """As it travels."""

    body: bytes
    mac: bytes

    what: ClassVar[str]
    remedy: ClassVar[str]

    @classmethod
    def of(cls, body: bytes, private_key: bytes, tunnel_uid: str) -> Self:
        return cls(body, mac_of(body, private_key, tunnel_uid))

    def check(self, private_key: bytes, tunnel_uid: str) -> None:
        """Raises Refused; nothing of the body is read before it is authenticated."""
        if not compare_digest(self.mac, mac_of(self.body, private_key, tunnel_uid)):
            why = "it was not made by a pod of this tunnel, or was changed on its way"
            raise Refused(CONFLICT, self.what, why, remedy=self.remedy)

    @classmethod
    def refuse_if(cls, reasons: Iterable[tuple[bool, str]], remedy: str) -> None:
        """Raises Refused with the first reason that holds."""
        for wrong, why in reasons:
            if wrong:
                raise Refused(CONFLICT, cls.what, why, remedy=remedy)

    @classmethod
    def from_json(cls, value: object) -> Self:
        fields = Fields(value, cls.what)
        sealed = cls(_bytes(fields, "body"), _bytes(fields, "mac"))
        fields.end()
        return sealed

    def to_json(self) -> dict[str, str]:
        return {"body": b64encode(self.body).decode(), "mac": b64encode(self.mac).decode()}


def mac_of(body: bytes, private_key: bytes, tunnel_uid: str) -> bytes:
    key = blake2s(tunnel_uid.encode(), key=private_key, person=b"handover").digest()
    return blake2s(body, key=key).digest()


def _bytes(fields: Fields, name: str) -> bytes:
    value = fields.take(name)
    try:
        if type(value) is str:
            return b64decode(value, validate=True)
    except ValueError:
        pass
    raise DocumentError(f"{name} of {fields.where}", "it is not base64")
