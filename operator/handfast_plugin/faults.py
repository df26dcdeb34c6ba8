"""What can be wrong with a Tunnel, why, and the command that mends it: one pure function for each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from .kinds import TUNNEL_LABEL, Object, condition, tls_secret
from .pods import Pod
from .screen import age, duration
from .status import is_trouble

OVERHEAD: Final = 80
"""IPv6, UDP and WireGuard headers around a packet."""
CLOCK_SECONDS: Final = 5.0
"""Nodes that differ by more will differ by a minute: handshakes carry time stamps, which must only rise."""
CERTIFICATE_DAYS: Final = 7
"""Leaves live for 30 days and are renewed after ten."""
OLDEST_SERVER: Final = (1, 31)
NO_TUN: Final = "/dev/net/tun"
_ALLOWED: Final = {"", "privileged"}
_ENFORCE: Final = "pod-security.kubernetes.io/enforce"


@dataclass(frozen=True, slots=True)
class Fault:
    what: str
    """Which check."""
    why: str
    command: str


@dataclass(frozen=True, slots=True)
class Inside:
    """What is seen from inside of a pod's container."""

    pod: str
    node: str
    interface: str = ""
    """The tunnel's."""
    mtu: Mapping[str, int] = field(default_factory=dict)
    """By interface."""
    ahead: float = 0.0
    """Seconds of its node's clock before ours."""
    swap: bool = False
    """The node swaps."""
    noswap: bool = True
    """And not what is kept in memory only."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of one Tunnel; None for what may not be read."""

    tunnel: Object
    labels: Mapping[str, str] | None = None
    """Its namespace's."""
    pods: Sequence[Pod] = ()
    strangers: Sequence[Pod] = ()
    """Pods with its label that are none of its own."""
    insides: Sequence[Inside] = ()
    warnings: Sequence[Object] = ()
    """Events."""
    logs: Mapping[str, str] = field(default_factory=dict)
    """The last words of containers that do not run, by pod."""
    certificate_ends: float | None = None
    operators: Sequence[Object] | None = None
    """Deployments of operators, in any namespace."""
    server: str = ""
    """The API server's version."""
    now: float = 0.0

    @property
    def namespace(self) -> str:
        return str(self.tunnel["metadata"]["namespace"])

    @property
    def name(self) -> str:
        return str(self.tunnel["metadata"]["name"])

    def patch(self, spec: str) -> str:
        """The command that changes the Tunnel's spec."""
        return (
            f"kubectl patch tunnel {self.name} --namespace={self.namespace} --type=merge "
            f"--patch='{{\"spec\":{spec}}}'"
        )

    def messages(self, *needles: str) -> list[str]:
        """Of warnings that speak of all of these."""
        said = [str(each.get("message", "")) for each in self.warnings]
        return [text for text in said if all(needle in text for needle in needles)]


Rule = Callable[[Facts], Iterator[Fault]]


def pod_security(facts: Facts) -> Iterator[Fault]:
    level = (facts.labels or {}).get(_ENFORCE, "")
    refused = facts.messages("violates PodSecurity")
    if level in _ALLOWED and not (refused and not facts.pods):
        return
    who = f"namespace {facts.namespace} enforces {level}" if level not in _ALLOWED else "the cluster refuses"
    yield Fault(
        "Pod Security",
        f"{who}: a gateway has NET_ADMIN, which only the level privileged admits",
        f"kubectl label namespace {facts.namespace} {_ENFORCE}=privileged --overwrite",
    )


def injection(facts: Facts) -> Iterator[Fault]:
    """Its label is on a pod, and no tunnel in it: nobody else would say so."""
    for pod in facts.strangers:
        if not pod.terminating:
            yield Fault(
                "injection",
                f"pod {pod.name} has the label {TUNNEL_LABEL}, and no tunnel of it: it is older than the"
                " injector or the label, no injector serves its namespace (kube-system never, others by"
                " watchNamespaces), or somebody wrote it by hand. What it says is not believed",
                f"kubectl delete pod {pod.name} --namespace={facts.namespace}"
                "    # what makes it makes another",
            )
            return


def tun_device(facts: Facts) -> Iterator[Fault]:
    if facts.messages("hostPath type check failed", NO_TUN):
        yield Fault(
            NO_TUN,
            "a node has no such device, so that its kubelet does not start the pod",
            "modprobe tun    # on the node; for ever: echo tun >/etc/modules-load.d/tun.conf",
        )
    for pod, log in facts.logs.items():
        if f"cannot open {NO_TUN}" not in log and "cannot create the TUN interface" not in log:
            continue
        said = next(line for line in log.splitlines() if "TUN" in line or NO_TUN in line)
        yield Fault(
            NO_TUN,
            f"pod {pod} says: {said.partition('handfast-tunnel: ')[2] or said}. Some runtimes deny it (runc "
            "1.2.0-1.2.3, crun before 2026, CRI-O before 2024): update them, or let a device plugin give it",
            facts.patch('{"pod":{"tunDevice":"Resource","tunResourceName":"NAME"}}'),
        )


def forwarding(facts: Facts) -> Iterator[Fault]:
    found = condition(facts.tunnel, "ForwardingReady")
    if found.get("status") != "False":
        return
    family = "ipv6" if "IPv6" in found["reason"] + found["message"] else "ipv4"
    if found["reason"] == "FirewallRefused":
        command = "modprobe --all nf_tables nft_masq nft_chain_nat    # on the node of the active pod"
    elif family == "ipv6":
        command = facts.patch('{"forwarding":{"ipv6":"Off"}}') + "    # or allow the sysctl on nodes"
    else:
        command = "sysctl net.ipv4.ip_forward=1    # on the node of the active pod"
    yield Fault("forwarding", found["message"] or found["reason"], command)


def mtu(facts: Facts) -> Iterator[Fault]:
    for inside in facts.insides:
        own = inside.mtu.get(inside.interface)
        others = [size for name, size in inside.mtu.items() if name not in {"lo", inside.interface}]
        if own is None or not others or own <= min(others) - OVERHEAD:
            continue
        yield Fault(
            "MTU",
            f"in pod {inside.pod} the tunnel's is {own}, and that of the pod's network {min(others)}: with "
            f"WireGuard's {OVERHEAD} bytes around them large packets are cut into pieces, or lost",
            facts.patch('{"mtu":null}'),
        )
        return


def clock(facts: Facts) -> Iterator[Fault]:
    if not facts.insides:
        return
    most = max(facts.insides, key=lambda inside: abs(inside.ahead))
    if abs(most.ahead) < CLOCK_SECONDS:
        return
    where = "ahead of" if most.ahead > 0 else "behind"
    yield Fault(
        "clock",
        f"node {most.node}'s is {duration(abs(most.ahead))} {where} this machine's: handshakes' time stamps "
        "have to rise from pod to pod, and certificates are valid for a time",
        "timedatectl set-ntp true    # on the node, or here: whichever is wrong",
    )


def swap(facts: Facts) -> Iterator[Fault]:
    nodes = sorted({inside.node for inside in facts.insides if inside.swap and not inside.noswap})
    if nodes:
        yield Fault(
            "swap",
            f"node {', '.join(nodes)} swaps, and its tmpfs is mounted without noswap (Linux 6.3 or newer): "
            "session keys, which lie in memory for the next process, may reach a disk",
            "swapoff --all    # on the node",
        )


def certificates(facts: Facts) -> Iterator[Fault]:
    if facts.certificate_ends is None:
        return
    left = facts.certificate_ends - facts.now
    if left > CERTIFICATE_DAYS * 86400:
        return
    ends = f"ends in {age(left)}" if left > 0 else f"ended {age(-left)} ago"
    yield Fault(
        "certificates",
        f"that of Secret {tls_secret(facts.name)} {ends}: the operator, which renews it 20 days before, has "
        "not",
        _restart(facts),
    )


def versions(facts: Facts) -> Iterator[Fault]:
    number = _number(facts.server)
    if number and number[:2] < OLDEST_SERVER:
        yield Fault(
            "versions",
            f"Kubernetes is {facts.server}: before 1.31 the API server refuses the CRDs' rules",
            "kubeadm upgrade plan    # or as whoever runs the cluster upgrades it",
        )
    running = {str(pod.said["version"]) for pod in facts.pods if pod.said and "version" in pod.said}
    chart = {_version(each) for each in facts.operators or ()} - {""}
    if len(running) > 1 or (chart and running - chart):
        yield Fault(
            "versions",
            f"pods run {', '.join(sorted(running))}, the operator {', '.join(sorted(chart)) or 'another'}: "
            "a rollout has not ended, or image.tunnel.tag names another version",
            f"kubectl rollout status deployment/{facts.name} --namespace={facts.namespace}",
        )


def operator(facts: Facts) -> Iterator[Fault]:
    if facts.operators is not None and not facts.operators:
        yield Fault(
            "operator",
            "there is none in this cluster: pods go on, but nothing fails over and no Peer is added",
            "helm install handfast charts/handfast --namespace handfast-system --create-namespace",
        )
        return
    for each in facts.operators or ():
        if not each.get("status", {}).get("availableReplicas"):
            meta = each["metadata"]
            yield Fault(
                "operator",
                f"no pod of Deployment {meta['name']} in {meta['namespace']} is available",
                f"kubectl describe pods --namespace={meta['namespace']} "
                "--selector=app.kubernetes.io/name=handfast-operator",
            )
            return
    meta, status = facts.tunnel["metadata"], facts.tunnel.get("status", {})
    if status.get("observedGeneration", 0) < meta.get("generation", 0):
        yield Fault(
            "operator",
            f"it has seen generation {status.get('observedGeneration', 0)} of the Tunnel, which is at "
            f"{meta['generation']}: it does not lead, or not this namespace (watchNamespaces)",
            _restart(facts),
        )


def conditions(facts: Facts) -> Iterator[Fault]:
    """What the operator has found itself, and no other rule tells."""
    told = {"Ready", "ForwardingReady"}
    for found in facts.tunnel.get("status", {}).get("conditions") or ():
        if found["type"] in told or not is_trouble(found):
            continue
        yield Fault(
            "conditions",
            f"{found['type']}: {found['message'] or found['reason']}",
            _looked_into(facts, found["type"], found["reason"]),
        )


RULES: Final[Mapping[str, Rule]] = {
    "Pod Security": pod_security,
    "injection": injection,
    NO_TUN: tun_device,
    "forwarding": forwarding,
    "MTU": mtu,
    "clock": clock,
    "swap": swap,
    "certificates": certificates,
    "versions": versions,
    "operator": operator,
    "conditions": conditions,
}


def find(facts: Facts) -> list[Fault]:
    return [fault for rule in RULES.values() for fault in rule(facts)]


def _looked_into(facts: Facts, kind: str, why: str) -> str:
    inside = f"--namespace={facts.namespace}"
    if kind in {"Active", "StandbyReady"}:
        return f"kubectl describe deployment,pods {inside} --selector=handfast.dev/tunnel={facts.name}"
    if kind == "EndpointReady":
        return f"kubectl describe service {facts.name} {inside}"
    if kind == "KeyAvailable":
        return f"kubectl get secrets {inside}    # and restore the one that is named, from a backup"
    if why == "NameTaken":
        return f"kubectl get deployment,service,networkpolicy,poddisruptionbudget {facts.name} {inside}"
    return f"kubectl describe tunnel {facts.name} {inside}"


def _restart(facts: Facts) -> str:
    meta = (
        facts.operators[0]["metadata"]
        if facts.operators
        else {"name": "handfast", "namespace": "handfast-system"}
    )
    return f"kubectl rollout restart deployment/{meta['name']} --namespace={meta['namespace']}"


def _version(deployment: Object) -> str:
    return str(deployment["metadata"].get("labels", {}).get("app.kubernetes.io/version", ""))


def _number(version: str) -> tuple[int, ...]:
    """`v1.36.0-rc.1` as (1, 36, 0)."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    return tuple(int(part or 0) for part in found.groups()) if found else ()
