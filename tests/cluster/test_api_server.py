"""An API server without nodes: where large numbers of objects are cheap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from . import many_peers
from .api import Api, Object
from .cluster import Cluster
from .settings import Settings
from .shared import run_name

COUNT = 1000


@pytest.fixture
def bare(up: Callable[[Settings], Cluster]) -> Iterator[Api]:
    api = Api(up(Settings(run_name("bare"), 0)).settings.kubeconfig, "many")
    api.create_namespace()
    yield api
    api.delete_namespace()
    api.close()


def test_a_thousand_objects_come_and_go(bare: Api) -> None:
    def make(number: int) -> None:
        found: Object = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": f"object-{number}"}}
        bare.apply(found | {"data": {"number": str(number)}})

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(make, range(COUNT)))
    numbers = {int(each["data"].get("number", -1)) for each in bare.list("ConfigMap")}
    assert set(range(COUNT)) <= numbers
    bare.delete_namespace()
    bare.wait_gone("Namespace", "many", timeout=100)


def test_a_change_costs_as_many_calls_whatever_the_number_of_peers(
    up: Callable[[Settings], Cluster], tmp_path: Path
) -> None:
    cluster = up(Settings(run_name("bare"), 0))
    few, many = (many_peers.measure(cluster, count, tmp_path) for count in (10, 200))
    print(few, many, sep="\n")
    # A Secret and a status each, and whatever the Tunnel itself needs.
    assert many.calls - few.calls < 4 * (many.count - few.count)
    assert many.change_calls <= few.change_calls + 1
