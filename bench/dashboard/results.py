"""What a dashboard has to show: the answers of its queries."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Final

from bench.tables import markdown

_NOTHING: Final = "-"


@dataclass(frozen=True)
class Line:
    """One series of a panel."""

    legend: str
    values: tuple[float | None, ...]
    """One a step; of a panel that shows a number, the last one only."""

    def to_json(self) -> dict[str, str]:
        """On one line of the file."""
        values = " ".join(_NOTHING if value is None else f"{value:g}" for value in self.values)
        return {"legend": self.legend, "values": values}

    @classmethod
    def from_json(cls, data: dict[str, str]) -> Line:
        values = (None if value == _NOTHING else float(value) for value in data["values"].split())
        return cls(data["legend"], tuple(values))


@dataclass(frozen=True)
class Mark:
    """Something that happened, in seconds since the beginning."""

    at: float
    name: str


@dataclass(frozen=True)
class Seen:
    step: int
    """Seconds between values."""
    seconds: int
    panels: dict[str, list[Line]]
    """By title."""
    events: dict[str, list[Mark]]
    """By the name of the annotation."""
    faults: list[Mark]
    """What was done."""

    def to_json(self) -> dict[str, Any]:
        panels = {title: [line.to_json() for line in lines] for title, lines in self.panels.items()}
        return asdict(self) | {"panels": panels}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Seen:
        return cls(
            data["step"],
            data["seconds"],
            {title: [Line.from_json(line) for line in lines] for title, lines in data["panels"].items()},
            {name: [Mark(**mark) for mark in marks] for name, marks in data["events"].items()},
            [Mark(**mark) for mark in data["faults"]],
        )

    def empty(self) -> list[str]:
        """Panels that have nothing to show."""
        return [
            title
            for title, lines in self.panels.items()
            if all(value is None for line in lines for value in line.values)
        ]

    def table(self) -> str:
        """What was done, and when."""
        return markdown(
            ("minute", "what happens"), [(f"{mark.at / 60:.1f}", mark.name) for mark in self.faults], left=2
        )
