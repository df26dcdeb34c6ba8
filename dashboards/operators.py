"""*Operator*: whether it leads, keeps up, is told of changes, and reaches all it needs."""

from __future__ import annotations

from typing import Final

from .grafana import Dashboard, Kind, Panel, Query, Unit
from .recovery import DASHBOARD as RECOVERY

_OF: Final = 'namespace=~"$namespace", tunnel=~"$tunnel"'
_BY_TUNNEL: Final = "by (namespace, tunnel)"
_DAY: Final = 24 * 3600.0
_LEADS: Final = {"0": ("waits", "light-blue"), "1": ("leads", "green")}
_HOLDS: Final = {"0": ("False", "red"), "1": ("True", "green")}


def _rate(counter: str) -> str:
    return f"sum by (pod) (rate(handfast_operator_{counter}[$__rate_interval]))"


def _reconcile(quantile: float) -> Query:
    buckets = "sum by (le) (rate(handfast_operator_reconcile_seconds_bucket[5m]))"
    return Query(f"histogram_quantile({quantile}, {buckets})", f"p{quantile * 100:.0f}")


def _lag(by: str) -> str:
    return (
        f"max {by} (handfast_operator_tunnel_generation{{{_OF}}}) "
        f"- on (namespace, tunnel) min {by} (handfast_config_generation{{{_OF}}})"
    )


_SUMMARY: Final = (
    Panel(
        "Leaders",
        "Operators that act: one.",
        (Query("sum(handfast_operator_leading)"),),
        Kind.NUMBER,
        width=4,
        height=4,
        thresholds=((None, "red"), (1, "green"), (2, "red")),
    ),
    Panel(
        "Tunnels",
        "That the leader has heard of.",
        (Query("max(handfast_operator_tunnels)"),),
        Kind.NUMBER,
        width=4,
        height=4,
    ),
    Panel(
        "Pods behind",
        "Generations of a Tunnel's configuration that its slowest pod lacks.",
        (Query(f"max({_lag(_BY_TUNNEL)})"),),
        Kind.NUMBER,
        width=4,
        height=4,
        thresholds=((None, "green"), (1, "red")),
    ),
    Panel(
        "First certificate ends in",
        "Leaves live for 30 days and are renewed after ten.",
        (Query("min(handfast_operator_certificate_expiry_timestamp_seconds) - time()"),),
        Kind.NUMBER,
        Unit.SECONDS,
        width=4,
        height=4,
        thresholds=((None, "red"), (7 * _DAY, "green")),
    ),
    Panel(
        "Last event",
        "For so long the leader has not heard of any change.",
        (Query("max(handfast_operator_last_event_age_seconds and handfast_operator_leading == 1)"),),
        Kind.NUMBER,
        Unit.SECONDS,
        width=4,
        height=4,
    ),
    Panel(
        "Conditions that do not hold",
        "Of all Tunnels; Degraded counts where it holds.",
        (
            Query(
                f'count(handfast_operator_tunnel_condition{{{_OF}, type!="Degraded"}} == 0 '
                f'or handfast_operator_tunnel_condition{{{_OF}, type="Degraded"}} == 1) or vector(0)'
            ),
        ),
        Kind.NUMBER,
        width=4,
        height=4,
        thresholds=((None, "green"), (1, "orange")),
    ),
)

_WORK: Final = (
    Panel(
        "Who leads",
        "One of the operators acts; the others wait for its Lease.",
        (Query("handfast_operator_leading", "{{pod}}"),),
        Kind.STATES,
        states=_LEADS,
    ),
    Panel(
        "Queue",
        "Tunnels that something has changed for since they were last looked at.",
        (Query("handfast_operator_queue_depth", "{{pod}}"),),
    ),
    Panel(
        "Time to reconcile",
        "From the first look at a changed Tunnel until all of it is written and its pods are told.",
        (_reconcile(0.5), _reconcile(0.99)),
        unit=Unit.SECONDS,
    ),
    Panel(
        "Calls to the API server",
        "Each second; those that failed beside them. Watches are not counted.",
        (Query(_rate("api_calls_total"), "{{pod}}"), Query(_rate("api_errors_total"), "{{pod}} failed")),
        unit=Unit.PER_SECOND,
    ),
    Panel(
        "Age of the last event",
        "A watch that was cut and did not notice would show as a line that only rises.",
        (Query("handfast_operator_last_event_age_seconds", "{{pod}}"),),
        unit=Unit.SECONDS,
    ),
    Panel(
        "Events about Tunnels",
        "That the operator has written, in five minutes, by reason.",
        (Query(f"sum by (reason) (handfast:operator_events:increase5m{{{_OF}}})", "{{reason}}"),),
    ),
)

_TUNNELS: Final = (
    Panel(
        "Conditions",
        "Of each Tunnel, as its status has them. Those that are unknown are not shown.",
        (Query(f"handfast_operator_tunnel_condition{{{_OF}}}", "{{namespace}}/{{tunnel}} {{type}}"),),
        Kind.STATES,
        width=16,
        height=10,
        states=_HOLDS,
    ),
    Panel(
        "Generation lag",
        "Of the configuration: what the operator has written, less what the slowest pod serves.",
        (Query(_lag(_BY_TUNNEL), "{{namespace}}/{{tunnel}}"),),
        height=10,
    ),
)

_PROCESSES: Final = (
    Panel(
        "Certificates end in",
        "The first one of each kind.",
        (Query("min by (of) (handfast_operator_certificate_expiry_timestamp_seconds) - time()", "{{of}}"),),
        unit=Unit.SECONDS,
    ),
    Panel(
        "Memory of operators",
        "Resident; their limit is 1 GiB unless it was set.",
        (
            Query(
                "process_resident_memory_bytes and on (namespace, pod) handfast_operator_leading", "{{pod}}"
            ),
        ),
        unit=Unit.BYTES,
    ),
    Panel(
        "Memory of tunnels",
        "Resident, of the worker that serves.",
        (
            Query(
                f"process_resident_memory_bytes and on (namespace, pod) handfast_active{{{_OF}}}", "{{pod}}"
            ),
        ),
        unit=Unit.BYTES,
    ),
)

DASHBOARD: Final = Dashboard(
    uid="handfast-operator",
    title="Handfast / Operator",
    about="Whether Handfast's operator leads, keeps up with changes, and reaches the API server and pods.",
    variables=RECOVERY.variables,
    events=RECOVERY.events,
    panels=(*_SUMMARY, *_WORK, *_TUNNELS, *_PROCESSES),
)
