"""The one module that talks to the API server: plain dicts out, and every failure as a sentence.

It reads kubeconfig files as kubectl does, through the official client, and passes its typed models by.
Nothing comes out of it that a terminal would take for a command: see `plain`.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

from . import plain
from .errors import ExecFailed, Forbidden, NotFound, PluginError, Unreachable
from .kinds import GROUP, Object, path

ANSWER_SECONDS: Final = 15.0
PAGE: Final = 500
"""Objects an answer."""
_DEFAULT: Final = "~/.kube/config"
_IN_CLUSTER: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


@dataclass(frozen=True, slots=True)
class Place:
    """Which cluster is meant, and who said so."""

    server: str
    source: str
    namespace: str
    """In which things are that are not said to be elsewhere."""


class Api:
    """Use as a context manager."""

    def __init__(self, client: Any, place: Place) -> None:
        self._client = client
        self.place = place

    def __enter__(self) -> Api:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()
        self._client.rest_client.pool_manager.clear()

    def get(self, plural: str, namespace: str | None, name: str) -> Object:
        return self.request("GET", path(plural, namespace, name))

    def find(self, plural: str, namespace: str | None, name: str) -> Object | None:
        try:
            return self.get(plural, namespace, name)
        except NotFound:
            return None

    def list(self, plural: str, namespace: str | None, *, labels: str = "", fields: str = "") -> list[Object]:
        found: list[Object] = []
        query = {"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields, "continue": ""}
        while True:
            page = self.request("GET", path(plural, namespace), {k: v for k, v in query.items() if v})
            found += page["items"]
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return found

    def annotate(self, plural: str, namespace: str, name: str, values: dict[str, str | None]) -> Object:
        """None takes an annotation away."""
        body: Object = {"metadata": {"annotations": values}}
        return self.request("PATCH", path(plural, namespace, name), body=body)

    def delete(self, plural: str, namespace: str | None, name: str) -> None:
        """Gone already is well, too."""
        try:
            self.request("DELETE", path(plural, namespace, name))
        except NotFound:
            return

    def log(self, namespace: str, pod: str, container: str, *, previous: bool) -> str:
        """The end of what a container said; empty where it never ran."""
        query = {"container": container, "tailLines": "20", "previous": str(previous).lower()}
        try:
            said = self._ask("GET", f"{path('pods', namespace, pod)}/log", query)
            return plain.lines(said.decode(errors="replace"))
        except (Forbidden, Unreachable):
            raise
        except PluginError:
            return ""

    def request(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Object | None = None
    ) -> Object:
        """Raises PluginError."""
        answer: Object = plain.document(json.loads(self._ask(method, path, query, body)))
        return answer

    def _ask(
        self, method: str, path: str, query: dict[str, str] | None = None, body: Object | None = None
    ) -> bytes:
        headers = {"Accept": "application/json, */*"}
        if body is not None:
            headers["Content-Type"] = "application/merge-patch+json"
        parameters = self._client.param_serialize(
            method,
            path,
            query_params=list((query or {}).items()),
            header_params=headers,
            body=body,
            auth_settings=["BearerToken"],
        )
        with self._reaching():
            response = self._client.call_api(*parameters, _request_timeout=ANSWER_SECONDS)
            text: bytes = response.read()
        if response.status >= HTTPStatus.BAD_REQUEST:
            raise _refused(response.status, _message(text), path)
        return text

    def exec(self, namespace: str, pod: str, container: str, command: Iterable[str]) -> str:
        """Run a command in a container to its end: what it wrote. Raises ExecFailed if it fails."""
        from kubernetes import client, stream
        from kubernetes.client.exceptions import ApiException
        from websocket import WebSocketException

        with self._reaching():
            try:
                line = stream.stream(
                    client.CoreV1Api(self._client).connect_get_namespaced_pod_exec,
                    pod,
                    namespace,
                    container=container,
                    command=list(command),
                    stdout=True,
                    stderr=True,
                    _preload_content=False,
                )
            except ApiException as error:
                raise _not_begun(error, pod) from None
            try:
                line.run_forever(timeout=ANSWER_SECONDS)
                written, complaints, status = _ended(line)
            except WebSocketException as error:
                raise ExecFailed(f"{pod}: {error}") from None
            finally:
                line.close()
                # Where the server has said goodbye first, the client forgets to close.
                line.sock.shutdown()
        if status != 0:
            raise ExecFailed(f"{pod}: {' '.join(command)}: {complaints.strip() or f'exit status {status}'}")
        return written

    @contextmanager
    def _reaching(self) -> Iterator[None]:
        from kubernetes.client.exceptions import ApiException
        from urllib3.exceptions import HTTPError

        try:
            yield
        except (HTTPError, OSError, ApiException) as error:
            raise Unreachable(self.place.server, self.place.source, reason(error)) from None


def _ended(line: Any) -> tuple[str, str, int | None]:
    """What a command wrote and complained about, and its exit status; None where the line was cut."""
    try:
        status = line.returncode
    except (TypeError, KeyError, ValueError):
        status = None
    return plain.lines(str(line.read_stdout())), plain.lines(str(line.read_stderr())), status


def connect(kubeconfig: str | None, context: str | None, namespace: str | None) -> Api:
    """As kubectl chooses: the command line, then KUBECONFIG, ~/.kube/config, and a pod's own account."""
    try:
        import websocket
        import yaml
        from kubernetes import client, config
    except ImportError as error:
        raise PluginError(f"{error.name} is missing: pip install 'handfast[plugin]'") from None
    websocket.setdefaulttimeout(ANSWER_SECONDS)
    configuration = client.Configuration()
    # A dead server is told at once, and once.
    configuration.retries = False
    file = _file(kubeconfig)
    try:
        if _is_pod(kubeconfig, context):
            config.load_incluster_config(client_configuration=configuration)  # type: ignore[no-untyped-call]
            source, own = "this pod's service account", _IN_CLUSTER.read_text().strip()
        else:
            config.load_kube_config(  # type: ignore[no-untyped-call]
                file, context, client_configuration=configuration
            )
            source, own = _described(file, context)
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise _no_cluster(file, error) from None
    place = Place(configuration.host, source, namespace or own or "default")
    return Api(client.ApiClient(configuration), place)


def contexts(kubeconfig: str | None) -> list[str]:
    """The names of those that there are."""
    import yaml
    from kubernetes import config

    file = _file(kubeconfig)
    try:
        known, _ = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    except (config.ConfigException, OSError, yaml.YAMLError) as error:
        raise _no_cluster(file, error) from None
    return [each["name"] for each in known]


def _file(kubeconfig: str | None) -> str:
    return kubeconfig or os.environ.get("KUBECONFIG") or _DEFAULT


def _no_cluster(file: str, error: Exception) -> PluginError:
    return PluginError(
        f"no cluster is known from {file}: {' '.join(str(error).split())}\n"
        "Name another file with --kubeconfig or KUBECONFIG, or another --context; "
        "`kubectl config get-contexts` lists them."
    )


def _is_pod(kubeconfig: str | None, context: str | None) -> bool:
    named = kubeconfig or context or os.environ.get("KUBECONFIG") or Path(_DEFAULT).expanduser().exists()
    return not named and "KUBERNETES_SERVICE_HOST" in os.environ and _IN_CLUSTER.exists()


def _described(file: str, context: str | None) -> tuple[str, str]:
    """Where the server's address is from, for people, and the context's namespace."""
    from kubernetes import config

    known, current = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    chosen = next(each for each in known if each["name"] == context) if context else current
    return f"context {chosen['name']} of {file}", chosen["context"].get("namespace") or ""


def reason(error: BaseException) -> str:
    """What the system said, without the layers around it."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, OSError) and seen.strerror:
            return seen.strerror.lower()
        seen = seen.__cause__ or seen.__context__
    text = str(getattr(error, "reason", None) or error)
    if "timed out" in text:
        return "no answer in time"
    return " ".join(text.split())


def _not_begun(error: BaseException, pod: str) -> PluginError:
    """Of an upgrade to a stream that was refused: the client tells a text, behind which is what it caught."""
    from websocket import WebSocketBadStatusException

    refused = error.__context__
    if not isinstance(refused, WebSocketBadStatusException):
        return ExecFailed(f"{pod}: {' '.join(str(getattr(error, 'reason', error)).split())}")
    return _refused(refused.status_code, _message(refused.resp_body or b""), f"pod {pod}", ExecFailed)


def _message(text: bytes) -> str:
    """Of the Status that a refusal is."""
    try:
        return plain.line(str(json.loads(text)["message"]))
    except (ValueError, KeyError, TypeError):
        return plain.line(text.decode(errors="replace").strip()[:300])


def _refused(status: int, message: str, path: str, other: type[PluginError] = PluginError) -> PluginError:
    match status:
        case HTTPStatus.UNAUTHORIZED:
            return PluginError(
                f"the API server does not know who you are: {message}\n"
                "Log in again, or choose another user with --context."
            )
        case HTTPStatus.FORBIDDEN:
            return Forbidden.of(message)
        case HTTPStatus.NOT_FOUND:
            if message.startswith(("the server could not find", "404 page")):
                return _no_kind(path)
            return NotFound(message)
    return other(f"the API server refuses: {message}" if other is PluginError else message)


def _no_kind(path: str) -> NotFound:
    if f"/{GROUP}/" not in path:
        return NotFound(f"the API server does not know {path}")
    return NotFound(
        "this cluster does not know Tunnels: the operator's CRDs are not installed\n"
        "Install them: helm install handfast charts/handfast --namespace handfast-system --create-namespace"
    )
