"""`python -m bench dashboard`: a drill of some six minutes, and the picture of *Recovery* after it.

It fills bench/results/dashboard-recovery.json, docs/images/dashboard-recovery.png and docs/monitoring.md.
"""

from __future__ import annotations

import sys

from tests.lab.namespaces import LabError

from bench import report
from bench.restart import or_one_line, say

from .run import run

NAME = "dashboard-recovery"


def main() -> int:
    seen = run(say)
    if empty := seen.empty():
        raise LabError(f"nothing to show in {', '.join(empty)}")
    places = report.Places.of(None)
    say(str(places.save(NAME, "python -m bench dashboard", seen.to_json())))
    report.fill_in_one(places, NAME)
    return 0


if __name__ == "__main__":
    sys.exit(or_one_line(main))
