"""`kubectl handfast purge`: what an uninstalled Handfast leaves, so that no client is lost by accident."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from .api import Api
from .kinds import AUTHORITY_SECRET, GROUP, OPERATOR_SELECTOR, PART_OF, TUNNEL_LABEL, Object, key_secret
from .screen import NOTHING, Column, Screen, table

_CRDS: Final = (f"peers.{GROUP}", f"tunnels.{GROUP}")
_COLUMNS: Final = (
    Column("NAMESPACE", least=9),
    Column("WHAT"),
    Column("NAME", least=12),
    Column("WHY", least=20),
)
_WHAT: Final = {
    "customresourcedefinitions": "CustomResourceDefinition",
    "mutatingwebhookconfigurations": "MutatingWebhookConfiguration",
    "secrets": "Secret",
}


@dataclass(frozen=True, slots=True)
class Leftover:
    plural: str
    namespace: str | None
    name: str
    why: str


@dataclass(frozen=True, slots=True)
class Facts:
    operators: int
    """Deployments of operators, in any namespace."""
    tunnels: Sequence[Object]
    secrets: Sequence[Object]
    """With a Tunnel's label."""
    crds: Sequence[str] = ()
    webhooks: Sequence[str] = ()
    authorities: Sequence[Object] = ()


def gather(api: Api, namespace: str | None) -> Facts:
    """Namespace None: all, and what belongs to none."""
    from .errors import NotFound

    operators = len(api.list("deployments", None, labels=OPERATOR_SELECTOR))
    secrets = api.list("secrets", namespace, labels=TUNNEL_LABEL)
    try:
        tunnels = api.list("tunnels", namespace)
    except NotFound:
        tunnels = []
    if namespace is not None:
        return Facts(operators, tunnels, secrets)
    return Facts(
        operators,
        tunnels,
        secrets,
        [name for name in _CRDS if api.find("customresourcedefinitions", None, name)],
        [
            each["metadata"]["name"]
            for each in api.list("mutatingwebhookconfigurations", None, labels=PART_OF)
        ],
        api.list("secrets", None, fields=f"metadata.name={AUTHORITY_SECRET}"),
    )


def leftovers(facts: Facts) -> list[Leftover]:
    """In the order in which they go. While an operator is installed, only what no Tunnel needs any more."""
    there = {(each["metadata"]["namespace"], each["metadata"]["name"]) for each in facts.tunnels}
    found: list[Leftover] = []
    going = not facts.operators and bool(facts.crds)
    if not facts.operators:
        found += [
            Leftover("mutatingwebhookconfigurations", None, name, "nobody answers it: pods are refused")
            for name in facts.webhooks
        ]
        found += [
            Leftover("customresourcedefinitions", None, name, _kind(facts, name)) for name in facts.crds
        ]
    for secret in facts.secrets:
        meta = secret["metadata"]
        key = meta["namespace"], meta["labels"][TUNNEL_LABEL]
        if going or key not in there:
            found.append(Leftover("secrets", *_place(secret), _secret(key[1], meta["name"])))
    if not facts.operators:
        found += [
            Leftover("secrets", *_place(each), "the authority of operator and pods")
            for each in facts.authorities
        ]
    return found


def _place(secret: Object) -> tuple[str, str]:
    return secret["metadata"]["namespace"], secret["metadata"]["name"]


def _kind(facts: Facts, name: str) -> str:
    count = len(facts.tunnels)
    if name != _CRDS[1] or not count:
        return "with all of its kind"
    return f"with {count} Tunnel{'s' if count > 1 else ''}, whose gateways end"


def _secret(tunnel: str, name: str) -> str:
    if name == key_secret(tunnel):
        return f"the key of Tunnel {tunnel}: its clients need new files"
    return f"of Tunnel {tunnel}"


def show(found: Sequence[Leftover], screen: Screen) -> list[str]:
    rows = [[each.namespace or NOTHING, _WHAT[each.plural], each.name, each.why] for each in found]
    return table(_COLUMNS, rows, screen)


def as_json(found: Sequence[Leftover], *, deleted: bool) -> Object:
    return {
        "leftovers": [
            {"kind": _WHAT[each.plural], "namespace": each.namespace, "name": each.name, "why": each.why}
            for each in found
        ],
        "deleted": deleted,
    }


def remove(api: Api, found: Sequence[Leftover]) -> None:
    for each in found:
        api.delete(each.plural, each.namespace, each.name)
