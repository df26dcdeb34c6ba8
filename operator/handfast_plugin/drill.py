"""`kubectl handfast drill`: restart a gateway for real, and see what each client notices."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import Final

from . import outages, pods
from .api import Api
from .errors import ExecFailed, PluginError
from .kinds import Object
from .outages import Watch
from .pods import Pod
from .screen import Screen
from .terminal import Live, confirm

_APART: Final = 1.5
"""Seconds between the two looks before the restart."""
_EVERY: Final = 0.3
_SETTLED: Final = 3.0
"""For so long who was not sending is watched, after all others are back."""
_END: Final = ("sh", "-c", "kill -TERM 1")
"""The container ends as kubelet would end it, and is started again in the same pod."""


@dataclass(frozen=True, slots=True)
class Options:
    in_place: bool
    yes: bool
    patience: float
    """Seconds until whoever is not back is given up."""


def run(api: Api, tunnel: Object, options: Options, screen: Screen) -> Watch | None:
    """None where a person said no. Raises PluginError."""
    namespace, name = tunnel["metadata"]["namespace"], tunnel["metadata"]["name"]
    first = _active(api, tunnel)
    names = _names(api, namespace, name)
    time.sleep(_APART)
    second = pods.asked(api, first)
    if second.role != "active":
        raise PluginError(f"pod {first.name} is not active any more: another restart is under way; try again")
    watch = Watch.begin(first, second, names)
    what = f"End the container of pod {first.name}" if options.in_place else f"Delete pod {first.name}"
    serves = f"{watch.count('sending')} sending and {watch.count('connected')} other connected clients"
    print("\n".join(screen.wrap(f"Pod {first.name} serves {serves}.")), file=sys.stderr)
    if not confirm(f"{what}?", yes=options.yes):
        return None
    _restart(api, second, options)
    _watch(api, tunnel, watch, options, screen)
    return watch


def _active(api: Api, tunnel: Object) -> Pod:
    """By its own word, and by the operator's, which knows pods by their certificates: it will be ended."""
    name, status = tunnel["metadata"]["name"], tunnel.get("status", {})
    answers = [pods.asked(api, pod) for pod in pods.of_tunnel(api, tunnel)]
    winner = pods.active(answers)
    if winner is None:
        why = "; ".join(pod.silent for pod in answers if pod.silent) or "it has no pod that serves"
        raise PluginError(f"Tunnel {name} has no active pod, so there is nothing to drill: {why}")
    known = status.get("active", {}).get("pod")
    if winner.name != known:
        raise PluginError(
            f"pod {winner.name} says that it is active, and the operator that {known or 'none'} is: try"
            " again, and if it stays so, see `kubectl handfast doctor`"
        )
    return winner


def _names(api: Api, namespace: str, name: str) -> dict[str, str]:
    """Of its Peers, by public key."""
    peers = api.list("peers", namespace, fields=f"spec.tunnelRef.name={name}")
    return {peer.get("status", {}).get("publicKey", ""): peer["metadata"]["name"] for peer in peers}


def _restart(api: Api, pod: Pod, options: Options) -> None:
    if not options.in_place:
        api.delete("pods", pod.namespace, pod.name)
        return
    try:
        api.exec(pod.namespace, pod.name, pod.container, _END)
    except ExecFailed:
        # The command ends with its container, and seldom has the time to say how.
        return


def _watch(api: Api, tunnel: Object, watch: Watch, options: Options, screen: Screen) -> None:
    began, live, settled_since = time.monotonic(), Live(screen), None
    while (after := time.monotonic() - began) < options.patience:
        try:
            answers = [pods.asked(api, pod) for pod in pods.of_tunnel(api, tunnel)]
        except PluginError as error:
            live.say(f"{after:5.1f} s  {str(error).splitlines()[0]}")
            answers = []
        after = time.monotonic() - began
        former = watch.successor
        back = watch.look(pods.active(answers), after)
        if watch.successor != former:
            live.say(f"{after:5.1f} s  pod {watch.successor} is active")
        for each in back:
            live.say(f"{after:5.1f} s  {outages.told(each)}")
        live.draw(outages.lines(watch, after))
        if watch.successor and not watch.awaited:
            settled_since = after if settled_since is None else settled_since
            if after - settled_since >= _SETTLED or not watch.missing:
                break
        time.sleep(_EVERY)
    live.draw([])
