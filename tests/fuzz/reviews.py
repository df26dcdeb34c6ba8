"""What the injector is asked: by the API server, and by whoever reaches its port."""

from __future__ import annotations

import asyncio
import base64
import copy
import json
from collections.abc import Iterator
from typing import Any, Final

from handfast_operator.injection.review import Unreadable, answer, read
from tests.unit.operator.injection.pods import SETTINGS, FakeReader, pod, reader, review

_ODD: Final[tuple[Any, ...]] = (
    None,
    True,
    -1,
    1e308,
    "",
    "..",
    "office/../..",
    "handfast-tunnel",
    "\ud800\x1b\n",
    [],
    {},
    [None],
    [{}],
    [[]],
    {"name": None},
    [{"name": "handfast-tunnel"}],
    [{"name": "a", "ports": [{"containerPort": "x"}]}],
)


def _reader() -> FakeReader:
    made = reader()
    owner = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "shop", "controller": True}
    made.add("apps/v1", "ReplicaSet", "shop-7d9", {"replicas": 1}, ownerReferences=[owner])
    made.add("apps/v1", "Deployment", "shop", {"replicas": 1})
    made.add("batch/v1", "Job", "import", {"completions": 5})
    return made


_READER: Final = _reader()


def _full() -> Any:
    """A pod with all that is looked at."""
    asked = pod(
        labels={"handfast.dev/standby": "true"},
        owner=("ReplicaSet", "shop-7d9"),
        initContainers=[{"name": "migrate"}],
        volumes=[{"name": "data"}],
        imagePullSecrets=[{"name": "registry"}, {}],
        terminationGracePeriodSeconds=30,
        hostNetwork=False,
    )
    asked["metadata"]["annotations"] = {"team": "shop"}
    asked["spec"]["containers"][0]["ports"] = [{"containerPort": 80, "protocol": "TCP"}]
    return review(asked)


def reviews(data: bytes) -> None:
    """It is answered or called unreadable; what is changed has the tunnel first, and is not changed again."""
    _hold(data)
    _hold(json.dumps(_damaged(data)).encode())


def _hold(text: bytes) -> None:
    try:
        asked = read(text)
        response = _answer(asked)
    except Unreadable:
        return
    assert response["uid"] == asked["request"]["uid"]
    if not response["allowed"]:
        assert response["status"]["message"].startswith("handfast: ")
    if "patch" in response:
        before = asked["request"]["object"]
        after = _patched(before, json.loads(base64.b64decode(response["patch"])))
        assert after["spec"]["initContainers"][0]["name"] == "handfast-tunnel"
        assert after["spec"].get("containers") == before["spec"].get("containers")
        again = _answer({"request": asked["request"] | {"object": after}})
        assert again == {"uid": response["uid"], "allowed": True}


def _answer(asked: Any) -> Any:
    return asyncio.run(answer(asked, _READER, SETTINGS))["response"]


def _patched(before: Any, changes: list[Any]) -> Any:
    after = copy.deepcopy(before)
    for change in changes:
        where, member = change["path"][1:].split("/")
        after[where][member] = change["value"]
    return after


def _damaged(data: bytes) -> Any:
    """A whole review, in which each two bytes put something odd somewhere."""
    damaged = _full()
    for where, what in zip(data[:8:2], data[1:8:2], strict=False):
        if not (places := list(_places(damaged))):
            break
        at, key = places[where % len(places)]
        if what == 0xFF and isinstance(at, dict):
            del at[key]
        else:
            at[key] = copy.deepcopy(_ODD[what % len(_ODD)])
    return damaged


def _places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each member of each object and list."""
    if isinstance(value, (dict, list)):
        for key in list(value) if isinstance(value, dict) else range(len(value)):
            yield value, key
            yield from _places(value[key])


_WHOLE: Final = (
    review(pod()),
    _full(),
    review(pod(owner=("Job", "import"))),
    review(pod(hostNetwork=True)),
)
SEEDS: Final = (
    *(json.dumps(each).encode() for each in _WHOLE),
    *(bytes((where, what)) for where in range(len(list(_places(_full())))) for what in (3, 8, 12, 0xFF)),
    b"\2\xff" * 4,
)
