"""What the figures were measured on: they mean little without it."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path

from tests.lab.tools import pins

import handfast_tunnel


def describe() -> dict[str, str]:
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": f"{_processor()}, {os.cpu_count()} cores",
        "kernel": f"Linux {platform.release()}",
        "python": platform.python_version(),
        "handfast": handfast_tunnel.__version__,
        "wireguard-go (Debian)": _package("wireguard-go"),
        "wireguard-go (modern)": pins()["wireguard-go-modern"],
        "wireguard-tools": _package("wireguard-tools"),
    }


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
