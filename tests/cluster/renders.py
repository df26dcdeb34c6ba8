"""What is rendered from the chart: `python -m tests.cluster.renders` writes all of it anew.

manifests/install.yaml is the chart with its defaults, for those without Helm; manifests/monitoring.yaml what
is built on metrics. The others, in golden/, are what a review of the chart looks at.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

from .built import program

ROOT = Path(__file__).parents[2]
CHART = ROOT / "charts" / "handfast"
GOLDEN = Path(__file__).with_name("golden")
SYSTEM = "handfast-system"
_NOTE = "# Made from charts/handfast: change that, then run `make generate`.\n"
_DIGEST = f"sha256:{'0123456789abcdef' * 4}"

VALUES: dict[str, list[str]] = {
    "defaults": [],
    "one-operator": ["operator.replicas=1"],
    "some-namespaces": ["watchNamespaces={vpn,lab}"],
    "pinned-images": [f"image.operator.digest={_DIGEST}", f"image.tunnel.digest={_DIGEST}"],
    "private-registry": [
        "image.pullSecrets={registry}",
        "image.tunnel.repository=registry.example.com/tunnel",
    ],
    "monitoring": [
        "metrics.podMonitor.enabled=true",
        "metrics.podMonitor.labels.release=prometheus",
        "metrics.rules.enabled=true",
        "metrics.rules.labels.release=prometheus",
        "metrics.rules.runbooks=https://wiki.example.com/handfast-alerts",
    ],
    "metrics-namespace": ["metrics.namespaces.matchLabels.name=monitoring"],
    "no-policies": ["networkPolicy.enabled=false", "podDisruptionBudget.enabled=false"],
    "placed": ["operator.nodeSelector.role=infra", "operator.priorityClassName=system-cluster-critical"],
    "annotated": [
        "operator.podAnnotations.a=b",
        "operator.podLabels.team=net",
        "serviceAccount.annotations.c=d",
    ],
    "no-injector": ["injector.enabled=false"],
    "cert-manager": ["injector.certManager.enabled=true", "injector.replicas=1"],
    "cluster-issuer": [
        "injector.certManager.enabled=true",
        "injector.certManager.issuerRef.kind=ClusterIssuer",
        "injector.certManager.issuerRef.name=internal",
    ],
    "shared-networks": ["sharedNetworks={10.96.0.0/12,fd00::/8}", "operator.logLevel=DEBUG"],
}


def template(*options: str) -> str:
    command = [str(program("helm")), "template", "handfast", str(CHART), "--namespace", SYSTEM, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode:
        raise ValueError(done.stderr)
    return done.stdout


def monitoring(*options: str) -> str:
    """What is built on metrics: PodMonitors, rules, dashboards."""
    enabled = [f"--set=metrics.{what}.enabled=true" for what in ("podMonitor", "rules", "dashboards")]
    shown = [f"--show-only=templates/{name}.yaml" for name in ("monitoring", "dashboards")]
    return template(*enabled, *shown, *options)


def rendered() -> dict[Path, str]:
    """Each file's content, by its path."""
    namespace = f"apiVersion: v1\nkind: Namespace\nmetadata:\n  name: {SYSTEM}\n---\n"
    install = template("--no-hooks")
    made = {ROOT / "manifests" / "install.yaml": _NOTE + namespace + install.removeprefix("---\n")}
    made[ROOT / "manifests" / "monitoring.yaml"] = _NOTE + monitoring()
    for name, values in VALUES.items():
        options = [option for value in ["crds.enabled=false", *values] for option in ("--set", value)]
        made[GOLDEN / f"{name}.yaml"] = _NOTE + template(*options)
    return made


def main() -> None:
    GOLDEN.mkdir(exist_ok=True)
    for path, content in rendered().items():
        path.write_text(content)


if __name__ == "__main__":
    main()
