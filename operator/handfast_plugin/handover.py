"""`kubectl handfast handover`: the operator is asked to move a Tunnel's clients to another pod, once.

The request names the term that the active pod has now. Terms only rise, so that it can be acted on once only,
by whichever operator leads; it needs no clock, and is over as soon as anybody else is active.
"""

from __future__ import annotations

import time
from typing import Final

from .api import Api
from .errors import PluginError
from .kinds import FROM_TERM, OPERATOR_SELECTOR, Object, condition

PATIENCE: Final = 20.0
"""A handover takes a fraction of a second once the operator has heard of it."""
_EVERY: Final = 0.2


def refusal(tunnel: Object) -> str | None:
    """Why the operator could not do it now."""
    if tunnel["spec"].get("recovery", {}).get("handover") == "Never":
        return "its spec.recovery.handover is Never"
    if not tunnel.get("status", {}).get("active"):
        return f"it has no active pod: {condition(tunnel, 'Active').get('message') or 'it has only begun'}"
    if condition(tunnel, "StandbyReady").get("status") != "True":
        why = condition(tunnel, "StandbyReady").get("message") or "no standby is known"
        return f"there is nobody to hand over to: {why}"
    return None


def run(api: Api, tunnel: Object) -> Object:
    """The Tunnel when it is done. Raises PluginError, and then the request is withdrawn."""
    namespace, name = tunnel["metadata"]["namespace"], tunnel["metadata"]["name"]
    if (why := refusal(tunnel)) is not None:
        raise PluginError(f"Tunnel {name} cannot be handed over: {why}")
    term = tunnel["status"]["active"]["term"]
    api.annotate("tunnels", namespace, name, {FROM_TERM: str(term)})
    done = False
    try:
        until = time.monotonic() + PATIENCE
        while time.monotonic() < until:
            found = api.get("tunnels", namespace, name)
            if done := found["status"]["active"]["term"] > term:
                return found
            time.sleep(_EVERY)
    finally:
        # It must not happen later, when nobody thinks of it any more.
        if not done:
            api.annotate("tunnels", namespace, name, {FROM_TERM: None})
    raise PluginError(
        f"Tunnel {name} was not handed over within {PATIENCE:.0f} s, and the request is withdrawn\n"
        f"Is the operator running? kubectl get pods --all-namespaces --selector={OPERATOR_SELECTOR}\n"
        f"What it says: kubectl describe tunnel {name} --namespace={namespace}"
    )


def show(before: Object, after: Object) -> str:
    old, new = before["status"]["active"], after["status"]["active"]
    return f"Pod {new['pod']} took over from {old['pod']}, at term {new['term']}"


def as_json(before: Object, after: Object) -> Object:
    return {"from": before["status"]["active"], "to": after["status"]["active"]}
