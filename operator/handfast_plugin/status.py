"""`kubectl handfast status`: how Tunnels are, and what is not as it should be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from . import pods
from .api import Api
from .errors import Forbidden
from .kinds import Object, condition, is_ready
from .pods import Pod
from .screen import NOTHING, Column, Screen, age, table

_GOOD: Final[dict[str, Any]] = {"colours": {"yes": "green", "no": "red"}}
_TUNNELS: Final = (
    Column("NAMESPACE", least=9),
    Column("TUNNEL", least=10),
    Column("READY", **_GOOD),
    Column("ENDPOINT", least=15),
    Column("ACTIVE", least=10, cut="start"),
    Column("STANDBYS", right=True, optional=True),
    Column("CONNECTED", right=True),
    Column("AGE", right=True, optional=True),
)
_PODS: Final = (
    Column("POD", least=12, cut="start"),
    Column("NODE", least=6),
    Column("ROLE", colours={"active": "green"}),
    Column("TERM", right=True),
    Column("GENERATION", right=True),
    Column("READY", **_GOOD),
    Column("RESTARTS", right=True),
    Column("AGE", right=True),
)
_WANTED: Final = {"Degraded": "False"}
"""Of a condition, where that is not True."""


@dataclass(frozen=True, slots=True)
class Report:
    tunnels: Sequence[Object]
    pods: Sequence[Pod] = ()
    """Of a single Tunnel."""
    missing: Forbidden | None = None
    """For what pods say themselves."""


def gather(api: Api, namespace: str | None, name: str | None) -> Report:
    """Namespace None: of all. A single Tunnel is told about with its pods."""
    found = [api.get("tunnels", namespace, name)] if name else api.list("tunnels", namespace)
    if len(found) != 1:
        return Report(found)
    try:
        there = pods.of_tunnel(api, found[0])
    except Forbidden as missing:
        return Report(found, (), missing)
    answers, missing_exec = pods.all_asked(api, there)
    return Report(found, answers, missing_exec)


def show(report: Report, screen: Screen, now: float, *, everywhere: bool) -> list[str]:
    if not report.tunnels:
        return []
    start = 0 if everywhere else 1
    rows = [_row(tunnel, now)[start:] for tunnel in report.tunnels]
    lines = table(_TUNNELS[start:], rows, screen)
    if len(report.tunnels) == 1:
        lines += _single(report, screen, now)
    troubles = [line for tunnel in report.tunnels for line in _troubles(tunnel, screen)]
    return [*lines, "", *troubles] if troubles else lines


def _row(tunnel: Object, now: float) -> list[str]:
    meta, status = tunnel["metadata"], tunnel.get("status", {})
    peers = status.get("peers", {})
    return [
        meta["namespace"],
        meta["name"],
        yes(is_ready(tunnel)),
        status.get("endpoint") or NOTHING,
        status.get("active", {}).get("pod") or NOTHING,
        str(status.get("standbys", 0)),
        f"{peers.get('connected', 0)} of {peers.get('total', 0)}",
        age(since(meta["creationTimestamp"], now)),
    ]


def _single(report: Report, screen: Screen, now: float) -> list[str]:
    lines = [""]
    if report.pods:
        lines += table(_PODS, [_pod_row(pod, now) for pod in report.pods], screen)
    handover = report.tunnels[0].get("status", {}).get("lastHandover")
    if handover:
        lines += ["", *screen.wrap(_handover(handover, now))]
    return lines if len(lines) > 1 else []


def _pod_row(pod: Pod, now: float) -> list[str]:
    said = pod.said or {}
    return [
        pod.name,
        pod.node or NOTHING,
        "ending" if pod.terminating and not pod.role else pod.role or NOTHING,
        str(said.get("term", NOTHING)),
        str(said.get("generation", NOTHING)),
        yes(pod.ready),
        str(pod.restarts),
        age(since(pod.created, now)),
    ]


def _handover(handover: Object, now: float) -> str:
    text = f"Last handover: {age(since(handover['time'], now))} ago, {handover.get('peers', 0)} connected"
    if handover.get("p99Seconds"):
        text += f", 99 of 100 back within {handover['p99Seconds']} s ({handover.get('method')})"
    return text


def _troubles(tunnel: Object, screen: Screen) -> list[str]:
    """What conditions say is wrong, each once: Ready repeats another."""
    meta = tunnel["metadata"]
    said: dict[str, str] = {}
    for each in tunnel.get("status", {}).get("conditions") or ():
        if is_trouble(each) and each["message"] not in said.values():
            said[each["type"]] = each["message"] or each["reason"]
    if not condition(tunnel, "Ready"):
        said["Ready"] = "the operator has not looked at it yet: is it running?"
    return [
        line
        for kind, message in said.items()
        for line in screen.wrap(f"{meta['namespace']}/{meta['name']}: {kind}: {message}")
    ]


def is_trouble(found: Object) -> bool:
    """Whether a condition tells of one; with one replica there is no standby, and that was wanted."""
    if found["status"] == "Unknown" or found["reason"] == "OneReplica":
        return False
    return bool(found["status"] != _WANTED.get(found["type"], "True"))


def as_json(report: Report) -> Object:
    """For programs."""
    return {
        "tunnels": [
            {
                "namespace": tunnel["metadata"]["namespace"],
                "name": tunnel["metadata"]["name"],
                "ready": is_ready(tunnel),
                **tunnel.get("status", {}),
            }
            for tunnel in report.tunnels
        ],
        "pods": [
            {
                "name": pod.name,
                "node": pod.node,
                "ready": pod.ready,
                "restarts": pod.restarts,
                "role": pod.role or None,
                "term": pod.term if pod.said else None,
                "generation": pod.said["generation"] if pod.said else None,
                "version": pod.said["version"] if pod.said else None,
            }
            for pod in report.pods
        ],
        "missing": report.missing.missing if report.missing else None,
    }


def since(timestamp: str, now: float) -> float:
    return now - datetime.fromisoformat(timestamp).timestamp()


def yes(holds: bool) -> str:
    return "yes" if holds else "no"
