"""*Recovery*: how long clients were dark, how they came back, and what is left of the month's budget."""

from __future__ import annotations

from typing import Final

from .grafana import Dashboard, Event, Kind, Panel, Query, Unit, Variable

_OF: Final = 'namespace=~"$namespace", tunnel=~"$tunnel"'
_WHO_SERVES: Final = f"handfast_active{{{_OF}}} == 1"
"""Standbys know peers, too."""
_OBJECTIVE: Final = 0.01
"""So many outages may be too long (docs/alerts.md)."""
_TWO_STATES: Final = {"0": ("stands by", "light-blue"), "1": ("serves", "green")}


def _too_long(window: str) -> str:
    """The share of outages that were."""
    return f"max by (namespace, tunnel) (handfast:outages_too_long:ratio_{window}{{{_OF}}})"


def _of_active(series: str, by: str = "") -> str:
    grouping = f" by ({by})" if by else ""
    return f"sum{grouping} ({series} and on (namespace, pod) {_WHO_SERVES})"


def _quantiles(what: str) -> tuple[Query, ...]:
    return tuple(
        Query(f"max by (method) (handfast:{what}_seconds:{each}{{{_OF}}})", f"{{{{method}}}} {each}")
        for each in ("p50", "p99")
    )


def _heatmap(title: str, about: str, what: str) -> Panel:
    recorded = f"handfast:{what}_seconds_bucket:increase5m{{{_OF}}}"
    return Panel(title, about, (Query(f"sum by (le) ({recorded})"),), Kind.HEATMAP, Unit.SECONDS, width=12)


def _counts(title: str, about: str, what: str, by: str, legend: str) -> Panel:
    recorded = f"handfast:{what}:increase5m{{{_OF}}}"
    return Panel(title, about, (Query(f"sum by ({by}) ({recorded})", legend),), width=6)


_SUMMARY: Final = (
    Panel(
        "Outages under 1 s",
        "Of those of the last 30 days. The objective is 99 %.",
        (Query(f"1 - {_too_long('30d')}"),),
        Kind.NUMBER,
        Unit.RATIO,
        width=4,
        height=4,
        thresholds=((None, "red"), (0.99, "green")),
    ),
    Panel(
        "Budget left",
        "Of the 1 % of outages in 30 days that may last longer than a second.",
        (Query(f"1 - {_too_long('30d')} / {_OBJECTIVE}"),),
        Kind.NUMBER,
        Unit.RATIO,
        width=4,
        height=4,
        thresholds=((None, "red"), (0, "orange"), (0.5, "green")),
    ),
    Panel(
        "99 of 100 outages are under",
        "The 99th percentile of five minutes, over all methods.",
        (
            Query(
                f"histogram_quantile(0.99, sum by (le) (handfast:outage_seconds_bucket:increase5m{{{_OF}}}))"
            ),
        ),
        Kind.NUMBER,
        Unit.SECONDS,
        width=4,
        height=4,
        thresholds=((None, "green"), (1, "red")),
    ),
    Panel(
        "Connected clients",
        "Those of the pods that serve.",
        (Query(_of_active('handfast_peers{state="connected"}')),),
        Kind.NUMBER,
        width=4,
        height=4,
    ),
    Panel(
        "Being greeted",
        "Clients that a handshake is sent to, over and over, as their session is lost.",
        (Query(_of_active("handfast_recovery_pending")),),
        Kind.NUMBER,
        width=4,
        height=4,
        thresholds=((None, "green"), (1, "orange")),
    ),
    Panel(
        "Pods that serve",
        "One of each Tunnel.",
        (Query(f"sum by (namespace, tunnel) (handfast_active{{{_OF}}})", "{{namespace}}/{{tunnel}}"),),
        Kind.NUMBER,
        width=4,
        height=4,
        thresholds=((None, "red"), (1, "green"), (2, "red")),
    ),
)

_OUTAGES: Final = (
    _heatmap(
        "Outages",
        "From a client's last packet before an interruption to its first one after it; only of clients that "
        "were sending. Each is shown for five minutes.",
        "outage",
    ),
    Panel(
        "Outages, by method",
        "Median and 99th percentile of five minutes. Resumed: the session outlived the process. Answered: a "
        "packet of a lost session was answered by a handshake. Announced: we began the handshake. Waited: "
        "the client came by itself.",
        _quantiles("outage"),
        unit=Unit.SECONDS,
        width=12,
    ),
    _heatmap(
        "Reconnect latency",
        "From the first packet of a lost session, or our first handshake, until the client is heard again.",
        "reconnect_latency",
    ),
    Panel(
        "Reconnect latency, by method",
        "Median and 99th percentile of five minutes.",
        _quantiles("reconnect_latency"),
        unit=Unit.SECONDS,
        width=12,
    ),
)

_CLIENTS: Final = (
    Panel(
        "Clients by state",
        "Of pods that serve. Connected: a session not older than 180 s. Recovering: being greeted. Silent: "
        "neither.",
        (Query(_of_active("handfast_peers", "state"), "{{state}}"),),
        stacked=True,
    ),
    Panel(
        "Not back yet",
        "Of pods that serve. Greeted: clients that handshakes are sent to. Unheard: those that were sending "
        "before an interruption, and have not been heard since.",
        (
            Query(_of_active("handfast_recovery_pending"), "greeted"),
            Query(_of_active("handfast_interrupted_peers"), "unheard"),
        ),
    ),
    Panel(
        "Who serves",
        "A pod answers clients, or stands by.",
        (Query(f"handfast_active{{{_OF}}}", "{{pod}}"),),
        Kind.STATES,
        states=_TWO_STATES,
    ),
    _counts(
        "Packets of lost sessions",
        "What was done about packets of sessions that nobody knows, in five minutes.",
        "stray_packets",
        "action",
        "{{action}}",
    ),
    _counts(
        "Handshakes",
        "In five minutes, by our role and their result.",
        "handshakes",
        "role, result",
        "{{role}} {{result}}",
    ),
    _counts("Dropped packets", "In five minutes, by reason.", "dropped_packets", "reason", "{{reason}}"),
    Panel(
        "Traffic",
        "Over the network, of all clients.",
        (
            Query(
                f"sum by (direction) (rate(handfast_bytes_total{{{_OF}}}[$__rate_interval]))", "{{direction}}"
            ),
        ),
        unit=Unit.BYTES_PER_SECOND,
        width=6,
    ),
    Panel(
        "Budget burnt, as a multiple of what lasts for 30 days",
        "At 1 the budget of outages longer than a second is gone after 30 days. Alerts: 14.4 over an hour, "
        "6 over six hours, 1 over three days.",
        tuple(
            Query(f"{_too_long(window)} / {_OBJECTIVE}", f"{{{{namespace}}}}/{{{{tunnel}}}} {window}")
            for window in ("1h", "6h", "3d")
        ),
        width=24,
        thresholds=((None, "green"), (1, "yellow"), (6, "orange"), (14.4, "red")),
    ),
)


def _new(counter: str) -> str:
    """Where a counter has risen or begun within a minute."""
    return f"({counter} unless {counter} offset 1m) or increase({counter}[1m]) > 0"


DASHBOARD: Final = Dashboard(
    uid="handfast-recovery",
    title="Handfast / Recovery",
    about="How long clients of Handfast's Tunnels were dark, how they came back, and why.",
    variables=(
        Variable("namespace", "handfast_active"),
        Variable("tunnel", 'handfast_active{namespace=~"$namespace"}'),
    ),
    events=(
        Event(
            "Restarts",
            f"changes(handfast_incarnation{{{_OF}}}[1m]) > 0",
            "{{pod}}: a new process took over",
            "orange",
        ),
        Event(
            "Handovers and failovers",
            _new(f'handfast_operator_events_total{{{_OF}, reason=~"HandedOver|FailedOver|Activated"}}'),
            "{{namespace}}/{{tunnel}}: {{reason}}",
            "blue",
        ),
        Event(
            "Drains",
            _new(f'handfast_handovers_total{{{_OF}, result!="activated"}}'),
            "{{pod}}: drained, {{result}}",
            "purple",
        ),
    ),
    panels=(*_SUMMARY, *_OUTAGES, *_CLIENTS),
)
