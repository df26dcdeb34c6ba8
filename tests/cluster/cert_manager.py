"""cert-manager beside a cluster, on the machine of its control plane: its controllers and its cainjector."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from . import control_plane
from .built import folder_of
from .cluster import Cluster
from .machines import STATE

_SOURCES: Final = Path(__file__).with_name("cert-manager")
_NAME: Final = "cert-manager"


@contextmanager
def cert_manager(cluster: Cluster) -> Iterator[None]:
    """And its kinds of objects, with all that there is of them until the end."""
    home = folder_of(_SOURCES, _NAME)
    kinds = f"--filename={home / 'crds'}"
    cluster.kubectl("apply", "--server-side", kinds)
    cluster.kubectl("wait", "--for=condition=Established", "--timeout=30s", kinds)
    kubeconfig = json.loads(cluster.settings.kubeconfig.read_text())
    kubeconfig["clusters"][0]["cluster"]["server"] = control_plane.internal_server()
    path = cluster.settings.state / f"{_NAME}.kubeconfig"
    path.touch(mode=0o600)
    path.write_text(json.dumps(kubeconfig))
    cluster.control.daemon(_NAME, str(home / "bin" / _NAME), f"{STATE}/{path.name}")
    try:
        yield
    finally:
        cluster.control.stop(_NAME)
        cluster.kubectl("delete", "--ignore-not-found", kinds)
