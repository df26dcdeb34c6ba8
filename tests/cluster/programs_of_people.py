"""The programs that people use on a cluster, without their files at home."""

from __future__ import annotations

import subprocess
from pathlib import Path

from .built import program
from .settings import ClusterError


def helm(kubeconfig: Path, home: Path, *arguments: str) -> str:
    """Run helm; what it keeps goes below `home`."""
    folders = {f"HELM_{kind}_HOME": str(home / kind.lower()) for kind in ("CACHE", "CONFIG", "DATA")}
    command = [str(program("helm")), "--kubeconfig", str(kubeconfig), *arguments]
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=120, env={"HOME": str(home)} | folders
    )
    if done.returncode:
        raise ClusterError(f"helm {' '.join(arguments)}: {done.stderr.strip()}")
    return done.stdout
