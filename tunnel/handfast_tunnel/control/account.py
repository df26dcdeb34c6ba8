"""What an active pod tells of its peers while it serves, for whoever succeeds it without a handover.

A pod that is lost takes with it what its receiver indices stood for, so it tells of them in good time: the
operator asks every second for what is new (`GET /v1/sessions`), and gives it to each standby (`POST
/v1/sessions`). An account is sealed as an export is. It holds no keys, and its marks are exact or lower.

It is for nobody in particular, and good for as long as a session lives. That is safe because only the latest
of all that is known is ever taken: marks and places merge by max, an index is its youngest session's, and a
session dies 180 s after its birth wherever it was told of. So an account may come twice, late, or after newer
ones, and one that does not come is only missing. Who learns of it hears of its term, so that it serves at a
higher one only. The limits of RECOVERY, section 6, hold for what is answered by it as after a handover.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import ClassVar, Final

from ..core.constants import REJECT_AFTER_TIME
from .configuration import GENERATION_LIMIT
from .export import ExportedPeer, read_peers
from .fields import Fields, line, pack, read_lines
from .roles import EXPORT_AGE_LIMIT
from .sealed import Sealed

KIND: Final = "sessions"
LIFETIME: Final = REJECT_AFTER_TIME
"""Seconds after which no session that it tells of can be alive."""
CLOCK_LIMIT: Final = EXPORT_AGE_LIMIT
"""By how much the clocks of two pods may differ."""
ACCOUNTS_LIMIT: Final = 512
"""In one call: more than there are seconds in which they are good."""


@dataclass(frozen=True, slots=True)
class Account:
    source: str
    """The UID of the pod that tells."""
    term: int
    """At which it is active."""
    generation: int
    created: float
    """Unix seconds, of the source's clock."""
    peers: tuple[ExportedPeer, ...] = ()


class SealedAccount(Sealed):
    __slots__ = ()

    what: ClassVar[str] = "account of sessions"
    remedy: ClassVar[str] = "do without it"

    @classmethod
    def seal(cls, account: Account, private_key: bytes, tunnel_uid: str) -> SealedAccount:
        return cls.of(pack(_lines(account)), private_key, tunnel_uid)

    def open(self, private_key: bytes, tunnel_uid: str) -> Account:
        """Raises Refused."""
        self.check(private_key, tunnel_uid)
        return _parse(self.body)


@dataclass(frozen=True, slots=True)
class News:
    """The answer to `GET /v1/sessions`."""

    until: float
    """The moment of the answer, by the pod's clock: what to name the next time."""
    generation: int
    sealed: SealedAccount | None
    """None where nothing is new."""

    @classmethod
    def from_json(cls, value: object) -> News:
        fields = Fields(value, KIND)
        until, generation = fields.seconds("until"), fields.number("generation", 0, GENERATION_LIMIT)
        sealed = fields.take("sealed", None)
        if until is None:
            raise fields.wrong("until", "it is missing")
        return cls(until, generation, None if sealed is None else SealedAccount.from_json(sealed))

    def to_json(self) -> dict[str, object]:
        sealed = None if self.sealed is None else self.sealed.to_json()
        return {"until": self.until, "generation": self.generation, "sealed": sealed}


def check(account: Account, *, pod_uid: str, generation: int, wall: float) -> None:
    """Whether this pod may learn from it; raises Refused."""
    age = wall - account.created
    reasons = [
        (account.source == pod_uid, "it is this pod's own"),
        (age >= LIFETIME + CLOCK_LIMIT, f"it is {age:.0f} s old"),
        (age <= -CLOCK_LIMIT, f"it is of a time {-age:.0f} s ahead"),
        (account.generation > generation, f"generation {account.generation} has not come here yet"),
    ]
    SealedAccount.refuse_if(reasons, SealedAccount.remedy)


def _lines(account: Account) -> Iterable[str]:
    yield line(
        {
            "kind": KIND,
            "version": 1,
            "source": account.source,
            "term": account.term,
            "generation": account.generation,
            "created": account.created,
        }
    )
    for peer in account.peers:
        yield line(peer.to_json())


def _parse(body: bytes) -> Account:
    head, lines = read_lines(body, KIND)
    created = head.seconds("created")
    account = Account(
        head.text("source"),
        head.number("term", 0, GENERATION_LIMIT),
        head.number("generation", 0, GENERATION_LIMIT),
        0.0 if created is None else created,
    )
    head.end()
    return replace(account, peers=read_peers(lines))
