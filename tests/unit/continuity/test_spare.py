"""A spare worker waits for the death of the one that serves, and takes its place."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from handfast_tunnel.adapters import keeper
from handfast_tunnel.adapters.keeper import KeeperLine, RestartLimit

from .kept import PATIENCE, Kept, Work, children, die, live_until, serve, state_of, wait_for


def spare(line: KeeperLine) -> int:
    live_until(line, lambda: len(children()) > 1)
    return children()[1]


def takes_over(kept: Kept, meanwhile: Callable[[KeeperLine], None]) -> Work:
    """A worker that dies after `meanwhile`; the one that takes over reports its number."""

    def work(line: KeeperLine) -> int:
        if line.inherited:
            kept.report(os.getpid())
            return 0
        line.hold("tun", 0)
        serve(line)
        meanwhile(line)
        die()
        return 1

    return work


def test_a_spare_takes_over_with_what_is_held(kept: Kept) -> None:
    reader, writer = os.pipe()

    def work(line: KeeperLine) -> int:
        if line.inherited:
            kept.report(f"{os.getpid()} {os.read(line.inherited['pipe'], 100).decode()}")
            return 0
        os.write(writer, b"from the first worker")
        line.hold("pipe", reader)
        line.hold("other", writer)
        serve(line)
        kept.report(spare(line))
        die()
        return 1

    kept.start(work)
    assert kept.line() == "first ready"
    waiting = kept.line()
    assert kept.line() == f"{waiting} from the first worker"
    assert kept.status() == 0
    os.close(reader)
    os.close(writer)


def test_a_spare_rehearses_and_prepares_and_then_waits(kept: Kept) -> None:
    def prepare(line: KeeperLine) -> None:
        if line.is_spare:
            kept.report(f"prepares, with {','.join(line.inherited)}")

    kept.rehearse = lambda: kept.report("rehearses")
    kept.prepare = prepare
    kept.start(takes_over(kept, lambda line: kept.report(spare(line))))
    lines = [kept.line() for _ in range(5)]
    assert sorted(lines[:4]) == sorted(["first ready", lines[4], "prepares, with tun", "rehearses"])
    assert kept.status() == 0


def test_what_is_let_go_of_does_not_live_on_in_a_spare(kept: Kept) -> None:
    reader, writer = os.pipe()

    def change(line: KeeperLine) -> None:
        os.close(reader)
        line.hold("pipe", writer)
        os.close(writer)
        former = spare(line)
        line.release("pipe")
        kept.report(former in children())
        kept.report(spare(line) != former)

    kept.start(takes_over(kept, change))
    os.close(writer)
    assert [kept.line() for _ in range(3)] == ["first ready", "False", "True"]
    assert not os.read(reader, 1), "nobody holds the other end"
    os.close(reader)
    assert kept.line()
    assert kept.status() == 0


def test_a_spare_that_fails_does_so_when_it_is_needed(kept: Kept) -> None:
    """Until then what it saw may have been the other one's end. Meanwhile there is no second one."""

    def prepare(line: KeeperLine) -> None:
        if line.is_spare:
            kept.report("fails")
            raise RuntimeError

    def wait(line: KeeperLine) -> None:
        former = spare(line)
        for _ in range(20):
            line.alive()
            time.sleep(0.01)
        kept.report(children()[1:] == [former])

    kept.prepare = prepare
    kept.start(takes_over(kept, wait))
    assert [kept.line() for _ in range(3)] == ["first ready", "fails", "True"]
    assert kept.line(), "the next one was forked"
    assert kept.status() == 0


@pytest.mark.parametrize("fails", [False, True])
def test_a_rehearsal_that_fails_costs_no_spare(kept: Kept, fails: bool) -> None:
    def rehearse() -> None:
        if fails:
            raise RuntimeError

    kept.rehearse = rehearse
    kept.start(takes_over(kept, lambda line: kept.report(spare(line))))
    assert kept.line() == "first ready"
    assert kept.line() == kept.line()
    assert kept.status() == 0


def test_a_killed_spare_is_replaced_and_no_worker_died(kept: Kept) -> None:
    def kill_spares(line: KeeperLine) -> None:
        for _ in range(5):
            killed = spare(line)
            os.kill(killed, signal.SIGKILL)
            live_until(line, lambda killed=killed: killed not in children())  # type: ignore[misc]
        kept.report(spare(line))

    kept.start(takes_over(kept, kill_spares), RestartLimit(1, 60))
    assert kept.line() == "first ready"
    assert kept.line() == kept.line()
    assert kept.status() == 0


def test_without_its_spare_the_keeper_forks(kept: Kept) -> None:
    """It has not noticed yet that the spare is gone."""

    def kill_spare(line: KeeperLine) -> None:
        killed = spare(line)
        kept.report(killed)
        os.kill(killed, signal.SIGKILL)
        wait_for(lambda: state_of(killed) == "Z")

    kept.start(takes_over(kept, kill_spare), RestartLimit(1, 60))
    assert kept.line() == "first ready"
    assert kept.line() != kept.line()
    assert kept.status() == 0


def test_a_spare_that_hangs_holds_nobody_up(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is killed when it does not wake up, long before a worker that begins would be."""
    monkeypatch.setattr(keeper, "START_SECONDS", 10 * PATIENCE)

    def stop_spare(line: KeeperLine) -> None:
        stopped = spare(line)
        os.kill(stopped, signal.SIGSTOP)
        wait_for(lambda: state_of(stopped) == "T")
        kept.report(stopped)

    kept.start(takes_over(kept, stop_spare))
    assert kept.line() == "first ready"
    assert kept.line() != kept.line()
    assert kept.status() == 0


def test_a_spare_dies_with_its_keeper(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        serve(line)
        spare(line)
        kept.report("serving")
        time.sleep(PATIENCE)
        return 0

    kept.start(work)
    assert [kept.line(), kept.line()] == ["first ready", "serving"]
    os.kill(kept.pid, signal.SIGKILL)
    assert kept.line() == "", "no process is left that could report"


def test_a_spare_ends_with_its_keeper(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        serve(line)
        kept.report(spare(line))
        return 0

    kept.start(work)
    assert kept.line() == "first ready"
    waiting = kept.line()
    assert kept.status() == 0
    assert not Path(f"/proc/{waiting}").exists()


def test_who_cannot_be_replaced_has_no_spare(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        line.can_be_replaced = False
        serve(line)
        for _ in range(3):
            line.alive()
        line.release("nothing")
        kept.report(len(children()))
        return 0

    kept.start(work)
    assert [kept.line(), kept.line()] == ["first ready", "1"]
    assert kept.status() == 0
