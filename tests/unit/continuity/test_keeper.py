"""What a keeper does for its worker, and after it."""

from __future__ import annotations

import os
import resource
import signal
import time
from pathlib import Path

import pytest

from handfast_tunnel.adapters import keeper
from handfast_tunnel.adapters.keeper import READY, Keeper, KeeperLine, NotHeldError, RestartLimit
from handfast_tunnel.adapters.systemd import Notifier

from .kept import PATIENCE, Kept, children, die, live_until, serve, state_of, wait_for

# --- the end -------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 3])
def test_a_worker_that_never_served_ends_the_keeper(kept: Kept, status: int) -> None:
    kept.start(lambda _: status)
    assert kept.status() == status


def test_a_worker_that_ends_on_purpose_ends_the_keeper(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        line.ready()
        return 0

    kept.start(work)
    assert kept.status() == 0
    assert kept.line() == "first ready"


def test_a_worker_killed_before_it_served_ends_the_keeper(kept: Kept) -> None:
    def work(_: KeeperLine) -> int:
        die()
        return 0

    kept.start(work)
    assert kept.status() == 128 + signal.SIGKILL


def test_a_worker_that_fails_says_so(kept: Kept) -> None:
    def work(_: KeeperLine) -> int:
        raise RuntimeError

    kept.start(work)
    assert kept.status() == os.EX_SOFTWARE


def test_a_worker_dies_with_its_keeper(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        serve(line)
        kept.report("serving")
        time.sleep(PATIENCE)
        return 0

    kept.start(work)
    assert [kept.line(), kept.line()] == ["first ready", "serving"]
    os.kill(kept.pid, signal.SIGKILL)
    assert kept.line() == ""


# --- descriptors ---------------------------------------------------------------------------------


def test_what_is_held_outlives_workers(kept: Kept) -> None:
    reader, writer = os.pipe()

    def work(line: KeeperLine) -> int:
        kept.report(",".join(sorted(line.inherited)))
        if not line.inherited:
            os.write(writer, b"from the first worker")
            line.hold("pipe", reader)
            line.hold("other", writer)
            line.release("other")
            line.ready()
            die()
        kept.report(os.read(line.inherited["pipe"], 100).decode())
        return 0

    kept.start(work)
    os.close(reader)
    os.close(writer)
    lines = [kept.line() for _ in range(4)]
    assert lines == ["", "first ready", "pipe", "from the first worker"]
    assert kept.status() == 0


def test_what_is_held_is_held_when_the_call_returns(kept: Kept) -> None:
    """Dying right after it loses nothing."""

    def work(line: KeeperLine) -> int:
        if len(line.inherited) == 8:
            return 0
        line.ready()
        line.hold(str(len(line.inherited)), 0)
        die()
        return 1

    kept.start(work, RestartLimit(20, 60))
    assert kept.status() == 0


def test_held_again_under_a_name_the_older_is_let_go(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        descriptors = Path(f"/proc/{os.getppid()}/fd")
        line.hold("tun", 0)
        before = len(list(descriptors.iterdir()))
        for _ in range(5):
            line.hold("tun", 0)
        kept.report(len(list(descriptors.iterdir())) - before)
        line.release("tun")
        kept.report(len(list(descriptors.iterdir())) - before)
        return 0

    kept.start(work)
    assert [kept.line(), kept.line()] == ["0", "-1"]


def test_what_finds_no_room_is_refused_and_nothing_else_changes(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        if line.inherited:
            kept.report(",".join(line.inherited))
            return 0
        line.hold("tun", 0)
        serve(line)
        keeper_id = os.getppid()
        taken = [int(fd.name) for fd in Path(f"/proc/{keeper_id}/fd").iterdir()]
        free = next(number for number in range(len(taken) + 1) if number not in taken)
        former, most = resource.prlimit(keeper_id, resource.RLIMIT_NOFILE)
        resource.prlimit(keeper_id, resource.RLIMIT_NOFILE, (free, most))
        for name in ("tun", "udp"):
            with pytest.raises(NotHeldError, match=f"cannot hold {name}: Too many open files"):
                line.hold(name, 0)
        resource.prlimit(keeper_id, resource.RLIMIT_NOFILE, (former, most))
        die()
        return 1

    kept.start(work)
    assert [kept.line(), kept.line()] == ["first ready", "tun"]
    assert kept.status() == 0


# --- deaths --------------------------------------------------------------------------------------


def test_too_many_deaths_end_the_keeper(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        kept.report("worker")
        line.ready()
        die()
        return 0

    kept.start(work, RestartLimit(2, 60))
    assert kept.status() == 1
    assert [kept.line() for _ in range(5)] == ["worker", "first ready", "worker", "worker", ""]


def test_deaths_long_ago_do_not_count(kept: Kept) -> None:
    lives = 6

    def work(line: KeeperLine) -> int:
        line.ready()
        if len(line.inherited) == lives:
            return 0
        line.hold(str(len(line.inherited)), 0)
        time.sleep(0.15)
        die()
        return 1

    kept.start(work, RestartLimit(2, 0.2))
    assert kept.status() == 0


def test_a_worker_that_hangs_is_killed(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keeper, "WATCHDOG_SECONDS", 0.5)

    def work(line: KeeperLine) -> int:
        if line.inherited:
            return 0
        line.hold("tun", 0)
        line.ready()
        for _ in range(10):
            line.alive()
            time.sleep(0.1)
        kept.report("hangs")
        time.sleep(PATIENCE)
        return 1

    kept.start(work)
    assert [kept.line(), kept.line()] == ["first ready", "hangs"]
    assert kept.status() == 0


def test_a_successor_that_hangs_before_it_serves_is_killed(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "START_SECONDS", 0.3)

    def work(line: KeeperLine) -> int:
        lives = len(line.inherited)
        line.hold(str(lives), 0)
        if lives == 1:
            kept.report("hangs")
            time.sleep(PATIENCE)
        if lives == 2:
            return 0
        line.ready()
        die()
        return 1

    kept.start(work)
    assert [kept.line(), kept.line()] == ["first ready", "hangs"]
    assert kept.status() == 0


def test_a_first_worker_that_hangs_before_it_serves_ends_the_keeper(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where it could not start once it could not twice: who started it is told, instead of waiting."""
    monkeypatch.setattr(keeper, "START_SECONDS", 0.3)

    def work(_: KeeperLine) -> int:
        kept.report("hangs")
        time.sleep(PATIENCE)
        return 1

    kept.start(work)
    assert kept.status() == 128 + signal.SIGKILL
    assert [kept.line(), kept.line()] == ["hangs", ""]


def test_a_worker_whose_start_takes_long_but_goes_on_is_left_alone(
    kept: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keeper, "START_SECONDS", 0.5)

    def work(line: KeeperLine) -> int:
        for number in range(10):
            time.sleep(0.1)
            line.hold(str(number), 0)
        line.ready()
        return 0

    kept.start(work)
    assert kept.line() == "first ready"
    assert kept.status() == 0


def test_a_worker_that_leaves_nothing_to_go_on_from_is_not_replaced(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        line.can_be_replaced = False
        line.ready()
        die()
        return 0

    kept.start(work)
    assert kept.status() == 128 + signal.SIGKILL
    assert [kept.line(), kept.line()] == ["first ready", ""]


def test_a_death_in_the_middle_of_a_request_is_but_a_death(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        if line.inherited:
            return 0
        line.hold("tun", 0)
        serve(line)
        kept.report(os.getpid())
        os.kill(os.getppid(), signal.SIGSTOP)
        line._line.send(READY)
        die()
        return 1

    kept.start(work)
    assert kept.line() == "first ready"
    worker = int(kept.line())
    wait_for(lambda: state_of(worker) == "Z")
    os.kill(kept.pid, signal.SIGCONT)
    assert kept.status() == 0


# --- signals and orphans -------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_signals_reach_the_worker(kept: Kept, number: signal.Signals) -> None:
    def work(line: KeeperLine) -> int:
        caught: list[int] = []
        signal.signal(number, lambda got, _: caught.append(got))
        serve(line)
        kept.report("serving")
        wait_for(lambda: bool(caught))
        return 0

    kept.start(work)
    assert [kept.line(), kept.line()] == ["first ready", "serving"]
    os.kill(kept.pid, number)
    assert kept.status() == 0


def test_once_told_to_end_no_other_worker_starts(kept: Kept) -> None:
    def work(line: KeeperLine) -> int:
        serve(line)
        kept.report("serving")
        time.sleep(PATIENCE)
        return 0

    kept.start(work)
    assert [kept.line(), kept.line()] == ["first ready", "serving"]
    os.kill(kept.pid, signal.SIGTERM)
    assert kept.status() == 128 + signal.SIGTERM
    assert kept.line() == ""


def test_a_signal_between_two_workers_is_not_lost() -> None:
    idle = Keeper(lambda _: 1, RestartLimit(), lambda: None, Notifier({}))
    before = {number: signal.getsignal(number) for number in keeper.FORWARDED_SIGNALS}
    try:
        idle._forward(signal.SIGTERM, None)
        assert idle.run() == 0
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def test_orphans_are_reaped_while_the_worker_lives(kept: Kept) -> None:
    """In a container the keeper is PID 1; here it is a subreaper."""

    def work(line: KeeperLine) -> int:
        line.can_be_replaced = False  # no spare is among the keeper's children
        serve(line)
        for _ in range(5):
            middle = os.fork()
            if not middle:
                os.fork()
                os._exit(0)
            os.waitpid(middle, 0)
        live_until(line, lambda: len(children()) == 1)
        kept.report(children() == [os.getpid()])
        return 0

    kept.start(work)
    assert [kept.line(), kept.line()] == ["first ready", "True"]
    assert kept.status() == 0
