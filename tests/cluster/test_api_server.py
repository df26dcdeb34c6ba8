"""An API server without nodes: where large numbers of objects are cheap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

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
