"""Pods reach each other as they are, and find each other by name."""

from __future__ import annotations

import pytest

from .api import Api, Object
from .asking import ask_from_pod
from .objects import pod, service


def address(found: Object, family: int = 4) -> str:
    """A pod's address of one family."""
    addresses: list[str] = [each["ip"] for each in found["status"]["podIPs"]]
    return next(each for each in addresses if (":" in each) == (family == 6))


@pytest.mark.usefixtures("machines")
@pytest.mark.parametrize("family", [4, 6])
def test_pods_on_both_nodes_reach_each_other(api: Api, family: int) -> None:
    api.apply(pod("here", node="node1"), pod("there", node="node2"))
    api.wait_ready("here", "there")
    here, there = (address(api.get("Pod", name), family) for name in ("here", "there"))
    # Nobody between them changes the addresses.
    assert ask_from_pod(api, "here", there) == ("there", here)
    assert ask_from_pod(api, "there", here) == ("here", there)


def test_names_of_services_are_known(api: Api) -> None:
    api.apply(pod("asking"), pod("echo"), service("named", app="echo"))
    api.wait_ready("asking", "echo")
    answer = ask_from_pod(api, "asking", f"named.{api.namespace}.svc.cluster.local")
    assert answer
    assert answer.pod == "echo"


def test_an_unknown_name_is_not_found(api: Api) -> None:
    api.apply(pod("asking"))
    api.wait_ready("asking")
    look = "getent hosts unknown.default.svc.cluster.local; echo $?"
    # 2: "One or more supplied key could not be found in the database", not 1 or a time-out.
    assert api.exec("asking", "sh", "-c", look).split() == ["2"]
