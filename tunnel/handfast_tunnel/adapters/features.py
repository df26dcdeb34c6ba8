"""What the kernel may lack: each batching feature can be switched off, by a person or by a test."""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from typing import Protocol

from ..errors import StartError

log = logging.getLogger(__name__)

FEATURES = {
    "vnet_hdr": "virtio-net headers on the TUN device",
    "tso": "TCP segmentation offload on the TUN device",
    "uso": "UDP segmentation offload on the TUN device",
    "udp_gso": "UDP_SEGMENT on the sockets",
    "udp_gro": "UDP_GRO on the sockets",
    "pktinfo": "sticky source addresses (IP_PKTINFO)",
}

DISABLE_VARIABLE = "HANDFAST_DISABLE"


def disabled_features(environ: Mapping[str, str] | None = None) -> frozenset[str]:
    """The features that HANDFAST_DISABLE names, separated by commas."""
    text = (os.environ if environ is None else environ).get(DISABLE_VARIABLE, "")
    names = frozenset(name.strip() for name in text.split(",") if name.strip())
    if unknown := sorted(names - FEATURES.keys()):
        raise StartError(
            f"{DISABLE_VARIABLE} names an unknown feature, {unknown[0]}: use some of {','.join(FEATURES)}"
        )
    return names


class Batching(Protocol):
    """What moves packets, many at a time where the kernel lets it."""

    @property
    def features(self) -> str:
        """What makes batches possible here, as a sentence."""

    @property
    def lacks(self) -> list[str]:
        """The features that nobody disabled and the kernel does not have."""


def tell(interface: str, batching: Batching) -> None:
    """Says at start how packets move; by default only where the kernel lacks a feature."""
    if batching.lacks:
        lacking = ", ".join(FEATURES[name] for name in batching.lacks)
        log.warning("%s: this kernel lacks %s; %s", interface, lacking, batching.features)
    else:
        log.debug("%s: %s", interface, batching.features)
