"""The API server as tests use it: apply, wait, exec, logs; on the official client, in one namespace."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from kubernetes import client, config, dynamic, stream
from kubernetes.client.exceptions import ApiException
from kubernetes.dynamic.exceptions import ConflictError, NotFoundError

from tests.lab.namespaces import wait_until

Object = dict[str, Any]
"""A Kubernetes object, or a part of one, as in YAML."""
_MANAGER = "handfast-tests"


class ExecError(Exception):
    """A command in a container failed."""


class Api:
    """What a test does with one namespace of a cluster, and with what belongs to none."""

    def __init__(self, kubeconfig: Path, namespace: str = "default") -> None:
        self.kubeconfig, self.namespace = kubeconfig, namespace
        self._client = config.new_client_from_config(str(kubeconfig))  # type: ignore[no-untyped-call]
        # What the client knows of the server's kinds goes into a file; by default one in /tmp that stays.
        self._folder = TemporaryDirectory(prefix="handfast-api-")
        kinds = f"{self._folder.name}/kinds"
        self._dynamic = dynamic.DynamicClient(self._client, cache_file=kinds)  # type: ignore[no-untyped-call]
        self.core = client.CoreV1Api(self._client)

    def close(self) -> None:
        self._client.close()
        self._client.rest_client.pool_manager.clear()
        self._folder.cleanup()

    def create_namespace(self) -> None:
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}})
        # Without its service account no pod is admitted.
        self.wait("ServiceAccount", "default", lambda _: True)

    def delete_namespace(self) -> None:
        """Pods end at once: nobody has to take leave of a test's."""
        with suppress(ApiException):
            self.core.delete_collection_namespaced_pod(self.namespace, grace_period_seconds=0)
        self.delete("Namespace", self.namespace)

    def apply(self, *objects: Object) -> None:
        """Server-side apply, forced."""
        for each in objects:
            self._resource(each["kind"], each["apiVersion"]).server_side_apply(
                body=each,
                name=each["metadata"]["name"],
                namespace=each["metadata"].get("namespace", self.namespace),
                field_manager=_MANAGER,
                force_conflicts=True,
            )

    def get(self, kind: str, name: str) -> Object:
        """One object; raises NotFoundError."""
        found: Object = self._resource(kind).get(name=name, namespace=self.namespace).to_dict()
        return found

    def find(self, kind: str, name: str) -> Object | None:
        with suppress(NotFoundError):
            return self.get(kind, name)
        return None

    def everywhere(self, kind: str) -> list[Object]:
        items: list[Object] = self._resource(kind).get().to_dict()["items"]
        return items

    def pages(self, kind: str, size: int = 500) -> Iterator[Object]:
        """All of a kind: ten thousand at once may take a busy server longer than it allows itself."""
        following = None
        while following != "":
            found = self._resource(kind).get(namespace=self.namespace, limit=size, _continue=following)
            page = found.to_dict()
            yield from page["items"]
            following = page["metadata"].get("continue", "")

    def list(self, kind: str, selector: str = "") -> list[Object]:
        found = self._resource(kind).get(namespace=self.namespace, label_selector=selector)
        items: list[Object] = found.to_dict()["items"]
        return items

    def patch(self, kind: str, name: str, change: Object, *, subresource: str = "") -> None:
        """A strategic merge patch."""
        resource = self._resource(kind)
        target = resource.subresources[subresource] if subresource else resource
        target.patch(
            body=change,
            name=name,
            namespace=self.namespace,
            content_type="application/strategic-merge-patch+json",
        )

    def delete(self, kind: str, name: str, grace: int | None = None) -> None:
        """Begin to delete; gone already is well, too."""
        with suppress(NotFoundError, ConflictError):
            options = {} if grace is None else {"grace_period_seconds": grace}
            self._resource(kind).delete(name=name, namespace=self.namespace, **options)

    def wait(
        self, kind: str, name: str, condition: Callable[[Object], object], timeout: float = 60, what: str = ""
    ) -> Object:
        """Wait until the object is there and `condition` holds for it."""
        latest: Object | None = None

        def holds() -> bool:
            nonlocal latest
            latest = self.find(kind, name)
            return latest is not None and bool(condition(latest))

        wait_until(holds, timeout, what or f"{kind} {name}", interval=0.1)
        assert latest is not None
        return latest

    def wait_gone(self, kind: str, name: str, timeout: float = 60) -> None:
        wait_until(lambda: self.find(kind, name) is None, timeout, f"the end of {kind} {name}", interval=0.1)

    def wait_ready(self, *pods: str, timeout: float = 60) -> None:
        for pod in pods:
            self.wait("Pod", pod, is_ready, timeout, f"the pod {pod} to be ready")

    def exec(self, pod: str, *command: str, container: str | None = None, timeout: float = 30) -> str:
        """Run a command in a container, to its end, and return what it wrote."""
        options = {"container": container} if container else {}
        line = stream.stream(
            self.core.connect_get_namespaced_pod_exec,
            pod,
            self.namespace,
            command=list(command),
            stdout=True,
            stderr=True,
            _preload_content=False,
            **options,
        )
        line.run_forever(timeout=timeout)
        written, complaints = str(line.read_stdout()), str(line.read_stderr())
        status = line.returncode
        line.close()
        # Where the server has said goodbye first, the client forgets to close.
        line.sock.shutdown()
        if status:
            raise ExecError(f"{pod}: {' '.join(command)}: {complaints or status}")
        return written

    def logs(self, pod: str, container: str) -> str:
        text: str = self.core.read_namespaced_pod_log(pod, self.namespace, container=container)
        return text

    @contextmanager
    def followed_logs(self, pod: str, container: str) -> Iterator[Callable[[], str]]:
        """Asked for now, and read when the container has ended: kubelet may have removed it by then."""
        response: Any = self.core.read_namespaced_pod_log(
            pod, self.namespace, container=container, follow=True, _preload_content=False
        )
        try:
            yield lambda: response.read().decode()
        finally:
            response.close()

    def report(self) -> str:
        """Events, and each container's log, for people who look for what went wrong."""
        lines = ["--- events"]
        for event in self.list("Event"):
            about = event["involvedObject"]
            lines.append(f"{event['lastTimestamp']} {about['kind']} {about['name']}: {event['message']}")
        for pod in self.list("Pod"):
            name = pod["metadata"]["name"]
            lines.append(f"--- {name}: {json.dumps(pod['status'].get('containerStatuses'))}")
            for container in [*pod["spec"].get("initContainers", []), *pod["spec"]["containers"]]:
                with suppress(ApiException):
                    lines += [f"--- {name} {container['name']}", self.logs(name, container["name"])[-3000:]]
        return "\n".join(lines)

    def _resource(self, kind: str, version: str | None = None) -> Any:
        versions = {"api_version": version} if version else {}
        # Some kinds exist in an old group as well.
        preferred = {"Event": "v1"} if not version else {}
        versions |= {"api_version": preferred[kind]} if kind in preferred else {}
        return self._dynamic.resources.get(kind=kind, **versions)


def is_ready(pod_or_node: Object) -> bool:
    """Has the object the condition Ready?"""
    return condition(pod_or_node, "Ready") == "True"


def condition(of: Object, kind: str) -> str | None:
    """The status of a condition: True, False or Unknown."""
    for each in of.get("status", {}).get("conditions") or []:
        if each["type"] == kind:
            return str(each["status"])
    return None
