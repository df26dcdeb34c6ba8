"""Which tests come first, and which run on one worker, one after the other."""

from __future__ import annotations

from typing import Final

from xdist.scheduler import LoadScopeScheduling

_WITH_MACHINES_OF_THEIR_OWN: Final = (
    "test_api_server.py",
    "test_chart.py",
    "test_first_tunnel.py",
    "test_lives.py",
)
_FIRST, _LAST = "test_sessions_begin", "test_sessions_renew_themselves_under_traffic"
_MEANWHILE: Final = (
    "test_cadence.py",
    "test_confirmation.py",
    "test_firewall.py",
    "test_giving_up.py",
    "test_keepalives.py",
    "test_rekey.py",
    "test_timers_outlive.py",
)
"""Between the first and the last test of `test_rekey.py` are two minutes: who waits anyhow waits then."""
_CLUSTER, _SESSIONS, _LONG, _MUTATION, _INTEROP, _SECOND_CLUSTER, _SHORT = range(7)


class Scheduling(LoadScopeScheduling):  # type: ignore[misc]  # xdist has no types
    """Workers take the next test when they are through with one. (`loadgroup` of xdist 3.8 groups nothing
    under pytest 9.2.)"""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid) or nodeid


def group_of(nodeid: str) -> str | None:
    """The tests of a cluster: others would wait for its nodes. And those of sessions that grow old."""
    path, _, name = nodeid.partition("::")
    *_, folder, file = path.split("/")
    if folder == "cluster" and file not in _WITH_MACHINES_OF_THEIR_OWN:
        return "nftables" if "nftables" in name else "iptables"
    return "sessions" if folder == "interop" and file in _MEANWHILE else None


def turn_of(nodeid: str, *, long: bool) -> tuple[int, int]:
    """What takes long comes first, so that nothing waits for it in the end; what needs a second cluster comes
    late, as that takes processor time from then on."""
    group = group_of(nodeid)
    if group == "sessions":
        name = nodeid.rpartition("::")[2]
        return _SESSIONS, {_FIRST: 0, _LAST: 2}.get(name, 1)
    if group:
        return (_CLUSTER if group == "iptables" else _SECOND_CLUSTER), 0
    folder = nodeid.partition("::")[0].split("/")[-2]
    if folder == "cluster":
        return _INTEROP, 0
    return (_LONG if long else {"mutations": _MUTATION, "interop": _INTEROP}.get(folder, _SHORT)), 0
