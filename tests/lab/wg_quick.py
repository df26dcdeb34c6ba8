"""`wg-quick` on a node."""

from __future__ import annotations

import shutil
from pathlib import Path

from .namespaces import LabError, Node

# What `ip` answers on a machine whose kernel has no WireGuard: wg-quick then asks for a program.
_IP_WITHOUT_WIREGUARD = """\
#!/bin/sh
case "$*" in *"type wireguard"*) exit 2 ;; esac
exec {ip} "$@"
"""


class WgQuick:
    """wg-quick on a node, with a configuration file, as if the kernel had no WireGuard of its own."""

    def __init__(self, node: Node, program: str, folder: Path) -> None:
        self._node = node
        self._folder = folder
        self._environment = {"WG_QUICK_USERSPACE_IMPLEMENTATION": program}
        # wg-quick puts its own folder first in PATH.
        shutil.copy(shutil.which("wg-quick") or "wg-quick", folder / "wg-quick")
        (folder / "ip").write_text(_IP_WITHOUT_WIREGUARD.format(ip=shutil.which("ip")))
        (folder / "ip").chmod(0o755)
        node.run("mount", "-t", "tmpfs", "tmpfs", "/sys/module")

    def __call__(self, verb: str, configuration: str) -> str:
        path = self._folder / "wg0.conf"
        path.write_text(configuration)
        path.chmod(0o600)
        command = [str(self._folder / "wg-quick"), verb, str(path)]
        done = self._node.attempt(*command, environment=self._environment)
        if done.returncode:
            raise LabError(f"wg-quick {verb}: {done.stderr}")
        return done.stderr
