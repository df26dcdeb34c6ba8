"""What the operator may do, by the roles that are bound to it, and what it has done, by the audit of it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from .api import Api, Object
from .cluster import Cluster
from .control_plane import AUDIT_LOG, AUDITED


@dataclass(frozen=True)
class Right:
    """One verb on one resource; everywhere (namespace: None) or in one namespace, maybe of some names."""

    group: str
    resource: str
    """With its subresource: tunnels/status."""
    verb: str
    namespace: str | None = None
    names: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Use:
    """One request, as the audit has it."""

    group: str
    resource: str
    verb: str
    namespace: str
    name: str
    allowed: bool

    def of(self, right: Right) -> bool:
        return (
            (self.group, self.resource, self.verb) == (right.group, right.resource, right.verb)
            and right.namespace in {None, self.namespace}
            and (not right.names or self.name in right.names)
        )


def granted(api: Api, account: str) -> set[Right]:
    """By all roles that are bound to a service account of the operator's namespace."""
    rights = set[Right]()
    for kind in ("ClusterRoleBinding", "RoleBinding"):
        for binding in api.everywhere(kind):
            subjects = [(each["kind"], each["name"]) for each in binding.get("subjects") or ()]
            if ("ServiceAccount", account) in subjects:
                where = binding["metadata"].get("namespace")
                reference = binding["roleRef"]
                role = Api(api.kubeconfig, where or "default")
                rights |= set(_rights(role.get(reference["kind"], reference["name"])["rules"], where))
                role.close()
    return rights


def _rights(rules: Iterable[Object], namespace: str | None) -> Iterable[Right]:
    for rule in rules:
        names = frozenset(rule.get("resourceNames") or ())
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield Right(group, resource, verb, namespace, names)


def audited(cluster: Cluster) -> int:
    """How far the audit has come."""
    return (cluster.control.log / AUDIT_LOG).stat().st_size


def used(cluster: Cluster, account: str, since: int = 0) -> set[Use]:
    """From there on; else since the cluster is there."""
    user = f"system:serviceaccount:{AUDITED}:{account}"
    with (cluster.control.log / AUDIT_LOG).open() as lines:
        lines.seek(since)
        events = (json.loads(line) for line in lines if line.endswith("\n"))
        ours = (each for each in events if each["user"]["username"] == user and "objectRef" in each)
        return {use for event in ours for use in _uses(event)}


def _uses(event: Any) -> Iterable[Use]:
    about = event["objectRef"]
    resource = "/".join(about[part] for part in ("resource", "subresource") if part in about)
    decision = event.get("annotations", {}).get("authorization.k8s.io/decision")
    verbs = [event["verb"]]
    # An apply that makes something needs both rights; it is audited as the one.
    if event["verb"] == "patch" and event["responseStatus"]["code"] == HTTPStatus.CREATED:
        verbs.append("create")
    for verb in verbs:
        yield Use(
            about.get("apiGroup", ""),
            resource,
            verb,
            about.get("namespace", ""),
            about.get("name", ""),
            decision == "allow",
        )
