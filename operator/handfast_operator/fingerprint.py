"""A short text that differs where objects differ."""

from __future__ import annotations

import hashlib
import json


def fingerprint(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()
