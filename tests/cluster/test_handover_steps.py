"""Whatever dies after any step of a handover: one pod is left that is active, and everybody reaches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from . import handover_steps
from .api import Api
from .cluster import Cluster
from .gateways import Gateway, install, peer, set_operators, without_operator
from .handover_steps import complaint
from .insiders import Insiders
from .outside import Outside
from .stepping import Stepping

pytestmark = [pytest.mark.disturbs_nodes, pytest.mark.timeout(400)]


@pytest.fixture
def operator(machines: Cluster, tmp_path: Path) -> Iterator[Stepping]:
    install(machines)
    stepping = Stepping(machines, tmp_path)
    with without_operator(machines):
        stepping.start()
        yield stepping
        stepping.kill()


SAMPLE = [
    ("drain", "operator"),
    ("activate", "operator"),
    ("activate", "old pod"),
    ("activate", "new pod"),
    handover_steps.LATER,
]
"""`make soak` tries everything that may die after every step."""


def test_whatever_dies_after_a_step(
    api: Api, operator: Stepping, machines: Cluster, outside: Outside
) -> None:
    with handover_steps.scene(machines, api, outside) as scene:
        failures = [found for each in SAMPLE if (found := complaint(scene, operator, *each))]
    assert not failures, "\n".join([*failures, operator.log()])


def test_an_operator_that_lost_the_lease_moves_nothing(
    api: Api, operator: Stepping, machines: Cluster
) -> None:
    """It is stopped between its calls, and goes on when another one has done all of it."""
    gateway = Gateway(api)
    gateway.up(peer("alice"))
    insiders = Insiders(machines, gateway)
    (old,) = insiders.active()
    operator.stop_after("drain")
    api.delete("Pod", old)
    operator.wait_stopped()
    set_operators(machines, 1)
    new = gateway.wait_active(old, 90)
    operator.go_on()
    assert operator.wait_ended(60) == 1
    assert insiders.active() == [new]
    assert gateway.active == new
