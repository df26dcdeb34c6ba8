"""Hypothesis looks at the same examples in every run: a failure here is a change of the code, never luck.

`HYPOTHESIS_PROFILE=explore` looks at new and many more ones.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, settings

_SLOW = [HealthCheck.too_slow, HealthCheck.data_too_large]
settings.register_profile("base", deadline=None, suppress_health_check=_SLOW, print_blob=True)
_BASE = settings.get_profile("base")
settings.register_profile("ci", _BASE, derandomize=True, max_examples=100, database=None)
settings.register_profile("explore", _BASE, max_examples=5000)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))
