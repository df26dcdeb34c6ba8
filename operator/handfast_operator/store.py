"""The one module that talks to the API server: plain dicts in and out, and every write in one place."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
from kubernetes.aio import client, config
from kubernetes.aio.client.exceptions import ApiException
from kubernetes.aio.dynamic import DynamicClient
from kubernetes.aio.dynamic.exceptions import ConflictError, DynamicApiError, NotFoundError
from kubernetes.aio.dynamic.resource import Resource

from .names import MANAGER, is_name
from .resources import API_VERSION

Object = dict[str, Any]

ANSWER_SECONDS: Final = 10.0
"""A call that takes longer is repeated by whoever made it: nobody waits for a server that is gone."""
_PLURALS: Final = {
    ("v1", "Event"): "events",
    ("v1", "Namespace"): "namespaces",
    ("v1", "Node"): "nodes",
    ("v1", "Pod"): "pods",
    ("v1", "Secret"): "secrets",
    ("v1", "Service"): "services",
    ("admissionregistration.k8s.io/v1", "MutatingWebhookConfiguration"): "mutatingwebhookconfigurations",
    ("apps/v1", "Deployment"): "deployments",
    ("apps/v1", "ReplicaSet"): "replicasets",
    ("apps/v1", "StatefulSet"): "statefulsets",
    ("batch/v1", "Job"): "jobs",
    ("coordination.k8s.io/v1", "Lease"): "leases",
    ("networking.k8s.io/v1", "NetworkPolicy"): "networkpolicies",
    ("policy/v1", "PodDisruptionBudget"): "poddisruptionbudgets",
    (API_VERSION, "Peer"): "peers",
    (API_VERSION, "Tunnel"): "tunnels",
}
_OF_THE_CLUSTER: Final = {"MutatingWebhookConfiguration", "Namespace", "Node"}
_MERGE: Final = "application/merge-patch+json"
_METADATA: Final = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1"
_STRATEGIC: Final = "application/strategic-merge-patch+json"

Conflict = ConflictError
Failure = DynamicApiError


class Store:
    """Use as an async context manager."""

    def __init__(self, configuration: client.Configuration) -> None:
        self._api = client.ApiClient(configuration)
        # What it needs of the API is known: nothing is discovered.
        self._dynamic: Any = DynamicClient(self._api)  # type: ignore[no-untyped-call]
        self._resources = {
            (api, kind): _resource(self._dynamic, api, kind, plural)
            for (api, kind), plural in _PLURALS.items()
        }
        self.calls = 0
        self.errors = 0

    async def __aenter__(self) -> Store:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._api.close()  # type: ignore[no-untyped-call]

    async def get(self, api: str, kind: str, namespace: str | None, name: str) -> Object | None:
        if not is_name(name):
            return None
        try:
            return await self._call("get", self._resources[api, kind], name=name, namespace=namespace)
        except NotFoundError:
            return None

    async def list(
        self, api: str, kind: str, namespace: str, labels: str = "", fields: str = ""
    ) -> list[Object]:
        """All that these selectors choose."""
        found = await self._call(
            "get",
            self._resources[api, kind],
            namespace=namespace,
            label_selector=labels or None,
            field_selector=fields or None,
        )
        items: list[Object] = found["items"]
        return items

    async def create(self, body: Object) -> Object:
        """Raises Conflict where there is one of this name."""
        resource, namespace, _ = self._address(body)
        return await self._call("create", resource, body=body, namespace=namespace, field_manager=MANAGER)

    async def apply(self, body: Object, manager: str = MANAGER) -> Object:
        resource, namespace, name = self._address(body)
        return await self._call(
            "server_side_apply",
            resource,
            body=body,
            name=name,
            namespace=namespace,
            field_manager=manager,
            force_conflicts=True,
        )

    async def apply_status(self, kind: str, namespace: str, name: str, status: Object) -> Object | None:
        """None where the object is gone."""
        parent = self._resources[API_VERSION, kind]
        body = {
            "apiVersion": API_VERSION,
            "kind": kind,
            "metadata": {"name": name, "namespace": namespace},
            "status": status,
        }
        # Apply would create an object that is gone, were it not for the subresource.
        path = f"{parent.path(name=name, namespace=namespace)}/status"
        try:
            return await self._request(
                "patch",
                path,
                body=body,
                content_type="application/apply-patch+yaml",
                field_manager=MANAGER,
                force_conflicts=True,
            )
        except NotFoundError:
            return None

    async def merge(
        self, api: str, kind: str, namespace: str | None, name: str, patch: Object, manager: str = MANAGER
    ) -> Object | None:
        """None where it is gone. With a resourceVersion in `patch`: raises Conflict where it has changed
        since."""
        where = (self._resources[api, kind], namespace, name)
        return await self._patch(*where, patch, content_type=_MERGE, field_manager=manager)

    async def merge_large(
        self, api: str, kind: str, namespace: str, name: str, patch: Object
    ) -> Object | None:
        """As `merge`, but only the metadata come back: a megabyte need not travel twice."""
        where = (self._resources[api, kind], namespace, name)
        how: Any = {"content_type": _MERGE, "field_manager": MANAGER, "header_params": {"Accept": _METADATA}}
        return await self._patch(*where, patch, **how)

    async def merge_lists(
        self, api: str, kind: str, namespace: str, name: str, patch: Object
    ) -> Object | None:
        """A strategic merge: elements of lists are found by their names. None where it is gone."""
        where = (self._resources[api, kind], namespace, name)
        return await self._patch(*where, patch, content_type=_STRATEGIC, field_manager=MANAGER)

    async def _patch(
        self, resource: Any, namespace: str | None, name: str, patch: Object, **how: Any
    ) -> Object | None:
        try:
            return await self._call("patch", resource, body=patch, name=name, namespace=namespace, **how)
        except NotFoundError:
            return None

    async def delete(self, api: str, kind: str, namespace: str, name: str) -> None:
        try:
            await self._call("delete", self._resources[api, kind], name=name, namespace=namespace)
        except NotFoundError:
            return

    def _address(self, body: Object) -> tuple[Any, str, str]:
        meta = body["metadata"]
        return self._resources[body["apiVersion"], body["kind"]], meta["namespace"], meta.get("name", "")

    async def _call(self, verb: str, resource: Any, **arguments: Any) -> Object:
        return await self._counted(
            getattr(self._dynamic, verb)(
                resource, serialize=False, _request_timeout=ANSWER_SECONDS, **arguments
            )
        )

    async def _request(self, method: str, path: str, **arguments: Any) -> Object:
        return await self._counted(
            self._dynamic.request(method, path, serialize=False, _request_timeout=ANSWER_SECONDS, **arguments)
        )

    async def _counted(self, call: Any) -> Object:
        self.calls += 1
        try:
            response = await call
            answer: Object = await response.json()
        except NotFoundError:
            raise
        except DynamicApiError:
            self.errors += 1
            raise
        except aiohttp.ClientError as error:
            self.errors += 1
            raise ConnectionError(f"the API server: {error}") from error
        return answer


def in_short(error: Exception) -> str:
    """On one line: what the API server has said, where it has."""
    if isinstance(error, ApiException):
        return f"{error.status} {error.reason}: {str(error.body)[:300]}"
    return f"{type(error).__name__}: {error}"


async def configuration() -> client.Configuration:
    """That of the pod's service account, or of KUBECONFIG."""
    made = client.Configuration()
    try:
        config.load_incluster_config(client_configuration=made)  # type: ignore[no-untyped-call]
    except config.ConfigException:
        await config.load_kube_config(client_configuration=made)  # type: ignore[no-untyped-call]
    return made


def secret_values(secret: Mapping[str, Any]) -> dict[str, str]:
    """What a Secret holds, as text; what is not text is left out."""
    values = {}
    for name, encoded in (secret.get("data") or {}).items():
        try:
            values[name] = base64.b64decode(encoded).decode()
        except ValueError:
            continue
    return values


def _resource(dynamic: Any, api: str, kind: str, plural: str) -> Any:
    group, _, version = api.rpartition("/")
    return Resource(  # type: ignore[no-untyped-call]
        prefix="apis" if group else "api",
        group=group,
        api_version=version,
        kind=kind,
        namespaced=kind not in _OF_THE_CLUSTER,
        verbs=[],
        name=plural,
        client=dynamic,
    )
