"""Debian's Prometheus beside a cluster, on the machine of its control plane.

It scrapes the pods that the chart's PodMonitors select. Debian builds it without Kubernetes as a source of
targets, so pods are listed here, under the names that it has for them there; what to keep of them, and under
which labels, it decides itself, by the rules that the Prometheus operator makes of a PodMonitor.
"""

from __future__ import annotations

import json
import tempfile
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final, Self

import yaml
from kubernetes.client.exceptions import ApiException

from tests.lab.namespaces import wait_until
from tests.lab.tools import ToolMissingError, cache_folder

from . import control_plane
from .api import Api, Object
from .cluster import Cluster
from .renders import monitoring

_LISTEN: Final = "127.0.0.1:9090"
_NAME: Final = "prometheus"
_LOOK: Final = 0.25
_ANSWER: Final = 30.0

Labels = dict[str, str]


def debian_program(name: str) -> Path:
    found = cache_folder() / "tools/prometheus-debian/usr/bin" / name
    if not found.exists():
        raise ToolMissingError(name, str(found.parent))
    return found


class Series:
    """One of an answer's: its labels, and its values by time."""

    def __init__(self, found: Any) -> None:
        self.labels: Labels = found["metric"]
        points = found["values"] if "values" in found else [found["value"]]
        self.points = [(float(at), float(value)) for at, value in points]

    @property
    def value(self) -> float:
        """The last one."""
        return self.points[-1][1]

    @property
    def numbers(self) -> list[float]:
        """Quantiles of nothing are no numbers."""
        return [value for _, value in self.points if value == value]  # noqa: PLR0124  NaN differs from itself


class Prometheus:
    """Of the pods of some namespaces; a context manager."""

    def __init__(
        self, cluster: Cluster, namespaces: Iterable[str], rules: Sequence[Object], interval: str = "1s"
    ) -> None:
        self._cluster, self._namespaces, self._interval = cluster, tuple(namespaces), interval
        self._rules = rules
        self._closing = ExitStack()
        self._port = 0

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _start(self) -> None:
        folder = Path(self._closing.enter_context(tempfile.TemporaryDirectory(prefix="handfast-prometheus-")))
        targets = folder / "targets.json"
        self._closing.enter_context(_Discovery(self._cluster, self._namespaces, targets))
        configuration = folder / "prometheus.yaml"
        configuration.write_text(yaml.safe_dump(self._configuration(folder, targets)))
        machine = self._cluster.control
        # In memory: nothing of it is there after the machine.
        storage = f"/run/{folder.name}"
        options = {"config.file": configuration, "storage.tsdb.path": storage, "web.listen-address": _LISTEN}
        arguments = [f"--{name}={value}" for name, value in options.items()]
        machine.daemon(_NAME, str(debian_program("prometheus")), *arguments, "--log.level=warn")
        self._closing.callback(machine.run, "rm", "-rf", storage)
        self._closing.callback(machine.stop, _NAME)
        self._port = control_plane.forward(machine, _LISTEN, f"{_NAME}-forward")
        self._closing.callback(machine.stop, f"{_NAME}-forward")
        wait_until(self._is_ready, 30, f"Prometheus; see {machine.log}", interval=0.1)

    def _configuration(self, folder: Path, targets: Path) -> Object:
        files = []
        for number, rules in enumerate(self._rules):
            path = folder / f"rules-{number}.yaml"
            path.write_text(yaml.safe_dump(rules))
            files.append(str(path))
        return {
            "global": {"scrape_interval": self._interval, "evaluation_interval": self._interval},
            "rule_files": files,
            "scrape_configs": [
                job
                for body in yaml.safe_load_all(
                    monitoring(f"--set=metrics.podMonitor.interval={self._interval}")
                )
                if body and body["kind"] == "PodMonitor"
                for job in scrape_configurations(body, targets)
            ],
        }

    @property
    def url(self) -> str:
        """Of its pages, on this machine."""
        return f"http://127.0.0.1:{self._port}"

    def _is_ready(self) -> bool:
        with suppress(OSError, ValueError):
            return bool(self._get("/api/v1/query", query="1"))
        return False

    def _get(self, path: str, **parameters: object) -> Any:
        encoded = urllib.parse.urlencode(parameters)
        url = f"{self.url}{path}?{encoded}"
        try:
            with urllib.request.urlopen(url, timeout=_ANSWER) as answer:  # noqa: S310  it is this one's own
                return json.load(answer)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{parameters}: {error.read().decode()}") from error

    def ask(self, expression: str) -> list[Series]:
        """As it is now."""
        return [Series(each) for each in self._get("/api/v1/query", query=expression)["result"]]

    def ask_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        found = self._get("/api/v1/query_range", query=expression, start=start, end=end, step=step)
        return [Series(each) for each in found["result"]]

    def label_values(self, series: str, label: str) -> list[str]:
        """As Grafana's variables ask for them."""
        found: list[str] = self._get(f"/api/v1/label/{label}/values", **{"match[]": series})
        return found

    def rules(self) -> list[Object]:
        """With what became of their evaluation."""
        return [rule for group in self._get("/api/v1/rules")["groups"] for rule in group["rules"]]

    def firing(self, **labels: str) -> set[str]:
        """The names of alerts with these labels that fire now."""
        chosen = "".join(f',{name}="{value}"' for name, value in labels.items())
        return {each.labels["alertname"] for each in self.ask(f'ALERTS{{alertstate="firing"{chosen}}}')}

    def wait_scraped(self, pods: Iterable[str], timeout: float = 60) -> None:
        wanted = set(pods)

        def scraped() -> set[str]:
            return {each.labels["pod"] for each in self.ask("up == 1")}

        wait_until(lambda: wanted <= scraped(), timeout, f"{sorted(wanted)} to be scraped", interval=0.2)

    def wait_for(self, expression: str, timeout: float = 60) -> None:
        """Until it has a value."""
        wait_until(lambda: self.ask(expression), timeout, expression, interval=0.2)


def scrape_configurations(monitor: Object, targets: Path) -> Iterable[Object]:
    """As the Prometheus operator makes them of a PodMonitor."""
    name, spec = monitor["metadata"]["name"], monitor["spec"]
    home = monitor["metadata"]["namespace"]
    for number, endpoint in enumerate(spec["podMetricsEndpoints"]):
        rules = [
            *_selection(spec, home),
            _keep("__meta_kubernetes_pod_container_port_name", endpoint["port"]),
            _copy("__meta_kubernetes_namespace", "namespace"),
            _copy("__meta_kubernetes_pod_container_name", "container"),
            _copy("__meta_kubernetes_pod_name", "pod"),
            {"target_label": "job", "replacement": f"{home}/{name}"},
            {"target_label": "endpoint", "replacement": endpoint["port"]},
            *({_in_snake_case(key): value for key, value in each.items()} for each in _own(endpoint)),
        ]
        yield {
            "job_name": f"podMonitor/{home}/{name}/{number}",
            "honor_labels": endpoint.get("honorLabels", False),
            "scrape_interval": endpoint["interval"],
            "scrape_timeout": endpoint["interval"],
            "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}],
            "relabel_configs": rules,
        }


def _selection(spec: Object, home: str) -> Iterable[Object]:
    yield _keep("__meta_kubernetes_pod_phase", "Running|Pending|Unknown")
    namespaces = spec.get("namespaceSelector", {"matchNames": [home]})
    if not namespaces.get("any"):
        yield _keep("__meta_kubernetes_namespace", "|".join(namespaces["matchNames"]))
    for label, value in spec["selector"].get("matchLabels", {}).items():
        yield _keep(_pod_label(label), value)
    for each in spec["selector"].get("matchExpressions", ()):
        assert each["operator"] == "Exists", each
        yield _keep(_pod_label(each["key"]), ".+")


def _own(endpoint: Object) -> Iterable[Object]:
    found: Iterable[Object] = endpoint.get("relabelings", ())
    return found


def _keep(label: str, pattern: str) -> Object:
    return {"action": "keep", "source_labels": [label], "regex": pattern}


def _copy(label: str, to: str) -> Object:
    return {"source_labels": [label], "target_label": to}


def _pod_label(name: str) -> str:
    return "__meta_kubernetes_pod_label_" + "".join(c if c.isalnum() else "_" for c in name)


def _in_snake_case(name: str) -> str:
    return "".join(f"_{letter.lower()}" if letter.isupper() else letter for letter in name)


class _Discovery(threading.Thread):
    """Keeps the file of targets: a port of a container of a pod is one; a context manager."""

    def __init__(self, cluster: Cluster, namespaces: Iterable[str], path: Path) -> None:
        super().__init__(name="discovery", daemon=True)
        # Their own: one client of the API serves one thread.
        self._apis = [Api(cluster.settings.kubeconfig, namespace) for namespace in namespaces]
        self._path = path
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        self._write()
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self.join()
        for api in self._apis:
            api.close()

    def run(self) -> None:
        while not self._ended.wait(_LOOK):
            # The API server may be what a test takes away.
            with suppress(ApiException, OSError):
                self._write()

    def _write(self) -> None:
        found = [target for api in self._apis for pod in api.list("Pod") for target in _targets(pod)]
        new = self._path.with_suffix(".new")
        new.write_text(json.dumps(found))
        new.rename(self._path)


def _targets(pod: Object) -> Iterable[Object]:
    address = pod["status"].get("podIP")
    spec = pod["spec"]
    for container in [*spec["containers"], *spec.get("initContainers", ())] if address else ():
        for port in container.get("ports") or ():
            labels = {
                "__meta_kubernetes_namespace": pod["metadata"]["namespace"],
                "__meta_kubernetes_pod_name": pod["metadata"]["name"],
                "__meta_kubernetes_pod_phase": pod["status"]["phase"],
                "__meta_kubernetes_pod_container_name": container["name"],
                "__meta_kubernetes_pod_container_port_name": port.get("name", ""),
            }
            own = {_pod_label(name): value for name, value in pod["metadata"].get("labels", {}).items()}
            yield {"targets": [f"{address}:{port['containerPort']}"], "labels": labels | own}
