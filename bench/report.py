"""Figures to tables and pictures: `python -m bench.report` fills the tables of docs/ from bench/results/."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from dashboards.queries import dashboards

from . import (
    changes,
    continuity,
    handshakes,
    kills,
    machine,
    many_peers,
    peers,
    pictures,
    profile,
    readme,
    start,
    state_cost,
    tables,
    throughput,
    throughput_picture,
)
from .cluster import picture as cluster_picture
from .cluster import tables as cluster_tables
from .cluster.results import Results as ClusterResults
from .dashboard import picture as dashboard_picture
from .dashboard.results import Seen
from .results import RestartResults

ROOT: Final = Path(__file__).resolve().parent.parent
BENCHMARKS: Final = ROOT / "docs/benchmarks.md"
README: Final = ROOT / "README.md"
CONTINUITY: Final = ROOT / "docs/continuity.md"
PERFORMANCE: Final = ROOT / "docs/performance.md"
OUTAGES: Final = ROOT / "docs/outages.md"
MONITORING: Final = ROOT / "docs/monitoring.md"


@dataclass(frozen=True)
class Places:
    """Where figures (JSON) and pictures (PNG) go."""

    figures: Path
    pictures: Path

    @classmethod
    def of(cls, output: Path | None) -> Self:
        """All in one directory that the user chose, or the repository's own."""
        return cls(output, output) if output else cls(ROOT / "bench/results", ROOT / "docs/images")

    def save(self, name: str, command: str, figures: dict[str, Any]) -> Path:
        self.figures.mkdir(parents=True, exist_ok=True)
        path = self.figures / f"{name}.json"
        whole = {"command": command, "machine": machine.describe(), **figures}
        path.write_text(json.dumps(whole, indent=1) + "\n")
        return path

    def load(self, name: str) -> dict[str, Any]:
        figures: dict[str, Any] = json.loads((self.figures / f"{name}.json").read_text())
        return figures

    def picture(self, name: str) -> Path:
        self.pictures.mkdir(parents=True, exist_ok=True)
        return self.pictures / f"{name}.png"


def _restart(data: dict[str, Any], picture: Path) -> str:
    results = RestartResults.from_json(data)
    pictures.outages(results, picture)
    return tables.restart_markdown(results)


def _start(data: dict[str, Any], _picture: Path) -> str:
    return tables.markdown(*start.table(start.from_json(data)))


def _throughput(data: dict[str, Any], picture: Path) -> str:
    samples = throughput.from_json(data)
    throughput_picture.draw(samples, picture)
    return "\n\n".join(tables.markdown(*table) for table in throughput.tables(samples))


def _profile(data: dict[str, Any], _picture: Path) -> str:
    return tables.markdown(*profile.table(profile.from_json(data)))


def _state_cost(data: dict[str, Any], _picture: Path) -> str:
    return tables.markdown(*state_cost.table(state_cost.from_json(data)))


def _handshakes(data: dict[str, Any], _picture: Path) -> str:
    return tables.markdown(*handshakes.table(handshakes.from_json(data)))


def _peers(data: dict[str, Any], _picture: Path) -> str:
    return tables.markdown(*peers.table(peers.from_json(data)))


def _changes(data: dict[str, Any], _picture: Path) -> str:
    return tables.markdown(*changes.table(changes.from_json(data)), left=0)


def _operator(data: dict[str, Any], _picture: Path) -> str:
    return tables.markdown(*many_peers.table(data["costs"]), left=0)


def _continuity(data: dict[str, Any], _picture: Path) -> str:
    rows = continuity.from_json(data)
    short, full = continuity.summary(rows), continuity.table(rows)
    about = f"Bulk traffic was {data['bulk_mbit_per_second']:,.0f} Mbit/s, many peers {data['peers']:,}."
    return f"{tables.markdown(*short)}\n\n{about}\n\n{tables.markdown(*full, left=4)}"


def _kills(data: dict[str, Any], _picture: Path) -> str:
    return tables.markdown(*kills.table(data), left=0)


def _soak(data: dict[str, Any], _picture: Path) -> str:
    return tables.markdown(*kills.soak_table(data), left=0)


def _cluster(data: dict[str, Any], picture: Path) -> str:
    results = ClusterResults.from_json(data)
    cluster_picture.draw(results, picture)
    return cluster_tables.document(results)


def _dashboard(data: dict[str, Any], picture: Path) -> str:
    seen = Seen.from_json(data)
    dashboard_picture.draw(seen, dashboards()["recovery"], picture)
    return seen.table()


_REPORTS: Final[dict[str, Callable[[dict[str, Any], Path], str]]] = {
    "demo": _restart,
    "restart": _restart,
    "start": _start,
    "throughput": _throughput,
    "profile": _profile,
    "state-cost": _state_cost,
    "handshakes": _handshakes,
    "peers": _peers,
    "changes": _changes,
    "operator": _operator,
    "continuity": _continuity,
    "kills": _kills,
    "soak-kills": _soak,
    "cluster": _cluster,
    "dashboard-recovery": _dashboard,
}
_DOCUMENTS: Final = {
    "continuity": CONTINUITY,
    "kills": CONTINUITY,
    "soak-kills": CONTINUITY,
    "cluster": OUTAGES,
    "dashboard-recovery": MONITORING,
    "profile": PERFORMANCE,
}
"""Where their tables are; all others are in docs/benchmarks.md."""


def draw(places: Places, name: str) -> str:
    """The picture of one experiment where it has one; returns its table."""
    return _REPORTS[name](places.load(name), places.picture(name))


def fill_in_one(places: Places, name: str) -> None:
    data = places.load(name)
    about = f"Measured by `{data['command']}`: {machine.sentence(data['machine'])}"
    tables.replace_section(_DOCUMENTS.get(name, BENCHMARKS), name, f"{about}\n\n{draw(places, name)}")


def fill_in(places: Places) -> None:
    """The tables of docs/, each with its command and machine."""
    for name in _REPORTS:
        if (places.figures / f"{name}.json").exists():
            fill_in_one(places, name)
    figures = readme.table(places.load("demo"), places.load("continuity"))
    tables.replace_section(README, "figures", figures)


if __name__ == "__main__":
    fill_in(Places.of(None))
