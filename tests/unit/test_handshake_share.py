"""While data waits, handshakes get <= 0.5 ms and <= 25 % of a turn, but at least one (RECOVERY, 4)."""

from __future__ import annotations

import pytest

from handfast_tunnel.adapters.handshake_share import IDLE_SLICE, SHARE, SLICE, HandshakeShare

COST = 0.0001


class Clock:
    """Stands still unless something is done."""

    now = 1000.0


class Device:
    """A queue of handshake messages; each takes its time to be worked off."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.queued = 0
        self.cost = COST
        self.told = 0.0
        self.sent = 0

    @property
    def handshake_backlog(self) -> bool:
        return self.queued > 0

    def process_handshake(self, now: float) -> None:
        assert now == self._clock.now, "stamps are of the moment"
        self.queued -= 1
        self._clock.now += self.cost

    def set_handshake_cost(self, seconds: float) -> None:
        self.told = seconds

    def transmit(self) -> None:
        self.sent += 1


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def device(clock: Clock) -> Device:
    return Device(clock)


@pytest.fixture
def share(clock: Clock, device: Device) -> HandshakeShare:
    """One that knows what a message costs."""
    share = HandshakeShare(device, lambda: clock.now, device.transmit)
    for _ in range(100):
        turn(share, clock, device, data=None)
    return share


def turn(share: HandshakeShare, clock: Clock, device: Device, *, data: float | None) -> tuple[int, float]:
    """A turn that moves data for so long, with more handshakes than fit: how many were done, and how long."""
    device.queued = 1000
    if data is not None:
        share.data_came(clock.now)
        clock.now += data
    began = clock.now
    assert share.work_off(began) == clock.now
    share.end_turn()
    return 1000 - device.queued, clock.now - began


def test_a_turn_with_much_data_has_half_a_millisecond(
    share: HandshakeShare, clock: Clock, device: Device
) -> None:
    done, taken = turn(share, clock, device, data=0.050)
    assert done == 5
    assert taken == pytest.approx(SLICE)


@pytest.mark.parametrize("data", [0.0007, 0.0010, 0.0014])
def test_a_turn_with_little_data_gives_a_quarter_of_itself(
    share: HandshakeShare, clock: Clock, device: Device, data: float
) -> None:
    done, taken = turn(share, clock, device, data=data)
    assert taken / (taken + data) <= SHARE
    assert (taken + COST) / (taken + COST + data) > SHARE, "one more would not have fitted"
    assert done > 1


def test_however_little_there_is_at_least_one(share: HandshakeShare, clock: Clock, device: Device) -> None:
    device.cost = 0.010
    assert turn(share, clock, device, data=0.0)[0] == 1
    assert turn(share, clock, device, data=0.050)[0] == 1


def test_without_data_the_whole_turn_is_theirs(share: HandshakeShare, clock: Clock, device: Device) -> None:
    done, taken = turn(share, clock, device, data=None)
    assert taken == pytest.approx(IDLE_SLICE, abs=COST)
    assert done > 10 * SLICE / COST - 2


def test_the_wait_before_the_data_is_nobodys_share(
    share: HandshakeShare, clock: Clock, device: Device
) -> None:
    clock.now += 60
    assert turn(share, clock, device, data=0.0003)[0] == 1
    clock.now += 60
    assert turn(share, clock, device, data=0.0003)[0] == 1


def test_data_of_both_directions_counts_from_the_first_on(
    share: HandshakeShare, clock: Clock, device: Device
) -> None:
    share.data_came(clock.now)
    clock.now += 0.0010
    _, taken = turn(share, clock, device, data=0.0002)
    assert taken == pytest.approx(0.0004)


def test_one_turns_data_is_not_the_next_ones(share: HandshakeShare, clock: Clock, device: Device) -> None:
    turn(share, clock, device, data=0.050)
    assert turn(share, clock, device, data=None)[1] > SLICE


def test_answers_leave_one_by_one_and_the_cost_is_told(
    share: HandshakeShare, clock: Clock, device: Device
) -> None:
    sent = device.sent
    done, _ = turn(share, clock, device, data=None)
    assert device.sent - sent == done
    assert device.told == pytest.approx(COST, rel=0.01)
    device.queued, began = 0, clock.now
    assert share.work_off(began) == began, "nothing queued, nothing done"
