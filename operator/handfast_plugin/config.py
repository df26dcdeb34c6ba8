"""`kubectl handfast config`: a client's file, as `wg-quick` reads it or as a phone's camera does."""

from __future__ import annotations

import base64
from typing import Final

from .api import Api
from .errors import PluginError
from .kinds import condition
from .plain import lines
from .screen import Screen

_KEY: Final = "wg0.conf"
_BORDER: Final = 2
"""Modules around the code; with the four of the standard an ordinary file needs more than 80 columns."""
_HALVES: Final = {(True, True): " ", (True, False): "▄", (False, True): "▀", (False, False): "█"}
"""Of two modules, one above the other, by whether they are dark: light is drawn."""


def configuration(api: Api, name: str) -> str:
    namespace = api.place.namespace
    peer = api.get("peers", namespace, name)
    secret_name = peer.get("status", {}).get("secretName")
    if secret_name:
        secret = api.get("secrets", namespace, secret_name)
        if text := (secret.get("data") or {}).get(_KEY):
            return lines(base64.b64decode(text).decode(errors="replace"))
    ready = condition(peer, "ConfigReady")
    why = ready.get("message") or ready.get("reason") or "the operator has not looked at it yet"
    raise PluginError(f"Peer {name} has no configuration yet: {why}")


def qr_code(text: str, screen: Screen) -> list[str]:
    """Black on white, whatever the terminal's own colours are; raises PluginError where there is no room."""
    try:
        import segno
    except ImportError:
        raise PluginError("--qr needs the library segno: pip install 'handfast[plugin]'") from None
    code = segno.make_qr(text, error="l", boost_error=False)
    rows = [[bool(module) for module in row] for row in code.matrix_iter(border=_BORDER)]
    if screen.width is not None and len(rows[0]) > screen.width:
        raise PluginError(
            f"the code is {len(rows[0])} columns wide, and the terminal {screen.width}: make it wider, "
            "or its letters smaller"
        )
    if len(rows) % 2:
        rows.append([False] * len(rows[0]))
    lines = [
        "".join(_HALVES[pair] for pair in zip(upper, lower, strict=True))
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    ]
    return [f"\x1b[97;40m{line}\x1b[0m" if screen.terminal else line for line in lines]
