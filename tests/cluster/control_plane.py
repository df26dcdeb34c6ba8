"""etcd, the API server, the controllers and the scheduler, on a machine of their own without a kubelet."""

from __future__ import annotations

import json
import socket

from tests.lab.namespaces import wait_until

from .built import program
from .certificates import Authority
from .machines import STATE, Machine
from .settings import API_PORT, API_SERVICE, CONTROL, PODS, SERVICES, Settings, address

PKI = f"{STATE}/pki"
AUDITED = "handfast-system"
"""Of what service accounts of this namespace ask, the API server writes down everything."""
AUDIT_LOG = "audit.log"
"""Among the machine's logs."""
# A node counts as lost 5 s after its last word, not 50 as by default: its pods' endpoints go then, and 300 s
# later, as by default, the pods themselves. The kubelet reports every second instead of every ten.
_GRACE = "5s"
_CLIENTS = {
    "admin": ("handfast-admin", ["system:masters"]),
    "apiserver-kubelet": ("kube-apiserver", ["system:masters"]),
    "kube-controller-manager": ("system:kube-controller-manager", []),
    "kube-scheduler": ("system:kube-scheduler", []),
    "kube-proxy": ("system:kube-proxy", []),
}


def make_certificates(settings: Settings) -> Authority:
    authority = Authority(settings.state / "pki")
    own = address(CONTROL)
    local = ["127.0.0.1", "localhost", own.ipv4, own.ipv6, API_SERVICE]
    names = [
        "kubernetes",
        "kubernetes.default",
        "kubernetes.default.svc",
        "kubernetes.default.svc.cluster.local",
    ]
    authority.issue("apiserver", "kube-apiserver", names=[*local, *names])
    authority.key_pair("service-accounts")
    for file, (user, groups) in _CLIENTS.items():
        authority.issue(file, user, groups)
    for node in settings.node_names:
        authority.issue(node, f"system:node:{node}", ["system:nodes"])
    return authority


def internal_server() -> str:
    return f"https://{address(CONTROL).ipv4}:{API_PORT}"


def start(machine: Machine, settings: Settings, authority: Authority) -> None:
    """Start everything and wait until the API server is ready."""
    for name in ("kube-controller-manager", "kube-scheduler"):
        (settings.state / f"{name}.kubeconfig").write_text(authority.kubeconfig(name, internal_server()))
    (settings.state / "etcd.json").write_text(json.dumps(_etcd()))
    (settings.state / "audit.json").write_text(json.dumps(_audit_policy()))
    machine.daemon("etcd", str(program("etcd")), f"{STATE}/etcd.json")
    start_api_server(machine)
    controllers = _controllers()
    if not settings.nodes:
        # Nothing would ever become of pods.
        controllers["controllers"] = (
            "namespace-controller,garbage-collector-controller,serviceaccount-controller"
        )
    machine.daemon("kube-controller-manager", str(program("kube-controller-manager")), *_options(controllers))
    if settings.nodes:
        machine.daemon("kube-scheduler", str(program("kube-scheduler")), *_options(_scheduler()))


def start_api_server(machine: Machine) -> None:
    """Start it and wait until it is ready."""
    machine.daemon("kube-apiserver", str(program("kube-apiserver")), *_options(_api_server()))
    wait_until(lambda: _ready(machine), 60, f"the API server; see {machine.log}", interval=0.1)


def forward(
    machine: Machine, target: str = f"{address(CONTROL).ipv4}:{API_PORT}", name: str = "forward"
) -> int:
    """Let the host reach the API server, or what else listens, at a port of 127.0.0.1; returns that."""
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        descriptor = listener.fileno()
        machine.daemon(name, str(program("forward")), str(descriptor), target, pass_fds=[descriptor])
        port: int = listener.getsockname()[1]
        return port


def _options(options: dict[str, object]) -> list[str]:
    return [f"--{name}={value}" for name, value in options.items()]


def _ready(machine: Machine) -> bool:
    ask = [
        str(program("kubectl")),
        "--kubeconfig",
        f"{STATE}/kube-scheduler.kubeconfig",
        "get",
        "--raw",
        "/readyz",
    ]
    if not machine.alive("kube-apiserver"):
        machine.run("tail", "-n", "20", "/var/log/kube-apiserver.log")
    return machine.attempt(*ask).returncode == 0


def _etcd() -> dict[str, object]:
    client, peer = "http://127.0.0.1:2379", "http://127.0.0.1:2380"
    return {
        "name": "etcd",
        "data-dir": "/var/lib/etcd",
        "listen-client-urls": client,
        "advertise-client-urls": client,
        "listen-peer-urls": peer,
        "initial-advertise-peer-urls": peer,
        "initial-cluster": f"etcd={peer}",
        "unsafe-no-fsync": True,  # It lies in memory.
        "quota-backend-bytes": 4 << 30,
        "log-level": "error",
    }


def _api_server() -> dict[str, object]:
    own = address(CONTROL)
    return {
        "advertise-address": own.ipv4,
        "secure-port": API_PORT,
        "etcd-servers": "http://127.0.0.1:2379",
        "client-ca-file": f"{PKI}/ca.crt",
        "tls-cert-file": f"{PKI}/apiserver.crt",
        "tls-private-key-file": f"{PKI}/apiserver.key",
        "kubelet-client-certificate": f"{PKI}/apiserver-kubelet.crt",
        "kubelet-client-key": f"{PKI}/apiserver-kubelet.key",
        "kubelet-preferred-address-types": "InternalIP",
        "service-account-issuer": "https://kubernetes.default.svc.cluster.local",
        "service-account-key-file": f"{PKI}/service-accounts.pub",
        "service-account-signing-key-file": f"{PKI}/service-accounts.key",
        "authorization-mode": "Node,RBAC",
        "enable-admission-plugins": "NodeRestriction",
        "allow-privileged": "true",
        "service-cluster-ip-range": ",".join(SERVICES),
        # There is no kube-proxy here: webhooks are called at the addresses of their pods.
        "enable-aggregator-routing": "true",
        "profiling": "false",
        "audit-policy-file": f"{STATE}/audit.json",
        "audit-log-path": f"/var/log/{AUDIT_LOG}",
    }


def _audit_policy() -> dict[str, object]:
    everything = {
        "level": "Metadata",
        "userGroups": [f"system:serviceaccounts:{AUDITED}"],
        "omitStages": ["RequestReceived"],
    }
    return {"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "rules": [everything, {"level": "None"}]}


def _controllers() -> dict[str, object]:
    return {
        "kubeconfig": f"{STATE}/kube-controller-manager.kubeconfig",
        "service-account-private-key-file": f"{PKI}/service-accounts.key",
        "root-ca-file": f"{PKI}/ca.crt",
        "cluster-signing-cert-file": f"{PKI}/ca.crt",
        "cluster-signing-key-file": f"{PKI}/ca.key",
        "use-service-account-credentials": "true",
        "allocate-node-cidrs": "false",
        "cluster-cidr": ",".join(PODS),
        "service-cluster-ip-range": ",".join(SERVICES),
        "node-monitor-period": "1s",
        "node-monitor-grace-period": _GRACE,
        "namespace-sync-period": "1s",
        "leader-elect": "false",
    }


def _scheduler() -> dict[str, object]:
    return {"kubeconfig": f"{STATE}/kube-scheduler.kubeconfig", "leader-elect": "false"}
