from __future__ import annotations

import os
import sys
from collections.abc import Callable, Generator

import pytest
from hypothesis import settings

from tests import turns
from tests.cluster import shared

# Tests start Python thousands of times: it keeps what it has compiled, whatever the environment says.
sys.dont_write_bytecode = False
os.environ["PYTHONDONTWRITEBYTECODE"] = ""

# On a shared machine any example can take long; its time says nothing.
settings.register_profile("handfast", deadline=None)
settings.load_profile("handfast")

_failed = pytest.StashKey[bool]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "disturbs_nodes: needs a cluster's nodes for itself")
    config.addinivalue_line("markers", "soak: takes minutes; `make soak` runs it")
    shared.begin()


def pytest_unconfigure() -> None:
    shared.end()


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> turns.Scheduling:
    return turns.Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: turns.turn_of(item.nodeid, long=bool(item.get_closest_marker("timeout"))))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    if report.failed:
        item.stash[_failed] = True
    return report


@pytest.fixture
def failed(request: pytest.FixtureRequest) -> Callable[[], bool]:
    """Has the test failed? For fixtures that then tell what they know."""
    return lambda: request.node.stash.get(_failed, False)
