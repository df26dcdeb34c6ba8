"""Programs of ours beside the cluster's pods: on the control plane's machine, they reach the API server and
all pods, with the administrator's credentials."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import IO

from . import cgroups
from .cluster import Cluster
from .control_plane import internal_server
from .settings import CONTROL

_ROOT = Path(__file__).parents[2]
_JOIN = 'echo $$ >"$0" && exec "$@"'


def start(
    cluster: Cluster, module: str, environment: Mapping[str, str], directory: Path, log: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Python's `-m module`; `directory` is where its credentials may be, and whatever it writes."""
    group = str(cgroups.procs_file(cluster.settings.name, CONTROL))
    inside = ["nsenter", "--net", f"--target={cluster.control.pid}", "--"]
    kubeconfig = directory / "kubeconfig"
    kubeconfig.touch(mode=0o600)
    admin = cluster.settings.kubeconfig.read_text()
    kubeconfig.write_text(re.sub(r"https://[0-9.:]+", internal_server(), admin))
    ours = {
        "KUBECONFIG": str(kubeconfig),
        "TMPDIR": str(directory),  # what is killed leaves its files there
        "PYTHONPATH": os.pathsep.join(str(_ROOT / folder) for folder in ("tunnel", "operator", ".")),
    }
    return subprocess.Popen(
        ["sh", "-c", _JOIN, group, *inside, sys.executable, "-m", module],
        cwd=_ROOT,
        env=os.environ | environment | ours,
        stdin=subprocess.DEVNULL,
        stdout=log,
        stderr=log,
    )
