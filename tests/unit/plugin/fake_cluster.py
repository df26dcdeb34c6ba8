"""An API server on loopback that knows a few objects, and pods that answer what they are told to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

from handfast_plugin.errors import ExecFailed, Forbidden, PluginError
from handfast_plugin.kinds import path

Object = dict[str, Any]
USER = "system:serviceaccount:vpn:nobody"
_KUBECONFIG = """\
apiVersion: v1
kind: Config
clusters: [{{name: lab, cluster: {{server: "{server}"}}}}]
users: [{{name: me, user: {{token: abc}}}}]
contexts: [{{name: lab, context: {{cluster: lab, user: me, namespace: vpn}}}}]
current-context: lab
"""


def write_kubeconfig(folder: Path, server: str) -> Path:
    file = folder / "kubeconfig"
    file.write_text(_KUBECONFIG.format(server=server))
    return file


@dataclass
class FakeCluster:
    objects: dict[str, Object] = field(default_factory=dict)
    """By their paths."""
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    """Verb and resource, as the API server says them: list pods."""
    said: dict[str, Any] = field(default_factory=dict)
    """By pod: what it says; an exception is raised."""
    logs: dict[tuple[str, str], str] = field(default_factory=dict)
    """By pod, and whether the former container's."""
    calls: list[str] = field(default_factory=list)
    """Method and path of all that changed something."""

    def add(self, plural: str, *bodies: Object) -> None:
        for body in bodies:
            meta = body["metadata"]
            self.objects[path(plural, meta.get("namespace"), meta["name"])] = body

    def body(self, plural: str, name: str) -> Object:
        return self.objects[path(plural, "vpn", name)]

    def exec(self, namespace: str, pod: str, _container: str, command: Iterable[str]) -> str:
        """In the place of `Api.exec`: a fake of the wire would be as long as what it tests."""
        self.calls.append(f"exec {pod} {' '.join(command)}")
        if ("create", "pods/exec") in self.forbidden:
            raise Forbidden.of(denial("create", "pods/exec", "", namespace))
        said = self.said.get(pod, ExecFailed(f"{pod}: nobody answers"))
        if isinstance(said, PluginError):
            raise said
        return said if isinstance(said, str) else json.dumps(said)

    # HTTP

    def answer(self, method: str, url: str, body: Object | None) -> tuple[int, Object | str]:
        parts = urlsplit(url)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        is_list = parts.path not in self.objects and method == "GET"
        verb = {"GET": "list" if is_list else "get", "PATCH": "patch", "DELETE": "delete"}[method]
        resource, group, namespace, name = _parsed(parts.path)
        if is_list and name:
            verb = "get"
        if (verb, resource) in self.forbidden:
            return 403, _status(denial(verb, resource, group, namespace))
        if method != "GET":
            self.calls.append(f"{method} {parts.path}")
        if parts.path.endswith("/log"):
            said = self.logs.get((name, query["previous"]))
            return (
                (200, said) if said is not None else (400, _status("previous terminated container not found"))
            )
        if parts.path == "/version":
            return 200, {"gitVersion": "v1.36.1"}
        if is_list and not name:
            return self._list(resource, namespace, query)
        if parts.path not in self.objects:
            return 404, _status(f'{resource}.{group} "{name}" not found')
        found = self.objects[parts.path]
        if method == "PATCH":
            annotations = found["metadata"].setdefault("annotations", {})
            annotations |= (body or {})["metadata"]["annotations"]
        if method == "DELETE":
            del self.objects[parts.path]
        return 200, found

    def _list(self, resource: str, namespace: str, query: dict[str, str]) -> tuple[int, Object]:
        found = [
            body
            for at, body in self.objects.items()
            if _parsed(at)[0] == resource and namespace in {"", _parsed(at)[2]} and _selected(body, query)
        ]
        return 200, {"items": found, "metadata": {}}


def denial(verb: str, resource: str, group: str, namespace: str) -> str:
    where = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
    return (
        f'{resource} is forbidden: User "{USER}" cannot {verb} resource "{resource}" '
        f'in API group "{group}" {where}'
    )


def _status(message: str) -> Object:
    return {"kind": "Status", "message": message}


def _parsed(where: str) -> tuple[str, str, str, str]:
    """Resource, group, namespace and name of a path."""
    words = where.strip("/").split("/")
    group = words[1] if words[0] == "apis" else ""
    rest = words[3:] if words[0] == "apis" else words[2:]
    namespace = ""
    if rest[:1] == ["namespaces"] and len(rest) > 2:
        namespace, rest = rest[1], rest[2:]
    resource, name = (*rest, "", "")[:2]
    return resource, group, namespace, name


def _selected(body: Object, query: dict[str, str]) -> bool:
    labels = body["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", "").split(",")):
        name, equals, value = term.partition("=")
        if name not in labels or (equals and labels[name] != value):
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        name, _, value = term.partition("=")
        found: Any = body
        for part in name.split("."):
            found = found.get(part, {})
        if found != value:
            return False
    return True


class _Handler(BaseHTTPRequestHandler):
    def __init__(self, cluster: FakeCluster, *rest: Any) -> None:
        self._cluster = cluster
        super().__init__(*rest)

    def _respond(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        status, answer = self._cluster.answer(self.command, self.path, body)
        text = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_PATCH = do_DELETE = _respond  # noqa: N815  the library's names

    def log_message(self, *_: object) -> None:
        """Tests look at what comes back."""


def serve(cluster: FakeCluster) -> tuple[ThreadingHTTPServer, Thread]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Handler, cluster))
    thread = Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    return server, thread
