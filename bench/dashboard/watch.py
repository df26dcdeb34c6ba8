"""`make cluster-dashboard`: a Prometheus beside a cluster, and the dashboard *Recovery* as a picture.

Until it is interrupted, or for MINUTES, the picture is drawn anew every few seconds; Prometheus's own pages
show the rest. It scrapes what the chart's PodMonitors select, in namespaces that are there when it begins.
"""

from __future__ import annotations

import os
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

import yaml
from dashboards.queries import dashboards
from tests.cluster.api import Api
from tests.cluster.cluster import Cluster
from tests.cluster.gateways import CHART
from tests.cluster.prometheus import Prometheus
from tests.cluster.settings import ClusterError, Settings

from bench.restart import or_one_line, say

from .answers import gather
from .picture import draw

STEP: Final = 5
"""Seconds between two scrapes, and two pictures."""
PICTURE: Final = Path("dashboard.png")


def main() -> int:
    try:
        cluster = Cluster(Settings(os.environ.get("NAME") or "handfast").found())
        seconds = 60 * float(os.environ.get("MINUTES") or "inf")
    except (ClusterError, ValueError) as error:
        print(f"cluster: {error}", file=sys.stderr)
        return 1
    with suppress(KeyboardInterrupt):
        watch(cluster, seconds)
    return 0


def watch(cluster: Cluster, seconds: float) -> None:
    rules = yaml.safe_load((CHART / "files/rules.yaml").read_text())
    with Prometheus(cluster, namespaces(cluster), [rules], f"{STEP}s") as prometheus:
        say(f"Prometheus: {prometheus.url}")
        began = time.time()
        while time.time() < began + seconds:
            time.sleep(STEP)
            seen = gather(prometheus, began, STEP, [])
            draw(seen, dashboards()["recovery"], PICTURE)
            empty = len(seen.empty())
            say(f"{PICTURE}: {len(seen.panels) - empty} of {len(seen.panels)} panels have data")


def namespaces(cluster: Cluster) -> list[str]:
    api = Api(cluster.settings.kubeconfig)
    found = [each["metadata"]["name"] for each in api.everywhere("Namespace")]
    api.close()
    return found


if __name__ == "__main__":
    sys.exit(or_one_line(main))
