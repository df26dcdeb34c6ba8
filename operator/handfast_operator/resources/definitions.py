"""What is installed for the two kinds: their CRDs, and the roles that view, edit and admin gain."""

from __future__ import annotations

from typing import Any

from . import GROUP, VERSION
from .fields import Model
from .peer import Peer
from .schema import Schema, structural
from .tunnel import Tunnel

Object = dict[str, Any]


def crds() -> list[Object]:
    tunnel = _crd(
        Tunnel,
        names={"kind": "Tunnel", "plural": "tunnels", "shortNames": ["hft"]},
        columns=[
            _condition("Ready"),
            _column("Endpoint", ".status.endpoint"),
            _column("Active", ".status.active.pod"),
            _column("Peers", ".status.peers.total", "integer"),
            _column("Connected", ".status.peers.connected", "integer"),
            _column("Public key", ".status.publicKey", priority=1),
            _column("Term", ".status.active.term", "integer", priority=1),
            _column("Free", ".status.pools[*].free", priority=1),
        ],
    )
    peer = _crd(
        Peer,
        names={"kind": "Peer", "plural": "peers", "shortNames": ["hfp"]},
        columns=[
            _column("Tunnel", ".spec.tunnelRef.name"),
            _column("Address", ".status.addresses[0]"),
            _condition("Ready"),
            _column("Connected", ".status.connected", "boolean"),
            _column("Public key", ".status.publicKey", priority=1),
            _column("Secret", ".status.secretName", priority=1),
            _column("Reason", '.status.conditions[?(@.type=="Ready")].reason', priority=1),
        ],
        selectable=[".spec.tunnelRef.name"],
    )
    return [tunnel, peer]


def roles() -> list[Object]:
    """Who may view anything may view both; who may edit, Peers; whoever administrates a namespace,
    Tunnels."""
    read, write = ["get", "list", "watch"], ["create", "delete", "deletecollection", "patch", "update"]
    return [
        _role("view", ["tunnels", "peers"], read),
        _role("edit", ["peers"], write),
        _role("admin", ["tunnels"], write),
    ]


def _crd(
    model: type[Model], names: Schema, columns: list[Schema], selectable: list[str] | None = None
) -> Object:
    singular = names["kind"].lower()
    age = _column("Age", ".metadata.creationTimestamp", "date")
    version: Object = {
        "name": VERSION,
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": _root(model)},
        "subresources": {"status": {}},
        "additionalPrinterColumns": [*columns, age],
    }
    if selectable:
        version["selectableFields"] = [{"jsonPath": path} for path in selectable]
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{names['plural']}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                **names,
                "singular": singular,
                "listKind": f"{names['kind']}List",
                "categories": ["handfast"],
            },
            "versions": [version],
        },
    }


def _root(model: type[Model]) -> Schema:
    schema = structural(model)
    common = {"apiVersion": {"type": "string"}, "kind": {"type": "string"}, "metadata": {"type": "object"}}
    # The status belongs to the operator: a default would be written by the API server, in nobody's name.
    schema["properties"]["status"] = _without_defaults(schema["properties"]["status"])
    return {**schema, "properties": {**common, **schema["properties"]}}


def _without_defaults(node: Any) -> Any:
    if isinstance(node, dict):
        return {name: _without_defaults(value) for name, value in node.items() if name != "default"}
    return [_without_defaults(value) for value in node] if isinstance(node, list) else node


def _column(name: str, path: str, type: str = "string", priority: int = 0) -> Schema:
    column: Schema = {"name": name, "type": type, "jsonPath": path}
    return {**column, "priority": priority} if priority else column


def _condition(name: str) -> Schema:
    return _column(name, f'.status.conditions[?(@.type=="{name}")].status')


def _role(verb: str, resources: list[str], verbs: list[str]) -> Object:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "ClusterRole",
        "metadata": {
            "name": f"handfast-{verb}",
            "labels": {f"rbac.authorization.k8s.io/aggregate-to-{verb}": "true"},
        },
        "rules": [{"apiGroups": [GROUP], "resources": resources, "verbs": verbs}],
    }
