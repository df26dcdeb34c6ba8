"""What a cluster could leave behind, and whether it has."""

from __future__ import annotations

import subprocess
from contextlib import suppress
from pathlib import Path

from . import cgroups
from .machines import MARK
from .settings import STATE

_COMMANDS = (
    ("ip", "-brief", "link"),
    ("ip", "-brief", "address"),
    ("ip", "route", "show", "table", "all"),
    ("ip", "-6", "route", "show", "table", "all"),
    ("ip", "rule"),
    ("nft", "list", "ruleset"),
    ("iptables-save",),
    ("sysctl", "net.ipv4.ip_forward", "net.ipv4.conf.all.rp_filter", "net.netfilter.nf_conntrack_max"),
)
_FOLDERS = ("/run", "/var/lib", "/var/log", "/etc", "/opt", "/tmp")
_WORDS = ("cni", "containerd", "kube", "netns")


def of_host() -> dict[str, str]:
    """What must be after a cluster as it was before, in words: interfaces, routes, rules, mounts."""
    seen = {" ".join(command): _output(command) for command in _COMMANDS}
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    seen["mounts"] = "\n".join(line.split(" ", 3)[3] for line in mounts)
    return seen


def files(name: str) -> set[Path]:
    """What of this cluster is on the disk, and what of its programs' usual files."""
    found = {STATE / name} if (STATE / name).exists() else set()
    for folder in _FOLDERS:
        with suppress(OSError):
            found |= {path for path in Path(folder).iterdir() if any(word in path.name for word in _WORDS)}
    return found


def groups(name: str) -> set[Path]:
    return {
        tree / group for tree in cgroups.trees() if (tree / (group := cgroups.cluster_group(name))).exists()
    }


def processes(name: str) -> set[int]:
    """All that were started for this cluster, whatever group or namespace they are in."""
    mark = f"{MARK}={name}".encode()
    found = set()
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if entry.name.isdecimal() and mark in (entry / "environ").read_bytes().split(b"\0"):
                found.add(int(entry.name))
    return found


def _output(command: tuple[str, ...]) -> str:
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    # iptables-save tells the time; counters go on without clusters.
    return "\n".join(line for line in lines if not line.startswith("#"))
