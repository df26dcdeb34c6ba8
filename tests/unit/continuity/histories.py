"""Histories from seeds: `python -m tests.unit.continuity.histories FIRST COUNT [blind]` checks so many.

Blind, the checks see only what the hosts do, never what lies in the state memory.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Iterator
from random import Random
from typing import Any, NamedTuple

from .model import OPERATIONS, History

LENGTH = 24
_NAMES = list(OPERATIONS)
_WEIGHTS = [weight for weight, _ in OPERATIONS.values()]


class Violation(NamedTuple):
    seed: int
    steps: list[tuple[str, tuple[Any, ...]]]
    report: str

    def __str__(self) -> str:
        lines = [f"  {name}{arguments}" for name, arguments in self.steps]
        return "\n".join([f"history {self.seed} went wrong:", *lines, self.report])


def plan(seed: int) -> Iterator[tuple[str, tuple[Any, ...]]]:
    """The first steps give the clients sessions; what comes then, nobody knows."""
    random = Random(seed)
    yield from (("speak", (who, 1)) for who in range(2))
    yield "wait", (0.1,)
    for name in random.choices(_NAMES, _WEIGHTS, k=random.randrange(LENGTH // 2, LENGTH)):
        yield name, OPERATIONS[name][1](random)


def live(seed: int, *, locked: bool = True, blind: bool = False) -> Violation | None:
    """Lives one history; what went wrong, if anything did."""
    history = History(seed, locked=locked, reads_memory=not blind)
    done: list[tuple[str, tuple[Any, ...]]] = []
    try:
        for name, arguments in plan(seed):
            done.append((name, arguments))
            getattr(history, name)(*arguments)
            history.check()
        done.append(("end", ()))
        history.end()
    except Exception:  # noqa: BLE001 - whatever it was, the history is its cause
        return Violation(seed, done, traceback.format_exc())
    finally:
        history.close()
    return None


def first_violation(seeds: Iterable[int], *, locked: bool = True, blind: bool = False) -> Violation | None:
    return next((found for seed in seeds if (found := live(seed, locked=locked, blind=blind))), None)


def main() -> int:
    first, count = map(int, sys.argv[1:3])
    violation = first_violation(range(first, first + count), blind="blind" in sys.argv[3:])
    if violation is not None:
        print(violation)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
