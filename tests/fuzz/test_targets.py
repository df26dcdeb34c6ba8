"""The fuzz targets hold for their seeds, the kept corpus and thousands of variations, the same every time."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import pytest

from tests.fuzz import corpus
from tests.fuzz.targets import TARGETS

VARIATIONS = 60_000
SLOW = dict.fromkeys(("plaintexts", "reads", "sorting", "writes"), 20000)
SLOW |= {"datagrams": 6000, "opening": 6000, "reviews": 3000}
"""So that each takes some two seconds."""


def varied(seeds: tuple[bytes, ...], chance: random.Random, count: int) -> Iterator[bytes]:
    """Bytes changed, cut out, repeated and spliced."""
    for _ in range(count):
        data = bytearray(chance.choice(seeds))
        for _ in range(chance.randint(1, 6)):
            at = chance.randrange(len(data) + 1)
            match chance.randrange(5):
                case 0:
                    data[at : at + 1] = chance.choice([b"\0", b"\1", b"\x7f", b"\xff", chance.randbytes(1)])
                case 1:
                    del data[at : at + chance.randint(1, 40)]
                case 2:
                    data[at:at] = data[at : at + chance.randint(1, 80)]
                case 3:
                    other = chance.choice(seeds)
                    data[at:] = other[chance.randrange(len(other) + 1) :]
                case 4:
                    data[at:at] = chance.randbytes(chance.randint(1, 16))
        yield bytes(data)


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_and_their_variations(name: str) -> None:
    target, seeds = TARGETS[name]
    seeds = (*seeds, *corpus.kept(name))
    for data in itertools.chain(seeds, [b""], varied(seeds, random.Random(name), SLOW.get(name, VARIATIONS))):
        try:
            target(data)
        except Exception as error:
            raise AssertionError(f"{name} fails for {data!r}") from error
