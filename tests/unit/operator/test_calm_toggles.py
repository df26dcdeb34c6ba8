"""What is mended in kopf, and that it still has to be."""

from __future__ import annotations

import asyncio

import pytest
from kopf._cogs.aiokits import aiotoggles

from handfast_operator.calm_toggles import CalmToggleSet


async def wakes(kind: type[aiotoggles.ToggleSet], count: int) -> int:
    """How often tasks look whether all is indexed, while `count` objects are listed and indexed."""
    looks = 0

    class Counting(kind):  # type: ignore[misc,valid-type]
        def is_on(self) -> bool:
            nonlocal looks
            looks += 1
            return bool(super().is_on())

    toggles = Counting(all)
    listing = await toggles.make_toggle()
    made = []
    waiting = []
    for _ in range(count):
        made.append(await toggles.make_toggle())
        waiting.append(asyncio.create_task(toggles.wait_for(True)))
        await asyncio.sleep(0)
    for toggle in [listing, *made]:
        await toggles.drop_toggle(toggle)
        await asyncio.sleep(0)
    await asyncio.wait_for(asyncio.gather(*waiting), 10)
    return looks


@pytest.mark.parametrize("count", [1, 50, 200])
def test_each_waits_once(count: int) -> None:
    assert asyncio.run(wakes(CalmToggleSet, count)) <= 8 * (count + 1)


def test_kopf_still_wakes_everybody_each_time() -> None:
    """When this fails, the mend can go."""
    assert asyncio.run(wakes(aiotoggles.ToggleSet, 200)) > 200 * 200 / 2


def test_what_turns_off_is_told() -> None:
    async def run() -> None:
        toggles = CalmToggleSet(all)
        off = asyncio.create_task(toggles.wait_for(False))
        await asyncio.sleep(0)
        await toggles.make_toggle()
        await asyncio.wait_for(off, 5)

    asyncio.run(run())
