"""What goes with the operator, and what stays for the next one."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from handfast_operator.belongings import AUTHORITY_SECRET, claim
from handfast_operator.lease import NAME
from handfast_operator.settings import Settings

from .fake_store import FakeStore


@pytest.fixture
def store() -> FakeStore:
    store = FakeStore()
    for kind, name, uid in (
        ("Deployment", "handfast", "uid-of-it"),
        ("Lease", NAME, ""),
        ("Secret", AUTHORITY_SECRET, ""),
    ):
        store.objects[kind, name] = {
            "kind": kind,
            "metadata": {"name": name, "uid": uid, "resourceVersion": "1"},
        }
    return store


def owners(store: FakeStore, **settings: Any) -> list[list[str]]:
    """Of the Lease and the authority, after an operator has claimed them."""
    asyncio.run(claim(cast(Any, store), Settings(**settings)))
    found = [store.objects[key]["metadata"] for key in (("Lease", NAME), ("Secret", AUTHORITY_SECRET))]
    return [[each["uid"] for each in metadata.get("ownerReferences") or ()] for metadata in found]


def test_the_authority_stays_where_tunnels_do(store: FakeStore) -> None:
    assert owners(store, deployment="handfast") == [["uid-of-it"], []]


def test_all_goes_where_tunnels_go_and_is_kept_again_when_that_is_taken_back(store: FakeStore) -> None:
    assert owners(store, deployment="handfast", tunnels_stay=False) == [["uid-of-it"], ["uid-of-it"]]
    assert owners(store, deployment="handfast", tunnels_stay=True) == [["uid-of-it"], []]


@pytest.mark.parametrize("deployment", ["", "another"])
def test_without_a_deployment_nothing_belongs_to_it(store: FakeStore, deployment: str) -> None:
    assert owners(store, deployment=deployment) == [[], []]
