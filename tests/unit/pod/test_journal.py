"""Changes of a configuration, appended beside its last whole copy.

What was acknowledged is found after a crash at any step, and what is damaged is not believed.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from handfast_tunnel.control import Configuration, Patch, PeerSpec
from handfast_tunnel.pod import journal
from handfast_tunnel.pod.accepted import CONFIGURATION_FILE, JOURNAL_FILE, Accepted
from tests.unit.core.test_cost import calls

from .conftest import CONFIGURATION, PRIVATE, SPEC, key

SECRET = key(1 << 100)


def step(configuration: Configuration, number: int = 77) -> Patch:
    """To the next generation: one peer more or changed."""
    generation = configuration.generation
    peer = PeerSpec(key(number), SECRET, (f"10.8.1.{number}/32",), name=f"of generation {generation + 1}")
    return Patch(generation + 1, generation, (peer,))


def accept(accepted: Accepted, configuration: Configuration, patch: Patch) -> Configuration:
    new = configuration.patched(patch)
    accepted.draft(new, patch).publish()
    return new


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture
def accepted(directory: Path) -> Accepted:
    """With a whole copy."""
    made = Accepted(directory)
    made.draft(CONFIGURATION).publish()
    return made


def read(directory: Path) -> Configuration | None:
    """As the next process does."""
    return Accepted(directory).load_configuration()


def test_changes_are_appended_and_come_back(accepted: Accepted, directory: Path) -> None:
    whole = (directory / CONFIGURATION_FILE).read_bytes()
    configuration, sizes = CONFIGURATION, []
    for number in (7, 8, 7, 9):
        configuration = accept(accepted, configuration, step(configuration, number))
        sizes.append((directory / JOURNAL_FILE).stat().st_size)
        assert read(directory) == configuration
    configuration = accept(accepted, configuration, Patch(10, 9, (), (key(8), key(2))))
    assert read(directory) == configuration
    assert not {key(8), key(2)} & configuration.peers.keys()
    assert (directory / CONFIGURATION_FILE).read_bytes() == whole
    assert len({later - earlier for earlier, later in pairwise(sizes)}) == 1


def test_the_next_process_goes_on_with_it(accepted: Accepted, directory: Path) -> None:
    configuration = accept(accepted, CONFIGURATION, step(CONFIGURATION))
    for _ in range(3):
        accepted = Accepted(directory)
        assert accepted.load_configuration() == configuration
        configuration = accept(accepted, configuration, step(configuration))
    assert read(directory) == configuration
    assert (directory / JOURNAL_FILE).read_bytes().count(b"\n+ ") == 4


def test_a_whole_copy_begins_anew(accepted: Accepted, directory: Path) -> None:
    accept(accepted, CONFIGURATION, step(CONFIGURATION))
    accepted.draft(CONFIGURATION.at(9)).publish()
    assert read(directory) == CONFIGURATION.at(9), "older changes are part of it, or void"
    configuration = accept(accepted, CONFIGURATION.at(9), step(CONFIGURATION.at(9)))
    assert read(directory) == configuration
    assert (directory / JOURNAL_FILE).read_bytes().count(b"\n+ ") == 1


def test_a_copy_of_another_tunnel_begins_anew(accepted: Accepted, directory: Path) -> None:
    accept(accepted, CONFIGURATION, step(CONFIGURATION))
    other = replace(CONFIGURATION, tunnel=replace(SPEC, uid="another"))
    accepted.draft(other).publish()
    assert read(directory) == other


def test_without_a_copy_of_what_it_changes_there_is_a_whole_one(directory: Path) -> None:
    """As after a start from a mount that was newer."""
    accepted = Accepted(directory)
    configuration = accept(accepted, CONFIGURATION.at(8), step(CONFIGURATION.at(8)))
    assert read(directory) == configuration
    assert not (directory / JOURNAL_FILE).exists()
    accepted.draft(CONFIGURATION).publish()
    other = accept(accepted, CONFIGURATION.at(30), step(CONFIGURATION.at(30)))
    assert read(directory) == other


def test_it_does_not_grow_without_end(
    accepted: Accepted, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal, "SIZE_LIMIT", 2000)
    configuration, rewritten = CONFIGURATION, set()
    for _ in range(30):
        configuration = accept(accepted, configuration, step(configuration))
        assert read(directory) == configuration
        assert all(path.stat().st_size <= 2000 for path in directory.glob(JOURNAL_FILE))
        rewritten.add((directory / CONFIGURATION_FILE).read_bytes())
    assert 2 < len(rewritten) < 10


def test_what_was_refused_leaves_nothing(accepted: Accepted, directory: Path) -> None:
    configuration = accept(accepted, CONFIGURATION, step(CONFIGURATION))
    before = (directory / JOURNAL_FILE).read_bytes()
    patch = step(configuration)
    accepted.draft(configuration.patched(patch), patch).discard()
    assert (directory / JOURNAL_FILE).read_bytes() == before
    assert read(directory) == configuration


def test_only_its_owner_reads_it(accepted: Accepted, directory: Path) -> None:
    accept(accepted, CONFIGURATION, step(CONFIGURATION))
    assert (directory / JOURNAL_FILE).stat().st_mode & 0o777 == 0o600


def test_a_link_in_its_place_is_not_followed(accepted: Accepted, directory: Path) -> None:
    (directory / JOURNAL_FILE).symlink_to(directory / "target")
    patch = step(CONFIGURATION)
    with pytest.raises(OSError, match="symbolic links"):
        accepted.draft(CONFIGURATION.patched(patch), patch)


# --- crashes ----------------------------------------------------------------------------------------


class CrashError(BaseException):
    """The process ended."""


class Crashes:
    """Ends the process at the n-th of its calls that change a file: before it, in the middle, or after it."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._left, self._when = -1, ""
        self.happened = False
        for place, name in (
            (os, "pwrite"),
            (os, "ftruncate"),
            (os, "open"),
            (Path, "replace"),
            (Path, "unlink"),
        ):
            monkeypatch.setattr(place, name, self._wrapped(getattr(place, name), name))

    def arm(self, after: int, when: str) -> None:
        self._left, self._when, self.happened = after, when, False

    def _wrapped(self, call: Callable[..., Any], name: str) -> Callable[..., Any]:
        def wrapped(*arguments: Any, **options: Any) -> Any:
            if self._left < 0:
                return call(*arguments, **options)
            self._left -= 1
            if self._left >= 0:
                return call(*arguments, **options)
            self.happened = True
            if self._when == "after":
                call(*arguments, **options)
            elif self._when == "within" and name == "pwrite":
                fd, content, offset = arguments
                call(fd, content[: len(content) // 2], offset)
            raise CrashError

        return wrapped


@pytest.fixture
def crashes(monkeypatch: pytest.MonkeyPatch) -> Crashes:
    return Crashes(monkeypatch)


def history(directory: Path, done: list[Configuration]) -> None:
    """Of a process: whole copies and changes; `done` are those that were acknowledged."""
    accepted = Accepted(directory)
    configuration = accepted.load_configuration() or CONFIGURATION
    for number in (7, 8, 0, 9, 7):
        if number:
            configuration = accept(accepted, configuration, step(configuration, number))
        else:
            configuration = configuration.at(configuration.generation + 1)
            accepted.draft(configuration).publish()
        done.append(configuration)


@pytest.mark.parametrize("when", ["before", "within", "after"])
def test_what_was_acknowledged_is_found_after_a_crash_at_any_step(
    tmp_path: Path, crashes: Crashes, when: str
) -> None:
    for step_of_it in range(60):
        directory = tmp_path / str(step_of_it)
        directory.mkdir()
        done: list[Configuration] = []
        history(directory, done)
        crashes.arm(step_of_it, when)
        with suppress(CrashError):
            history(directory, done)
        crashes.arm(-1, "")
        found = read(directory)
        assert found is not None
        assert found == done[-1] or found.generation == done[-1].generation + 1, "or the one under way"
        history(directory, done)
        assert read(directory) == done[-1], "and the next process goes on"
    assert not crashes.happened, "the last round has run through"


def test_no_room_changes_nothing(
    accepted: Accepted, directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system that is full takes part of a write."""
    configuration = accept(accepted, CONFIGURATION, step(CONFIGURATION))
    write = os.pwrite
    patch = step(configuration)
    with monkeypatch.context() as full:
        full.setattr(os, "pwrite", lambda fd, content, offset: write(fd, content[:9], offset))
        with pytest.raises(OSError, match="No space left"):
            accepted.draft(configuration.patched(patch), patch)
    assert read(directory) == configuration
    assert read(directory) == configuration
    assert accept(accepted, configuration, patch) == read(directory)


# --- damage -----------------------------------------------------------------------------------------


@pytest.fixture
def three(accepted: Accepted, directory: Path) -> bytes:
    """A journal with three changes."""
    configuration = CONFIGURATION
    for number in (7, 8, 9):
        configuration = accept(accepted, configuration, step(configuration, number))
    return (directory / JOURNAL_FILE).read_bytes()


def damaged(data: bytes, kind: str) -> bytes:
    head, first, second, third, end = data.split(b"\n")
    return {
        "a bit": data[:-40] + bytes([data[-40] ^ 1]) + data[-39:],
        "one is missing": b"\n".join([head, first, third, end]),
        "one comes twice": b"\n".join([head, first, first, second, third, end]),
        "one in the middle does not count": b"\n".join([head, first, b"-" + second[1:], third, end]),
        "something between them": b"\n".join([head, first, b"?", second, third, end]),
        "something after them": data + b"? what is this",
        "the head": b"{}" + data[len(head) :],
        "of another version": data.replace(b'"version":1', b'"version":2'),
        "the end is cut off": data[:-9],
    }[kind]


@pytest.mark.parametrize(
    "kind",
    [
        "a bit",
        "one is missing",
        "one comes twice",
        "one in the middle does not count",
        "something between them",
        "something after them",
        "the head",
        "of another version",
        "the end is cut off",
    ],
)
def test_damage_is_refused_whole_and_says_so_without_secrets(
    directory: Path, three: bytes, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Never a guess: the mounted copy counts then."""
    (directory / JOURNAL_FILE).write_bytes(damaged(three, kind))
    accepted = Accepted(directory)
    with caplog.at_level(logging.ERROR):
        assert accepted.load_configuration() is None
    assert "is not used" in caplog.text
    assert PRIVATE not in caplog.text
    assert SECRET not in caplog.text
    configuration = accept(accepted, CONFIGURATION, step(CONFIGURATION))
    assert read(directory) == configuration, "it is begun anew"


def test_a_head_that_was_never_finished_counts_for_nothing(directory: Path, three: bytes) -> None:
    (directory / JOURNAL_FILE).write_bytes(three[:20])
    assert read(directory) == CONFIGURATION


# --- cost -------------------------------------------------------------------------------------------


def many(count: int) -> Configuration:
    peers = [PeerSpec(key(n), None, (f"10.9.{n >> 8}.{n & 255}/32",)) for n in range(1000, 1000 + count)]
    return Configuration.of(5, SPEC, peers)


def test_a_change_costs_the_same_for_a_thousand_peers(tmp_path: Path) -> None:
    """In calls; copies of tables are one."""
    costs = []
    for count in (10, 1000):
        directory = tmp_path / str(count)
        directory.mkdir()
        accepted = Accepted(directory)
        accepted.draft(many(count)).publish()
        configuration = accept(accepted, many(count), step(many(count)))
        patch = step(configuration)
        costs.append(calls(accept, accepted, configuration, patch))
    assert costs[0] == costs[1]
