"""What the tests of clusters share: clusters for a whole run, a namespace for each test, clients outside.

`HANDFAST_TEST_KUBECONFIG=FILE` runs the tests that need nothing but an API (`api`) on somebody's own cluster.
"""

from __future__ import annotations

import fcntl
import os
import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.lab.probes import Probes

from .api import Api
from .cluster import Cluster
from .gateways import install
from .injected import Injected
from .outside import Outside
from .settings import Proxy, Settings
from .shared import OWNER, foreign_kubeconfig, run_name

_SLOW = 300
"""The first test on a cluster waits for it, and may have to wait for one that disturbs its nodes."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give clusters time; on somebody's own cluster leave out what needs the machines below it."""
    ours = [item for item in items if Path(__file__).parent in item.path.parents]
    for item in ours:
        if not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(_SLOW))
    if foreign_kubeconfig():
        apart = [item for item in ours if not _needs_only_an_api(item)]
        items[:] = [item for item in items if item not in apart]
        config.hook.pytest_deselected(items=apart)


def _needs_only_an_api(item: pytest.Item) -> bool:
    needs = set(getattr(item, "fixturenames", ()))
    return "api" in needs and "machines" not in needs


@pytest.fixture(scope="session")
def up() -> Callable[[Settings], Cluster]:
    """Clusters by their options; made when the run's first test asks for one, on whichever worker."""
    made: dict[Settings, Cluster] = {}

    def make(settings: Settings) -> Cluster:
        if settings not in made:
            cluster = Cluster(settings)
            cluster.up(owner=int(os.environ[OWNER]))
            made[settings] = cluster
        return made[settings]

    return make


@pytest.fixture
def proxy(request: pytest.FixtureRequest) -> Proxy:
    """Which kind of kube-proxy the test's cluster has; tests of both parametrize it."""
    proxy: Proxy = getattr(request, "param", "iptables")
    return proxy


@pytest.fixture
def machines(
    request: pytest.FixtureRequest, up: Callable[[Settings], Cluster], proxy: Proxy
) -> Iterator[Cluster]:
    """A cluster of two nodes with all its machines; alone, for tests that are marked `disturbs_nodes`."""
    cluster = up(Settings(run_name(proxy), 2, proxy))
    alone = request.node.get_closest_marker("disturbs_nodes") is not None
    with _turn(cluster, alone=alone):
        yield cluster


@contextmanager
def _turn(cluster: Cluster, *, alone: bool) -> Iterator[None]:
    with (cluster.settings.state / "turns").open("w") as turns:
        fcntl.flock(turns, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield


@pytest.fixture
def kubeconfig(request: pytest.FixtureRequest, failed: Callable[[], bool]) -> Iterator[Path]:
    """How to reach the test's cluster; if that is ours, its logs are told if the test fails."""
    if foreign := foreign_kubeconfig():
        yield foreign
        return
    machines: Cluster = request.getfixturevalue("machines")
    yield machines.settings.kubeconfig
    if failed():
        print(machines.report())


@pytest.fixture
def api(kubeconfig: Path, failed: Callable[[], bool]) -> Iterator[Api]:
    """A namespace of the test's own; what happened in it is told if the test fails."""
    api = Api(kubeconfig, f"test-{secrets.token_hex(4)}")
    api.create_namespace()
    yield api
    if failed():
        print(api.report())
    api.delete_namespace()
    api.close()


@pytest.fixture
def outside(machines: Cluster, failed: Callable[[], bool]) -> Iterator[Outside]:
    with Outside(machines) as outside:
        yield outside
        if failed():
            print(outside.report())


@pytest.fixture
def app(api: Api, machines: Cluster) -> Injected:
    """An app with a tunnel, still to be made, where Handfast is installed."""
    install(machines)
    return Injected(api)


@pytest.fixture
def probes() -> Iterator[Probes]:
    with Probes() as probes:
        yield probes
