"""What goes wrong, in a sentence that says what to do; the first line stands by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final, Self

from .plain import lines


class PluginError(Exception):
    """Printed as it is, whoever said it; the command ends with exit status 1."""

    def __init__(self, text: str) -> None:
        super().__init__(lines(text))


class UsageError(PluginError):
    """The command line asks for what cannot be: exit status 2."""


class NotFound(PluginError):
    """There is no such object, or no such kind."""


class ExecFailed(PluginError):
    """A container did not do what it was asked."""


class Unreachable(PluginError):
    """Nobody answers where the kubeconfig says the API server is."""

    def __init__(self, server: str, source: str, why: str) -> None:
        super().__init__(
            f"no answer from the API server {server}: {why}\n"
            f"It is named by {source}. Is the cluster up, and is this the one that you mean (--context)?"
        )


@dataclass(frozen=True, slots=True)
class Right:
    """One verb on one resource, in a namespace or, without one, in the whole cluster."""

    verb: str
    resource: str
    """With its group, if it has one, as kubectl writes it: tunnels.handfast.dev."""
    namespace: str = ""

    def __str__(self) -> str:
        where = f"in namespace {self.namespace}" if self.namespace else "in all of the cluster"
        return f"{self.verb} {self.resource} {where}"


_SAID: Final = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)"'
    r' in API group "(?P<group>[^"]*)"'
    r'(?: in the namespace "(?P<namespace>[^"]*)"| at the cluster scope)?'
)
_ACCOUNT: Final = "system:serviceaccount:"
_NOT_VIEWED: Final = frozenset({"secrets", "pods/exec"})
_WHOLE_CLUSTERS: Final = frozenset(
    {
        "customresourcedefinitions.apiextensions.k8s.io",
        "mutatingwebhookconfigurations.admissionregistration.k8s.io",
    }
)


class Forbidden(PluginError):
    """A permission is missing: which one, whose, and who could give it."""

    def __init__(self, right: Right | None, user: str, said: str) -> None:
        self.right, self.user = right, user
        super().__init__(said if right is None else f"{user} may not {right}\n{_remedy(right, user)}")

    @classmethod
    def of(cls, said: str) -> Self:
        """From the API server's own sentence; where it is another authorizer's, that sentence stands."""
        found = _SAID.search(said)
        if found is None:
            return cls(None, "", f"forbidden: {said}")
        group = f".{found['group']}" if found["group"] else ""
        right = Right(found["verb"], f"{found['resource']}{group}", found["namespace"] or "")
        return cls(right, found["user"], said)

    @property
    def missing(self) -> str:
        """On one line."""
        return str(self.right) if self.right else str(self)


def _remedy(right: Right, user: str) -> str:
    role = _role(right)
    name, kind = f"handfast-{role}", "rolebinding" if right.namespace else "clusterrolebinding"
    who = f"--user={user}"
    if user.startswith(_ACCOUNT):
        who = f"--serviceaccount={user.removeprefix(_ACCOUNT)}"
    where = f" --namespace={right.namespace}" if right.namespace else ""
    command = f"kubectl create {kind} {name} --clusterrole={role} {who}{where}"
    return f"The role {role} has that permission; whoever administrates it gives it to you with\n  {command}"


def _role(right: Right) -> str:
    """The least of the roles that every cluster has."""
    if right.resource in _WHOLE_CLUSTERS:
        return "cluster-admin"
    if right.verb in {"get", "list", "watch"} and right.resource not in _NOT_VIEWED:
        return "view"
    return "admin" if right.resource == "tunnels.handfast.dev" else "edit"
