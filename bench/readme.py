"""The few figures that README shows, out of those that docs/ has in full."""

from __future__ import annotations

from statistics import median
from typing import Any

from .results import TITLES, Kind
from .tables import markdown

_EVENTS = ("worker killed", "worker and keeper killed, started again")
_TITLES = (
    "wireguard-go",
    "Handfast: worker killed",
    "Handfast: all killed",
    "Handfast: nothing kept, endpoint known",
)


def table(demo: dict[str, Any], continuity: dict[str, Any]) -> str:
    """Median outages after `kill -9`, a row a kind of client without NAT. KeyError for a missing one."""
    killed = {(r["case"]["event"], r["case"]["kind"]): r for r in continuity["rows"] if _plain(r["case"])}
    greeted = {
        (r["server"], r["kind"]): r
        for r in demo["rows"]
        if r["endpoint"] and not r["first_lost"] and not r["nat"]
    }
    lines = []
    for kind in map(str, Kind):
        kept = [_seconds(median(killed[event, kind]["outages"])) for event in _EVENTS]
        stock = greeted[TITLES["wireguard-go"], kind]
        ours = greeted[TITLES["handfast-forgetful"], kind]
        lines.append([kind, _seconds(stock["median_seconds"]), *kept, _seconds(ours["median_seconds"])])
    return markdown(("client", *_TITLES), lines)


def _plain(case: dict[str, Any]) -> bool:
    return case["program"] == "wireguard-go" and not case["nat"]


def _seconds(value: float | None) -> str:
    if value is None:
        return "not recovered"
    return f"{value:.3f} s" if value < 1 else f"{value:.0f} s"
