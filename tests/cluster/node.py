"""A node: containerd, kubelet and kube-proxy on a machine of their own, as they are on any other."""

from __future__ import annotations

import json
from collections.abc import Iterable

from tests.lab.namespaces import wait_until

from . import cgroups, network
from .built import program
from .certificates import Authority
from .control_plane import PKI, internal_server
from .images import PAUSE, Image
from .machines import STATE, Machine
from .settings import DNS, PODS, Settings, address

CONTAINERD_SOCKET = "/run/containerd/containerd.sock"
_CONTAINERD = f"""
version = 2
disabled_plugins = ["io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper"]
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{PAUSE}"
  # Without CAP_SYS_RESOURCE runc may not lower the score that it inherits.
  restrict_oom_score_adj = true
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/run/cni"
"""


def prepare(machine: Machine, settings: Settings, authority: Authority) -> None:
    """All that needs no API server: configuration, and containerd."""
    name = machine.name
    (settings.state / f"{name}.kubeconfig").write_text(authority.kubeconfig(name, internal_server()))
    proxy = settings.state / "kube-proxy.kubeconfig"
    proxy.write_text(authority.kubeconfig("kube-proxy", internal_server()))
    files = {
        "containerd.toml": _CONTAINERD,
        "kubelet.json": json.dumps(_kubelet(settings, name)),
        "kube-proxy.json": json.dumps(_proxy(settings, name)),
        "cni.conflist": json.dumps(_pod_network(name)),
    }
    for file, content in files.items():
        (settings.state / f"{name}-{file}").write_text(content)
    machine.run("install", "-D", f"{STATE}/{name}-cni.conflist", "/run/cni/pods.conflist")
    network.masquerade(machine)
    start_containerd(machine)


def start(machine: Machine) -> None:
    """Start the rest; the node is Ready a moment later."""
    start_kubelet(machine)
    start_proxy(machine)


def start_containerd(machine: Machine) -> None:
    machine.daemon("containerd", "/usr/bin/containerd", "--config", f"{STATE}/{machine.name}-containerd.toml")
    wait_until(lambda: ctr(machine, "version", check=False), 20, f"containerd; see {machine.log}", 0.05)


def start_kubelet(machine: Machine) -> None:
    own = address(machine.name)
    options = [
        f"--config={STATE}/{machine.name}-kubelet.json",
        f"--kubeconfig={STATE}/{machine.name}.kubeconfig",
        f"--hostname-override={machine.name}",
        f"--node-ip={own.ipv4},{own.ipv6}",
        "--root-dir=/var/lib/kubelet",
    ]
    machine.daemon("kubelet", str(program("kubelet")), *options)


def start_proxy(machine: Machine) -> None:
    options = f"--config={STATE}/{machine.name}-kube-proxy.json"
    machine.daemon("kube-proxy", str(program("kube-proxy")), options)


def ctr(machine: Machine, *arguments: str, check: bool = True, timeout: float = 120) -> bool:
    """Talk to containerd as the kubelet's images and containers are kept in it."""
    command = ["ctr", "--namespace", "k8s.io", *arguments]
    if check:
        machine.run(*command, timeout=timeout)
        return True
    return machine.attempt(*command, timeout=timeout).returncode == 0


def load_images(machine: Machine, images: Iterable[Image]) -> None:
    """Give the node images from files on the host."""
    for image in images:
        ctr(machine, "images", "import", str(image.archive))
        for name in image.names[1:]:
            ctr(machine, "images", "tag", image.names[0], name)


def _kubelet(settings: Settings, name: str) -> dict[str, object]:
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{PKI}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{cgroups.cluster_group(settings.name)}/{name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        "containerRuntimeEndpoint": f"unix://{CONTAINERD_SOCKET}",
        "clusterDNS": [DNS],
        "clusterDomain": "cluster.local",
        "resolvConf": "",
        "oomScoreAdj": 0,  # It may not lower its own either.
        # The disk is the host's, and so is the memory: neither is a reason to evict pods or remove images.
        "imageGCHighThresholdPercent": 100,
        "imageGCLowThresholdPercent": 99,
        "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "imagefs.available": "0%"},
        # Twice as many tests an hour: a container that ends is restarted after 1 s, not 10, 20, 40 ... 300.
        "featureGates": {"KubeletCrashLoopBackOffMax": True},
        "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
        "nodeStatusUpdateFrequency": "1s",
        "nodeStatusReportFrequency": "1s",
        "nodeLeaseDurationSeconds": 4,
        "syncFrequency": "10s",
        "registryPullQPS": 0,
        "eventRecordQPS": 0,
        "maxPods": 200,
        "enforceNodeAllocatable": ["pods"],
    }


def _proxy(settings: Settings, name: str) -> dict[str, object]:
    return {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "mode": settings.proxy,
        "hostnameOverride": name,
        "clusterCIDR": ",".join(PODS),
        "clientConnection": {"kubeconfig": f"{STATE}/kube-proxy.kubeconfig"},
        "oomScoreAdj": 0,
        # These limits are the host's; a namespace may not set them.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "nodePortAddresses": ["primary"],
    }


def _pod_network(name: str) -> dict[str, object]:
    # Not `bridge`: routed pods need nothing of br_netfilter.
    ranges = [[{"subnet": subnet}] for subnet in address(name).pods]
    routes = [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}]
    pods = {
        "type": "ptp",
        "ipMasq": False,
        "mtu": 1500,
        "ipam": {"type": "host-local", "dataDir": "/run/cni/addresses", "ranges": ranges, "routes": routes},
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    return {"cniVersion": "0.4.0", "name": "pods", "plugins": [pods, ports]}
