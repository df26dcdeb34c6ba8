"""`kubectl handfast doctor`: gathers what the rules in `faults` want to know, and says what is wrong."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from . import faults, pods
from .api import Api
from .errors import ExecFailed, Forbidden
from .faults import NO_TUN, Facts, Fault, Inside
from .kinds import OPERATOR_SELECTOR, Object, tls_secret
from .pods import Pod
from .screen import Colour, Screen

T = TypeVar("T")
_SILENT: Final = "no pod answers"
# What is read in one go; dash's builtins and coreutils, as the image has them.
_LOOK: Final = (
    "sh",
    "-c",
    """date '+now %s.%N'
    for i in /sys/class/net/*; do echo "mtu ${i##*/} $(cat "$i/mtu")"; done
    echo "swaps $(wc -l </proc/swaps)"
    grep ' /run/handfast tmpfs ' /proc/mounts || true""",
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Of one Tunnel."""

    namespace: str
    name: str
    faults: Sequence[Fault]
    unknown: Mapping[str, str]
    """Checks that were not made, and why."""

    @property
    def well(self) -> list[str]:
        wrong = {fault.what for fault in self.faults}
        return [name for name in faults.RULES if name not in wrong and name not in self.unknown]


@dataclass(slots=True)
class Examination:
    """Of one cluster; what is the same for all Tunnels is read once."""

    api: Api
    operators: Sequence[Object] | None = None
    server: str = ""
    no_operators: str = ""

    def begin(self) -> None:
        self.server = str(self.api.request("GET", "/version")["gitVersion"])
        try:
            self.operators = self.api.list("deployments", None, labels=OPERATOR_SELECTOR)
        except Forbidden as missing:
            self.no_operators = missing.missing

    def examine(self, tunnel: Object) -> Finding:
        namespace, name = tunnel["metadata"]["namespace"], tunnel["metadata"]["name"]
        unknown = {"operator": self.no_operators} if self.no_operators else {}

        def allowed(read: Callable[[], T], other: T, *checks: str) -> T:
            """What may be read; else the checks that need it are not made."""
            try:
                return read()
            except Forbidden as missing:
                unknown.update(dict.fromkeys(checks, missing.missing))
                return other

        inner = ("MTU", "clock", "swap")
        nobody: list[Pod] = []
        labelled = allowed(lambda: pods.labelled(self.api, tunnel), nobody, *inner, NO_TUN, "injection")
        there = [pod for pod in labelled if pod.is_of(tunnel)]
        asked = allowed(lambda: [pods.asked(self.api, pod) for pod in there], there, *inner, "versions")
        insides = [seen for pod in asked if pod.said and (seen := self._inside(pod, pod.said))]
        if not insides:
            unknown = dict.fromkeys(inner, _SILENT) | unknown
        facts = Facts(
            tunnel,
            labels=allowed(lambda: self._labels(namespace), None, "Pod Security"),
            pods=asked,
            strangers=[pod for pod in labelled if not pod.is_of(tunnel)],
            insides=insides,
            warnings=allowed(lambda: self.api.list("events", namespace, fields="type=Warning"), [], NO_TUN),
            logs=allowed(lambda: self._logs(there), {}, NO_TUN),
            certificate_ends=allowed(lambda: self._certificate_ends(namespace, name), None, "certificates"),
            operators=self.operators,
            server=self.server,
            now=time.time(),
        )
        found = faults.find(facts)
        # What was found without it was found.
        wrong = {fault.what for fault in found}
        return Finding(namespace, name, found, {k: v for k, v in unknown.items() if k not in wrong})

    def _inside(self, pod: Pod, said: Mapping[str, Any]) -> Inside | None:
        began = time.time()
        try:
            text = self.api.exec(pod.namespace, pod.name, pod.container, _LOOK)
        except ExecFailed:
            return None
        return inside(pod, text, began, time.time(), str(said["interface"]))

    def _labels(self, namespace: str) -> Mapping[str, str]:
        found = self.api.get("namespaces", None, namespace)
        return found["metadata"].get("labels") or {}

    def _logs(self, there: Sequence[Pod]) -> dict[str, str]:
        return {
            pod.name: self.api.log(pod.namespace, pod.name, pod.container, previous=False)
            or self.api.log(pod.namespace, pod.name, pod.container, previous=True)
            for pod in there
            if not pod.ready and pod.restarts
        }

    def _certificate_ends(self, namespace: str, name: str) -> float | None:
        secret = self.api.find("secrets", namespace, tls_secret(name))
        text = ((secret or {}).get("data") or {}).get("tls.crt")
        if not text:
            return None
        from cryptography.x509 import load_pem_x509_certificate

        return load_pem_x509_certificate(base64.b64decode(text)).not_valid_after_utc.timestamp()


def inside(pod: Pod, text: str, began: float, ended: float, interface: str) -> Inside:
    """From what was read in the container, and when that began and ended by our clock."""
    sizes: dict[str, int] = {}
    ahead, swaps, noswap = 0.0, False, True
    for line in text.splitlines():
        match line.split():
            case ["now", seconds]:
                # Whatever lies between is not the clock's fault.
                its = float(seconds)
                ahead = its - min(max(its, began), ended)
            case ["mtu", name, size]:
                sizes[name] = int(size)
            case ["swaps", lines]:
                swaps = int(lines) > 1
            case [_, _, "tmpfs", options, *_]:
                noswap = "noswap" in options.split(",")
    return Inside(pod.name, pod.node, interface, sizes, ahead, swaps, noswap)


def show(finding: Finding, screen: Screen) -> list[str]:
    lines = [screen.paint(f"{finding.namespace}/{finding.name}", "bold")]
    if finding.well:
        lines += _item(screen, "ok", "green", ", ".join(finding.well))
    for name, why in finding.unknown.items():
        lines += _item(screen, "not checked", "yellow", f"{name}: {_because(why)}")
    for fault in finding.faults:
        lines += _item(screen, "wrong", "red", f"{fault.what}: {fault.why}")
        # A command is copied, so it stays on one line.
        lines.append(f"    {fault.command}")
    return lines


def _because(why: str) -> str:
    return why if why == _SILENT else f"you may not {why}"


def _item(screen: Screen, word: str, colour: Colour, text: str) -> list[str]:
    first, *rest = screen.wrap(f"{word}: {text}", "  ")
    painted = screen.paint(word, colour)
    return [first.replace(word, painted, 1), *rest]


def as_json(findings: Sequence[Finding]) -> Object:
    return {
        "tunnels": [
            {
                "namespace": each.namespace,
                "name": each.name,
                "faults": [
                    {"what": fault.what, "why": fault.why, "command": fault.command} for fault in each.faults
                ],
                "notChecked": dict(each.unknown),
            }
            for each in findings
        ]
    }
