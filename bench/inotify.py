"""How many wireguard-go processes may still run: the kernel counts the inotify instances of a user."""

from __future__ import annotations

import ctypes
import os
from typing import Final

EXPLANATION: Final = (
    "each wireguard-go process needs an inotify instance; sysctl fs.inotify.max_user_instances allows more"
)


def free_instances(wanted: int) -> int:
    """Up to `wanted`, found by opening them."""
    inotify_init = ctypes.CDLL(None).inotify_init
    opened: list[int] = []
    while len(opened) < wanted and (descriptor := inotify_init()) >= 0:
        opened.append(descriptor)
    for descriptor in opened:
        os.close(descriptor)
    return len(opened)
