"""Conditions: what holds, since when, and for which generation of the object."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

Status = Literal["True", "False", "Unknown"]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a condition says now."""

    type: str
    status: Status
    reason: str
    message: str = ""

    @classmethod
    def of(cls, type: str, holds: bool, reason: str, message: str = "") -> Finding:
        return cls(type, "True" if holds else "False", reason, message)


def timestamp(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def conditions(
    findings: Iterable[Finding], former: Iterable[Mapping[str, Any]], generation: int, now: float
) -> list[dict[str, Any]]:
    """As a status holds them: one that says True or False as before keeps its time."""
    before = {condition["type"]: condition for condition in former}
    made = []
    for finding in findings:
        old = before.get(finding.type)
        since = old["lastTransitionTime"] if old and old["status"] == finding.status else timestamp(now)
        made.append(
            {
                "type": finding.type,
                "status": finding.status,
                "reason": finding.reason,
                "message": finding.message,
                "lastTransitionTime": since,
                "observedGeneration": generation,
            }
        )
    return made
