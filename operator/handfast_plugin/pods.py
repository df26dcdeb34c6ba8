"""What a Tunnel's pods say of themselves.

They are asked by `handfast-tunnel status --json` in the container, as whoever may `pods/exec` there. The
metrics' port would need `pods/proxy` only, but it has no certificates, and whatever it told about clients it
would tell all namespaces that may read metrics; the control API is the operator's alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from .api import Api
from .errors import ExecFailed, Forbidden, NotFound
from .kinds import CONTAINERS, MANAGED_BY, TUNNEL_LABEL, Object, condition
from .plain import document

_STATUS: Final = ("handfast-tunnel", "status", "--json")


@dataclass(frozen=True, slots=True)
class Client:
    """One client, as the active pod has it."""

    public_key: str
    endpoint: str | None = None
    connected: bool = False
    method: str | None = None
    """How it came back after the last interruption; None where it has not."""
    latency: float | None = None
    outage: float | None = None
    """How long the last interruption was for it, if it was sending."""
    received_age: float | None = None
    received_bytes: int = 0

    @classmethod
    def of(cls, said: Mapping[str, Any]) -> Client:
        age = said.get("handshake_age")
        return cls(
            said["public_key"],
            said.get("endpoint"),
            age is not None and age < 180,
            said.get("method"),
            said.get("latency"),
            said.get("outage"),
            said.get("received_age"),
            said.get("received_bytes", 0),
        )


@dataclass(frozen=True, slots=True)
class Pod:
    """As the API server has it, and with what it says itself, where it was asked."""

    name: str
    uid: str
    namespace: str = ""
    node: str = ""
    ready: bool = False
    terminating: bool = False
    container: str = CONTAINERS[0]
    """In which its tunnel runs."""
    restarts: int = 0
    created: str = ""
    said: Mapping[str, Any] | None = None
    silent: str = ""
    """Why it said nothing."""
    body: Object = field(default_factory=dict, repr=False)

    @classmethod
    def of(cls, body: Object, said: Mapping[str, Any] | None = None, silent: str = "") -> Pod:
        meta, status = body["metadata"], body.get("status", {})
        every = [*(status.get("initContainerStatuses") or ()), *(status.get("containerStatuses") or ())]
        ours: Object = next((each for each in every if each["name"] in CONTAINERS), {})
        return cls(
            meta["name"],
            meta["uid"],
            meta["namespace"],
            body.get("spec", {}).get("nodeName") or "",
            condition(body, "Ready").get("status") == "True",
            "deletionTimestamp" in meta,
            ours.get("name", CONTAINERS[0]),
            ours.get("restartCount", 0),
            meta["creationTimestamp"],
            said,
            silent,
            body,
        )

    def is_of(self, tunnel: Object) -> bool:
        """Whether it is one of a Tunnel's, and its word is to be believed: a label is anybody's to give."""
        gateway, sidecar = CONTAINERS
        spec = self.body.get("spec", {})
        if tunnel["spec"].get("gateway") is None:
            return any(
                (each["name"], each.get("restartPolicy")) == (sidecar, "Always")
                for each in spec.get("initContainers") or ()
            )
        # A pod that somebody else slips under that owner is one too many there, and deleted.
        meta = self.body["metadata"]
        name = tunnel["metadata"]["name"]
        made = any(
            (each["kind"], each["name"].rpartition("-")[0]) == ("ReplicaSet", name)
            for each in meta.get("ownerReferences") or ()
            if each.get("controller")
        )
        managed = MANAGED_BY.items() <= (meta.get("labels") or {}).items()
        return made and managed and any(each["name"] == gateway for each in spec.get("containers") or ())

    @property
    def role(self) -> str:
        return str(self.said["role"]) if self.said else ""

    @property
    def term(self) -> int:
        return int(self.said["term"]) if self.said else 0

    @property
    def incarnation(self) -> tuple[str, int]:
        """Another one for each process that owned sessions."""
        return self.uid, int(self.said["incarnation"] or 0) if self.said else 0

    @property
    def clients(self) -> dict[str, Client]:
        """By public key."""
        said = self.said["peers"] if self.said else ()
        return {each["public_key"]: Client.of(each) for each in said}


def labelled(api: Api, tunnel: Object) -> list[Pod]:
    """As the API server has them; nobody is asked."""
    meta = tunnel["metadata"]
    found = api.list("pods", meta["namespace"], labels=f"{TUNNEL_LABEL}={meta['name']}")
    return [Pod.of(body) for body in found]


def of_tunnel(api: Api, tunnel: Object) -> list[Pod]:
    return [pod for pod in labelled(api, tunnel) if pod.is_of(tunnel)]


def named(api: Api, namespace: str, name: str) -> Pod | None:
    body = api.find("pods", namespace, name) if name else None
    return Pod.of(body) if body else None


def asked(api: Api, pod: Pod) -> Pod:
    """With its own word. Raises Forbidden where nobody may be asked."""
    try:
        text = api.exec(pod.namespace, pod.name, pod.container, _STATUS)
        # What JSON has escaped comes out only here.
        return Pod.of(pod.body, document(json.loads(text)))
    except (ExecFailed, NotFound, ValueError) as error:
        return Pod.of(pod.body, None, str(error))


def all_asked(api: Api, pods: list[Pod]) -> tuple[list[Pod], Forbidden | None]:
    """With their own words; or as they were, and which permission is missing for more."""
    answers = []
    for pod in pods:
        try:
            answers.append(asked(api, pod))
        except Forbidden as missing:
            return pods, missing
    return answers, None


def active(pods: list[Pod]) -> Pod | None:
    """Of those that say they are, the one with the highest term is right."""
    return max((pod for pod in pods if pod.role == "active"), key=lambda pod: pod.term, default=None)
