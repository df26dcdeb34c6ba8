"""`kubectl-handfast`: parses, asks, prints; status 1 for a fault or failure, 2 for a wrong command line."""

from __future__ import annotations

import json
import os
import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from .api import Api, connect
from .arguments import parse
from .errors import Forbidden, PluginError, UsageError
from .kinds import Object
from .screen import Screen


def main(arguments: Sequence[str] | None = None) -> int:
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        with connect(options.kubeconfig, options.context, options.namespace) as api:
            return _COMMANDS[options.command](api, options)
    except PluginError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, UsageError) else 1
    except BrokenPipeError:
        # Whoever read it has seen enough; what is still in the buffer goes nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        print(file=sys.stderr)
        return 130


def _status(api: Api, options: Namespace) -> int:
    from . import status

    report = status.gather(api, _namespace(api, options), options.name)
    if options.output:
        return _json(status.as_json(report))
    lines = status.show(report, _screen(), time.time(), everywhere=options.all_namespaces)
    _print(lines, _nothing(api, options, "Tunnels"))
    _left_out("what pods say themselves", report.missing)
    return 0


def _peers(api: Api, options: Namespace) -> int:
    from . import peers

    report = peers.gather(api, _namespace(api, options), options.name)
    if options.output:
        return _json(peers.as_json(report))
    _print(peers.show(report, _screen(), everywhere=options.all_namespaces), _nothing(api, options, "Peers"))
    _left_out("when each was heard, and how it came back", report.missing)
    return 0


def _config(api: Api, options: Namespace) -> int:
    from . import config

    text = config.configuration(api, options.name)
    if options.qr:
        _print(config.qr_code(text, _screen()))
    else:
        sys.stdout.write(text)
    return 0


def _handover(api: Api, options: Namespace) -> int:
    from . import handover

    before = _tunnel(api, options)
    after = handover.run(api, before)
    if options.output:
        return _json(handover.as_json(before, after))
    print(handover.show(before, after))
    return 0


def _drill(api: Api, options: Namespace) -> int:
    from . import drill, outages

    chosen = drill.Options(options.in_place, options.yes, options.timeout)
    tunnel = _tunnel(api, options)
    watch = drill.run(api, tunnel, chosen, Screen.of(sys.stderr, os.environ))
    if watch is None:
        return 1
    if options.output:
        _json(outages.as_json(watch))
    else:
        _print(outages.show(watch, _screen()))
    return 0 if watch.successor and not watch.awaited else 1


def _doctor(api: Api, options: Namespace) -> int:
    from . import doctor

    namespace = _namespace(api, options)
    tunnels = (
        [api.get("tunnels", namespace, options.name)] if options.name else api.list("tunnels", namespace)
    )
    examination = doctor.Examination(api)
    examination.begin()
    findings = [examination.examine(tunnel) for tunnel in tunnels]
    if options.output:
        _json(doctor.as_json(findings))
    else:
        screen = _screen()
        lines = [line for each in findings for line in doctor.show(each, screen)]
        _print(lines, _nothing(api, options, "Tunnels"))
    return 1 if any(each.faults for each in findings) else 0


def _purge(api: Api, options: Namespace) -> int:
    from . import purge
    from .terminal import confirm

    found = purge.leftovers(purge.gather(api, _namespace(api, options)))
    if not options.output:
        _print(purge.show(found, _screen()) if found else [], f"Nothing is left over {_where(api, options)}")
    if not found:
        return _json(purge.as_json([], deleted=False)) if options.output else 0
    gone = confirm(f"Delete these {len(found)} objects?", yes=options.yes)
    if gone:
        purge.remove(api, found)
    if options.output:
        _json(purge.as_json(found, deleted=gone))
    return 0 if gone else 1


_COMMANDS: Final[Mapping[str, Callable[[Api, Namespace], int]]] = {
    "status": _status,
    "peers": _peers,
    "config": _config,
    "handover": _handover,
    "drill": _drill,
    "doctor": _doctor,
    "purge": _purge,
}


def _namespace(api: Api, options: Namespace) -> str | None:
    """None for all."""
    if options.all_namespaces and getattr(options, "name", None):
        raise UsageError("a name is one namespace's: leave out the name, or --all-namespaces")
    return None if options.all_namespaces else api.place.namespace


def _tunnel(api: Api, options: Namespace) -> Object:
    """The one that was named, or the one that there is."""
    namespace = api.place.namespace
    if options.name:
        return api.get("tunnels", namespace, options.name)
    found = api.list("tunnels", namespace)
    if len(found) == 1:
        return found[0]
    if not found:
        raise PluginError(f"there is no Tunnel in namespace {namespace}: say another one with --namespace")
    names = ", ".join(each["metadata"]["name"] for each in found)
    raise UsageError(f"several Tunnels are in namespace {namespace}, name one of: {names}")


def _screen() -> Screen:
    return Screen.of(sys.stdout, os.environ)


def _print(lines: Sequence[str], otherwise: str = "") -> None:
    """What is not there is no output: programs read that."""
    if lines:
        print("\n".join(lines), flush=True)
    elif otherwise:
        print(otherwise, file=sys.stderr)


def _json(document: Object) -> int:
    print(json.dumps(document, indent=2), flush=True)
    return 0


def _nothing(api: Api, options: Namespace, what: str) -> str:
    return f"There are no {what} {_where(api, options)}"


def _where(api: Api, options: Namespace) -> str:
    return "in the cluster" if options.all_namespaces else f"in namespace {api.place.namespace}"


def _left_out(what: str, missing: Forbidden | None) -> None:
    if missing is not None:
        print(f"Left out: {what}; you may not {missing.missing}", file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
