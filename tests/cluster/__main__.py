"""What `make cluster` and its relatives run; options are variables of make: NAME, NODES, PROXY, ADDRESS,
COUNT."""

from __future__ import annotations

import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import cast

from . import built, cgroups, lives_soak, walk
from .cluster import Cluster, provide_images
from .gateway_client import GatewayClient
from .outside import Outside
from .settings import ClusterError, Proxy, Settings

_INTERVAL = 0.2


def _settings() -> Settings:
    name, proxy = os.environ.get("NAME") or "handfast", os.environ.get("PROXY") or "iptables"
    nodes = os.environ.get("NODES") or "1"
    return Settings(name, int(nodes) if nodes.isdecimal() else -1, cast(Proxy, proxy))


def up() -> None:
    cluster = Cluster(_settings())
    began = time.monotonic()
    cluster.up()
    took = time.monotonic() - began
    print(f"# {cluster.settings.name} is up, after {took:.1f} s; `make cluster-down` removes it")
    print(f"export KUBECONFIG={cluster.settings.kubeconfig}")
    print(f"export PATH={built.folder()}:$PATH  # kubectl, helm")


def down() -> None:
    Cluster(_settings()).down()


def status() -> None:
    cluster = Cluster(_settings().found())
    for name, machine in cluster.machines.items():
        count = len(list(cgroups.processes(cluster.settings.name, name)))
        print(
            f"{name}: {f'{count} processes' if machine.running() else 'does not run'}; logs in {machine.log}"
        )
    print(cluster.kubectl("get", "nodes,pods", "--all-namespaces", "--output=wide"), end="")


def logs() -> None:
    cluster = Cluster(_settings().found())
    for log in sorted(cluster.settings.state.glob("log/*/*.log")):
        print(f"--- {log}")
        print("\n".join(log.read_text(errors="replace").splitlines()[-40:]))
    print(cluster.kubectl("get", "events", "--all-namespaces", "--sort-by=.lastTimestamp"), end="")


def client() -> None:
    """A wireguard-go outside, behind NAT, with the `wg0.conf` that comes in, pings ADDRESS, COUNT times."""
    cluster = Cluster(_settings().found())
    address, count = os.environ.get("ADDRESS") or "", os.environ.get("COUNT") or "5"
    if not address or not count.isdecimal() or sys.stdin.isatty():
        raise ClusterError("say `make cluster-client ADDRESS=10.8.0.1 < wg0.conf`")
    with Outside(cluster) as outside:
        member = GatewayClient(outside.add("client", nat=True), sys.stdin.read(), [address])
        member.up()
        ping = ("ping", "-n", f"-c{count}", f"-i{_INTERVAL}", "-W5", address)
        answered = member.host.node.attempt(*ping, timeout=30 + 2 * _INTERVAL * int(count))
        print(answered.stdout, end="")
        print(member.host.node.run("wg", "show"), end="")
        member.down()
    if answered.returncode:
        raise ClusterError(
            f"nothing answers at {address}: see `kubectl describe tunnel,peer` and cluster-logs"
        )


def make_images() -> None:
    for image in provide_images():
        print(f"{image.names[0]}: {image.archive.stat().st_size / 1e6:.0f} MB, {image.archive}")


def soak() -> None:
    """Many lives of a cluster, then faults of one, and what befalls an app with a tunnel."""
    lives_soak.run()
    faults()
    injected()


def faults() -> None:
    """Fifty rounds of faults, and every end of a handover; the result goes to docs/soak.md."""
    from .fault_soak import run

    if wrong := run():
        raise ClusterError("\n".join(wrong))


def injected() -> None:
    """Fifty rounds of what befalls an app with a tunnel; the result goes to docs/soak.md."""
    from .injection_soak import run

    if wrong := run():
        raise ClusterError("\n".join(wrong))


def first_tunnel() -> None:
    """As a new user does it, by docs/first-tunnel.md, where the result is written."""
    with tempfile.TemporaryDirectory(prefix="handfast-walk-") as folder:
        clone = Path(folder) / "clone"
        result = walk.walk(clone, "first")
        walk.note(clone, result)
    print(result)


COMMANDS: dict[str, Callable[[], None]] = {
    "up": up,
    "down": down,
    "status": status,
    "logs": logs,
    "client": client,
    "images": make_images,
    "soak": soak,
    "faults": faults,
    "injected": injected,
    "lives": lives_soak.run,
    "walk": first_tunnel,
}


def main() -> int:
    if sys.argv[1:] not in [[name] for name in COMMANDS]:
        print(f"usage: python -m tests.cluster {'|'.join(COMMANDS)}", file=sys.stderr)
        return 2
    try:
        COMMANDS[sys.argv[1]]()
    except ClusterError as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
