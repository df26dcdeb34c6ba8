"""A mend for kopf 1.45: its wait for full indices costs the square of the number of objects.

Each object that is listed makes a toggle when it is found and drops it when it is indexed; each time kopf
wakes all objects that wait for the last one: with 10,000 Peers 200 million times, for minutes. Here they are
woken when that changes what they wait for. No setting of kopf's chooses the set: it makes its own
(`orchestration.py`), and without one nobody says when an index is full.
"""

from __future__ import annotations

from collections.abc import Iterable

from kopf._cogs.aiokits import aiotoggles


class CalmToggleSet(aiotoggles.ToggleSet):
    """Wakes whoever waits when the set as a whole turns on or off, and not otherwise."""

    async def make_toggle(self, val: bool = False, /, *, name: str | None = None) -> aiotoggles.Toggle:
        toggle = aiotoggles.Toggle(val, name=name, condition=self._condition)
        async with self._condition:
            before = self.is_on()
            self._toggles.add(toggle)
            self._tell(before)
        return toggle

    async def drop_toggle(self, toggle: aiotoggles.Toggle) -> None:
        await self.drop_toggles([toggle])

    async def drop_toggles(self, toggles: Iterable[aiotoggles.Toggle]) -> None:
        async with self._condition:
            before = self.is_on()
            self._toggles.difference_update(toggles)
            self._tell(before)

    def _tell(self, before: bool) -> None:
        if self.is_on() != before:
            self._condition.notify_all()


def install() -> None:
    aiotoggles.ToggleSet = CalmToggleSet  # type: ignore[misc]
