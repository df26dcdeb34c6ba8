"""From a pod to the same pod with the tunnel in it: a pure function, which may be applied to what it gave."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from .. import container, names
from ..resources import TunnelSpec
from ..settings import Settings

Object = dict[str, Any]


def injected(pod: Mapping[str, Any], tunnel: str, spec: TunnelSpec, settings: Settings) -> Object:
    """Its `spec`. A sidecar that is there already, by hand or by an earlier call, stays as it is."""
    changed: Object = dict(pod["spec"])
    others = list(changed.get("initContainers") or ())
    sidecar = sidecar_of(changed)
    if sidecar is None:
        grace = changed.get("terminationGracePeriodSeconds", container.DEFAULT_GRACE_SECONDS)
        sidecar = container.of_sidecar(spec, settings, grace=grace, alone=not shares(pod))
    else:
        others.remove(sidecar)
    # Whatever else begins in the pod may need it.
    changed["initContainers"] = [sidecar, *others]
    changed["volumes"] = _with(
        changed.get("volumes") or (), container.volumes(tunnel, spec, container.SIDECAR)
    )
    secrets = [{"name": name} for name in settings.image_pull_secrets]
    if secrets:
        changed["imagePullSecrets"] = _with(changed.get("imagePullSecrets") or (), secrets)
    return changed


def noted(pod: Mapping[str, Any]) -> Object:
    """Its annotations with it: an image that the injector chooses is the operator's to replace, unless its
    template says otherwise."""
    there: Object = pod["metadata"].get("annotations") or {}
    return there if sidecar_of(pod["spec"]) is not None else {names.UPGRADES: "true"} | there


def sidecar_of(spec: Mapping[str, Any]) -> Object | None:
    """The tunnel's container in a pod's spec."""
    containers = spec.get("initContainers") or ()
    return next((each for each in containers if each["name"] == container.SIDECAR.container), None)


def shares(pod: Mapping[str, Any]) -> bool:
    """Whether it says that others have the same Tunnel, and that its app may be without it."""
    labels = pod["metadata"].get("labels") or {}
    return bool(labels.get(names.STANDBY_LABEL) == "true")


def _with(there: Iterable[Object], wanted: Iterable[Object]) -> list[Object]:
    """What is there, and of what is wanted, all that is not there by name."""
    there = list(there)
    known = {each.get("name") for each in there}
    return [*there, *(each for each in wanted if each["name"] not in known)]
