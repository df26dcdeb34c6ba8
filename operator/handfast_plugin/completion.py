"""`kubectl_complete-handfast`: what could come next, as kubectl asks a plugin for it.

It is called with the words so far, the last one unfinished, and prints candidates, each with a description
behind a tab, and cobra's directive. Where the cluster cannot be asked, nothing is offered, and nobody told.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import redirect_stderr
from io import StringIO
from typing import Final

from .arguments import COMMANDS, OUTPUTS, flags_of
from .errors import PluginError

NO_FILES: Final = 4
"""cobra's ShellCompDirectiveNoFileComp."""
FILES: Final = 0
_SHORT: Final = {"-n": "--namespace", "-o": "--output"}
_VALUED: Final = frozenset({"--namespace", "--context", "--kubeconfig", "--output", "--timeout"})
_PLURALS: Final = {"TUNNEL": "tunnels", "PEER": "peers"}


def main(words: Sequence[str] | None = None) -> int:
    words = sys.argv[1:] if words is None else words
    with redirect_stderr(StringIO()):
        candidates, directive = complete(list(words))
    for candidate in candidates:
        print(candidate)
    print(f":{directive}")
    return 0


def complete(words: list[str]) -> tuple[list[str], int]:
    """Candidates for the last word, and the directive."""
    *before, last = words or [""]
    names, given = _parsed(before)
    if before and (flag := _SHORT.get(before[-1], before[-1])) in _VALUED:
        return _values(flag, last, given)
    flag, equals, value = last.partition("=")
    if equals and flag in _VALUED:
        found, directive = _values(flag, value, given)
        return [f"{flag}={each}" for each in found], directive
    return _starting(last, _words(names, last, given)), NO_FILES


def _words(names: list[str], last: str, given: dict[str, str]) -> list[str]:
    command = COMMANDS.get(names[0]) if names else None
    if not names and not last.startswith("-"):
        return [f"{name}\t{each.help}" for name, each in COMMANDS.items()]
    if last.startswith("-"):
        return [f"{flag}\t{meaning}" for flag, meaning in flags_of(command).items()]
    if command is not None and command.name and len(names) == 1:
        return _named(_PLURALS[command.name], given)
    return []


def _parsed(words: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Words that are no flags, and the values of flags."""
    names: list[str] = []
    given: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        flag, equals, value = word.partition("=")
        flag = _SHORT.get(flag, flag)
        if flag in _VALUED:
            given[flag] = value if equals else next(rest, "")
        elif not word.startswith("-"):
            names.append(word)
    return names, given


def _values(flag: str, last: str, given: dict[str, str]) -> tuple[list[str], int]:
    match flag:
        case "--output":
            return _starting(last, list(OUTPUTS)), NO_FILES
        case "--namespace":
            return _starting(last, _named("namespaces", given)), NO_FILES
        case "--context":
            return _starting(last, _contexts(given)), NO_FILES
        case "--kubeconfig":
            return [], FILES
    return [], NO_FILES


def _named(plural: str, given: dict[str, str]) -> list[str]:
    """Of the cluster's objects."""
    from .api import connect

    try:
        with connect(given.get("--kubeconfig"), given.get("--context"), given.get("--namespace")) as api:
            namespace = None if plural == "namespaces" else api.place.namespace
            return [each["metadata"]["name"] for each in api.list(plural, namespace)]
    except PluginError:
        return []


def _contexts(given: dict[str, str]) -> list[str]:
    from .api import contexts

    try:
        return contexts(given.get("--kubeconfig"))
    except PluginError:
        return []


def _starting(last: str, candidates: Sequence[str]) -> list[str]:
    return [each for each in candidates if each.startswith(last)]


if __name__ == "__main__":
    sys.exit(main())
