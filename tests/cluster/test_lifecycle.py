"""How containers and pods begin, end and are replaced: the ground that handovers stand on."""

from __future__ import annotations

import json
import time
from pathlib import Path

from tests.lab.namespaces import wait_until

from .api import Api, Object, is_ready
from .cluster import Cluster
from .objects import WORKLOAD_2, container, deployment, pod
from .programs_of_people import helm

_NOTE = ["python3", "/workload.py", "note"]


def hook(*commands: list[str]) -> Object:
    """A preStop hook of these commands, one after the other."""
    line = " && ".join(" ".join(command) for command in commands)
    return {"preStop": {"exec": {"command": ["sh", "-c", line]}}}


def status_of(found: Object, name: str) -> Object:
    status = found["status"]
    every = [*status.get("initContainerStatuses", []), *status["containerStatuses"]]
    return next(dict(each) for each in every if each["name"] == name)


def wait_restarted(api: Api, name: str, part: str, times: int) -> Object:
    def restarted(found: Object) -> bool:
        return bool(status_of(found, part)["restartCount"] == times) and is_ready(found)

    return api.wait("Pod", name, restarted, what=f"restart number {times} of {part}")


def noted(logs: str) -> dict[str, float]:
    """What a container noted, and when."""
    lines = [line.split() for line in logs.splitlines()]
    return {word: float(moment) for moment, word in lines}


def test_the_order_of_an_end(api: Api) -> None:
    """Both hooks at once; then the app's SIGTERM; the sidecar's only when the app has exited."""
    app = container("app", linger=0.5, lifecycle=hook([*_NOTE, "hook"], ["sleep", "2"]))
    side = container("side", args=["idle"], lifecycle=hook([*_NOTE, "hook"]), restartPolicy="Always")
    api.apply(pod("ending", app, initContainers=[side], grace=30))
    api.wait_ready("ending")
    with api.followed_logs("ending", "app") as of_app, api.followed_logs("ending", "side") as of_side:
        api.delete("Pod", "ending")
        api.wait_gone("Pod", "ending", 30)
        app_did, side_did = noted(of_app()), noted(of_side())
    assert app_did["hook"] < app_did["SIGTERM"] < app_did["exit"] < side_did["SIGTERM"] < side_did["exit"]
    # The sidecar's hook did not wait for the app's, which takes two seconds.
    assert side_did["hook"] < app_did["SIGTERM"]
    assert app_did["SIGTERM"] - app_did["hook"] >= 2


def test_a_patch_of_an_image_restarts_one_container(api: Api) -> None:
    """In place: same pod, same address, and the neighbour does not notice."""
    side = container("side", args=["idle"], restartPolicy="Always")
    api.apply(pod("patched", container("one"), initContainers=[side]))
    api.wait_ready("patched")
    before = api.get("Pod", "patched")
    api.patch("Pod", "patched", {"spec": {"initContainers": [{"name": "side", "image": WORKLOAD_2}]}})
    after = wait_restarted(api, "patched", "side", 1)
    assert status_of(after, "side")["containerID"] != status_of(before, "side")["containerID"]
    assert after["metadata"]["uid"] == before["metadata"]["uid"]
    assert after["status"]["podIP"] == before["status"]["podIP"]
    assert status_of(after, "one")["containerID"] == status_of(before, "one")["containerID"]


def test_a_rollout_replaces_pods_new_ones_first(api: Api, machines: Cluster) -> None:
    api.apply(deployment("rolled", container()))
    options = ("--namespace", api.namespace, "deployment/rolled")
    machines.kubectl("rollout", "status", *options, "--timeout=60s", timeout=70)
    (old,) = api.list("Pod", "app=rolled")
    machines.kubectl("set", "image", *options, f"main={WORKLOAD_2}")
    machines.kubectl("rollout", "status", *options, "--timeout=60s", timeout=70)
    api.wait_gone("Pod", old["metadata"]["name"])
    (new,) = api.list("Pod", "app=rolled")
    assert new["spec"]["containers"][0]["image"] == WORKLOAD_2
    assert is_ready(new)


def test_killed_containers_are_back_within_a_second_or_two(api: Api, machines: Cluster) -> None:
    """The back-off of tests; by default the second restart waits 10 s, the third 20 s."""
    api.apply(pod("killed"))
    api.wait_ready("killed")
    began = time.monotonic()
    for count in (1, 2, 3):
        found = api.get("Pod", "killed")
        container_id = status_of(found, "main")["containerID"].removeprefix("containerd://")
        node = machines.machines[found["spec"]["nodeName"]]
        node.run("ctr", "--namespace", "k8s.io", "tasks", "kill", "--signal", "SIGKILL", container_id)
        back = wait_restarted(api, "killed", "main", count)
        assert back["status"]["podIP"] == found["status"]["podIP"]
    assert time.monotonic() - began < 10 + 20


def test_helm_installs_and_waits(api: Api, kubeconfig: Path, tmp_path: Path) -> None:
    chart = tmp_path / "chart"
    (chart / "templates").mkdir(parents=True)
    (chart / "Chart.yaml").write_text(
        'apiVersion: v2\nname: probe\nversion: 0.1.0\nkubeVersion: ">=1.36.0"\n'
    )
    (chart / "templates" / "all.yaml").write_text(json.dumps(deployment("installed", container())))
    helm(kubeconfig, tmp_path, "install", "probe", str(chart), "--namespace", api.namespace, "--wait")
    (installed,) = api.list("Pod", "app=installed")
    assert is_ready(installed)
    helm(kubeconfig, tmp_path, "uninstall", "probe", "--namespace", api.namespace)
    wait_until(lambda: not api.list("Deployment"), 20, "the end of what was installed")
