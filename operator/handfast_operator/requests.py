"""A handover that somebody asks for: by an annotation of the Tunnel, which names the term that is to end.

Each activation has a term of its own, and terms only rise: a request holds for one activation, whichever
operator reads it and however often, and is over as soon as another pod is active. Nothing has to be noted.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from .resources import GROUP

FROM_TERM: Final = f"{GROUP}/hand-over-from-term"


def from_term(annotations: Mapping[str, str] | None) -> int:
    """The term at which a pod is asked to hand over; 0 where nobody asks, or what is said is no term."""
    text = (annotations or {}).get(FROM_TERM, "")
    return int(text) if text.isascii() and text.isdigit() else 0
