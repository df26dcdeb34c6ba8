"""What the operator says of itself to Prometheus."""

from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

from prometheus_client.parser import text_string_to_metric_families

from handfast_operator import certificates
from handfast_operator.health import FIGURES, render
from handfast_operator.leader import Operator, OperatorAuthority
from handfast_operator.measured import PREFIX
from handfast_operator.settings import Settings
from handfast_operator.tunnel_state import TunnelState
from handfast_operator.worker import Worker

from .objects import tunnel_object
from .test_documents import configuration

NOW = 1_750_000_000.0


def operator(*, authority: bool = True) -> Operator:
    store = SimpleNamespace(calls=7, errors=2)
    made = Operator(Settings(), cast(Any, store), cast(Any, None))
    if authority:
        made._authority = OperatorAuthority(certificates.make_authority(NOW), NOW)
    return made


def samples(operator: Operator, now: float) -> dict[str, float]:
    """By name and label."""
    found = text_string_to_metric_families(render(operator, now))
    return {
        "/".join([sample.name.removeprefix(PREFIX), *sample.labels.values()]): sample.value
        for family in found
        for sample in family.samples
    }


def test_before_it_leads() -> None:
    found = samples(operator(authority=False), time.monotonic())
    assert found["leading"] == 0
    assert found["reconcile_seconds_count"] == 0
    measured = {name for name in found if name.startswith(("process_", "reconcile_seconds"))}
    assert {figure.name for figure in FIGURES if not figure.labels} == found.keys() - measured


def test_what_it_has_done_and_heard() -> None:
    subject = operator()
    subject.transitions = 3
    found = samples(subject, subject.heard_at + 12)
    assert (found["leading"], found["api_calls_total"], found["api_errors_total"]) == (1, 7, 2)
    assert found["last_event_age_seconds"] == 12


def test_a_tunnel_waits_from_a_change_until_it_is_looked_at() -> None:
    subject = operator()
    worker = subject.workers["vpn", "office"] = Worker(subject, ("vpn", "office"))
    assert samples(subject, 0)["queue_depth"] == 0
    worker.mark()
    found = samples(subject, 0)
    assert (found["queue_depth"], found["tunnels"]) == (1, 1)


def test_what_alerts_ask_of_a_tunnel() -> None:
    subject = operator()
    worker = subject.workers["vpn", "office"] = Worker(subject, ("vpn", "office"))
    assert not [name for name in samples(subject, 0) if "vpn" in name]
    worker._state = TunnelState(tunnel_object(), config=configuration())
    statuses = {"KeyAvailable": "False", "Active": "True", "ForwardingReady": "Unknown"}
    worker._status = {"conditions": [{"type": name, "status": each} for name, each in statuses.items()]}
    found = samples(subject, 0)
    assert found["tunnel_generation/vpn/office"] == configuration().generation
    assert {name: value for name, value in found.items() if name.startswith("tunnel_condition")} == {
        "tunnel_condition/vpn/office/KeyAvailable": 0,
        "tunnel_condition/vpn/office/Active": 1,
    }


def test_how_long_a_look_takes_and_what_people_are_told() -> None:
    subject = operator()
    cast(Any, subject.store).create = AsyncMock()
    worker = Worker(subject, ("vpn", "office"))
    worker._state = TunnelState(tunnel_object())
    with subject.measured.reconcile_seconds.time():
        asyncio.run(worker._announce("Normal", "HandedOver", "Pod b took over from a"))
    found = samples(subject, 0)
    assert (found["reconcile_seconds_count"], found["reconcile_seconds_bucket/+Inf"]) == (1, 1)
    assert 0 < found["reconcile_seconds_sum"] < 60
    assert found["events_total/vpn/HandedOver/office"] == 1
    assert found["process_resident_memory_bytes"] > 1 << 20


def test_certificates_end_when_they_say() -> None:
    found = samples(operator(), 0)
    assert found["certificate_expiry_timestamp_seconds/operator"] == NOW + 30 * 86400
    assert found["certificate_expiry_timestamp_seconds/authority"] > NOW + 365 * 86400
