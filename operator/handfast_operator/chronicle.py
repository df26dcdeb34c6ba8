"""What active pods told of their sessions, as long as those can live, and which standby was told how much.

A session dies 180 s after its birth, and a pod tells of each when it is born: so the accounts of three
minutes are all that a successor can use. They are carried unread, are nowhere but in memory, and a new leader
asks for everything anew; a standby keeps what it was told, whatever becomes of the operator.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from handfast_tunnel.control import News, SealedAccount
from handfast_tunnel.control.account import ACCOUNTS_LIMIT, LIFETIME

SIZE_LIMIT: Final = 16_000_000
"""Bytes for one Tunnel: 10,000 busy peers take two millions. Above it all is asked for anew."""


@dataclass(frozen=True, slots=True)
class Told:
    """One account."""

    number: int
    at: float
    """time.monotonic() before it was asked for."""
    source: str
    """The uid of the pod that told."""
    generation: int
    """Of the configuration by which it told."""
    sealed: SealedAccount


@dataclass(slots=True)
class Chronicle:
    """Of one Tunnel. Pods are named by their uids."""

    _accounts: deque[Told] = field(default_factory=deque)
    _bytes: int = 0
    _numbers: int = 0
    _asked: tuple[str, int] = "", 0
    """Which pod was asked last, and at what term."""
    _until: float = 0.0
    """The moment, by that pod's clock, up to which it has told."""
    _heard: dict[str, int] = field(default_factory=dict)
    """The number of the last account that each pod was given."""

    def since(self, pod: str, term: int) -> float:
        """From when on it is to tell; 0 for everything, where another one or at another term was asked."""
        if self._asked != (pod, term):
            self._asked, self._until = (pod, term), 0.0
        return self._until

    def add(self, news: News, asked_at: float) -> None:
        """What the pod that was asked last has told."""
        self._until = news.until
        if news.sealed is None:
            return
        self._numbers += 1
        self._accounts.append(Told(self._numbers, asked_at, self._asked[0], news.generation, news.sealed))
        self._bytes += len(news.sealed.body)
        if self._bytes > SIZE_LIMIT:
            self._forget(len(self._accounts))
            self._until = 0.0

    def forget_old(self, now: float) -> None:
        """Of those that nobody would take any more."""
        self._forget(sum(told.at <= now - LIFETIME for told in self._accounts))

    def _forget(self, count: int) -> None:
        for _ in range(count):
            self._bytes -= len(self._accounts.popleft().sealed.body)

    def keep_pods(self, pods: Iterable[str]) -> None:
        """Others are gone."""
        for gone in self._heard.keys() - set(pods):
            del self._heard[gone]

    def untold(self, pod: str, generation: int) -> list[Told]:
        """What a pod with this configuration is still to be given, in order; some of it, if it is much."""
        heard = self._heard.get(pod, 0)
        untold: list[Told] = []
        for told in self._accounts:
            if told.generation > generation or len(untold) == ACCOUNTS_LIMIT:
                break
            if told.number > heard and told.source != pod:
                untold.append(told)
        return untold

    def heard(self, pod: str, accounts: list[Told]) -> None:
        """It was given these, whether it took them or not."""
        self._heard[pod] = accounts[-1].number
