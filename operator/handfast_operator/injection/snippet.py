"""`handfast-operator snippet < tunnel.yaml`: what the injector would put into a pod template, as YAML."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any, Final

import yaml
from pydantic import ValidationError

from .. import names
from ..resources import TunnelSpec
from ..settings import Settings
from .pod import injected

_USAGE: Final = "kubectl get tunnel NAME --output=yaml | handfast-operator snippet"
_NOTE: Final = (
    "# The tunnel {tunnel} for a pod template: merge this into spec.template, and keep it the first of\n"
    "# initContainers, as what begins before it has no tunnel. Its image stays what it is here; with the\n"
    '# annotation {upgrades}: "true" the operator replaces it by its own, in running pods.\n'
)


class SnippetError(Exception):
    """What came in is no Tunnel that can be injected."""


def snippet(tunnel: Mapping[str, Any], settings: Settings) -> str:
    """Raises SnippetError."""
    try:
        name, spec = tunnel["metadata"]["name"], TunnelSpec.model_validate(tunnel["spec"])
    except (KeyError, TypeError, ValidationError) as error:
        raise SnippetError(f"this is no Tunnel: {error}; try: {_USAGE}") from None
    if spec.gateway is not None:
        raise SnippetError(f"the Tunnel {name} has pods of its own: take spec.gateway away from it")
    labels = {names.TUNNEL_LABEL: name}
    pod = injected({"metadata": {"labels": labels}, "spec": {}}, name, spec, settings)
    body = yaml.safe_dump({"metadata": {"labels": labels}, "spec": pod}, sort_keys=False, width=110)
    return _NOTE.format(tunnel=name, upgrades=names.UPGRADES) + body


def main(settings: Settings) -> int:
    try:
        print(snippet(yaml.safe_load(sys.stdin), settings), end="")
    except (SnippetError, yaml.YAMLError) as error:
        print(f"handfast-operator snippet: {error}", file=sys.stderr)
        return 1
    return 0
