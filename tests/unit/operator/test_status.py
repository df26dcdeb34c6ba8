"""What a Tunnel's conditions say."""

from __future__ import annotations

import pytest

from handfast_operator.status import tunnel_findings
from handfast_operator.tunnel_state import TunnelState

from .objects import tunnel_object


@pytest.mark.parametrize(
    ("gateway", "active"),
    [(None, ("Unknown", "NoPod")), ({}, ("False", "NoActivePod"))],
    ids=["app", "gateway"],
)
def test_without_a_pod_only_a_gateway_lacks_one(gateway: dict[str, object] | None, active: object) -> None:
    found = {each.type: each for each in tunnel_findings(TunnelState(tunnel_object(gateway=gateway)), ())}
    assert (found["Active"].status, found["Active"].reason) == active
    assert found["Ready"].status == "False"
