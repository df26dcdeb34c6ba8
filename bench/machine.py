"""What the figures were measured on: they mean little without it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from tests.lab.tools import pins

import handfast_tunnel

LOAD_BEFORE: Final = os.getloadavg()[0]


def describe() -> dict[str, str]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "other work": f"load average {LOAD_BEFORE:.1f} before",
        "kernel": f"Linux {platform.release().partition('-')[0]}",
        "Python": platform.python_version(),
        "Handfast": handfast_tunnel.__version__,
        "wireguard-go (Debian)": _package("wireguard-go"),
        "wireguard-go (modern)": pins()["wireguard-go-modern"],
        "wireguard-tools": _package("wireguard-tools"),
    }


def sentence(machine: dict[str, str]) -> str:
    """All of it for a reader; what explains itself goes without its name."""
    plain = ("date", "processor", "other work", "kernel")
    return "; ".join(value if name in plain else f"{name} {value}" for name, value in machine.items()) + "."


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def _package(name: str) -> str:
    query = subprocess.run(
        ["dpkg-query", "-W", "-f", "${Version}", name], capture_output=True, text=True, check=False
    )
    return query.stdout or "unknown"
