from __future__ import annotations

import pytest

from handfast_operator.requests import FROM_TERM, from_term
from handfast_operator.tunnel_state import TunnelObject

from .objects import tunnel_body


@pytest.mark.parametrize(("text", "term"), [("12", 12), ("", 0), ("now", 0), ("-1", 0), ("1.5", 0), ("²", 0)])
def test_a_request_names_a_term(text: str, term: int) -> None:
    body = tunnel_body()
    body["metadata"]["annotations"] = {FROM_TERM: text}
    assert TunnelObject.parse(body).hand_over_from == term


def test_nobody_asks() -> None:
    assert from_term(None) == 0
    assert TunnelObject.parse(tunnel_body()).hand_over_from == 0
