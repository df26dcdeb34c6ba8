from __future__ import annotations

import errno
import fcntl
import functools
import logging
import mmap
import os
import re
import resource
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import pytest

from handfast_tunnel import daemon
from handfast_tunnel.adapters.keeper import KeeperLine
from handfast_tunnel.continuity import state_file
from handfast_tunnel.continuity.layout import (
    HEADER_WORDS,
    PEER_WORDS,
    VERSION,
    WORD,
    Header,
    checksum,
    read_bytes,
)
from handfast_tunnel.continuity.state_file import (
    PEERS_PER_EXTENT,
    StateFile,
    StateRefusedError,
    prepare_directory,
    wait_until_free,
)
from handfast_tunnel.continuity.storage import KeypairFacts, Position
from handfast_tunnel.errors import StartError
from handfast_tunnel.options import Options, parse
from tests.unit.isolated import _in_child, _unshare

CLONE_NEWUSER, CLONE_NEWNS = 0x10000000, 0x20000
KEY, CONTEXT = b"p" * 32, b"context"
FACTS = KeypairFacts(b"s" * 32, b"r" * 32, 1, 2, True, 1.0, 120.0)
EXTENT = PEERS_PER_EXTENT * PEER_WORDS * WORD


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "wg0.state"


def begin(path: Path) -> StateFile:
    """A file with one session in it."""
    state = StateFile(path, "wg0")
    state.memory.peer_marks(KEY)
    numbers = state.memory.keypair_numbers(KEY, FACTS, CONTEXT)
    numbers.place(Position.CURRENT)
    numbers.ceiling = 512
    return state


def let_go(state: StateFile) -> None:
    """As the kernel does when the process ends."""
    fcntl.flock(state._fd, fcntl.LOCK_UN)
    os.close(state._fd)


@contextmanager
def opened(path: Path, interface: str = "wg0") -> Iterator[StateFile]:
    state = StateFile(path, interface)
    try:
        yield state
    finally:
        let_go(state)


def refused(path: Path, interface: str = "wg0") -> str | None:
    """Why it was begun anew; and then it holds nothing."""
    with opened(path, interface) as state:
        assert bool(state.refused) != state.memory.knows(KEY)
        return state.refused


@contextmanager
def header_of(path: Path) -> Iterator[memoryview]:
    """To be changed by hand."""
    with (
        path.open("r+b") as file,
        mmap.mmap(file.fileno(), 4096) as mapping,
        memoryview(mapping) as view,
        view.cast("Q") as words,
    ):
        yield words


@pytest.fixture
def written(path: Path) -> Path:
    let_go(begin(path))
    return path


def test_a_session_outlives_its_owner(written: Path) -> None:
    with opened(written) as state:
        assert state.refused is None
        assert state.incarnation == 2
        [recalled] = state.memory.recall(KEY, CONTEXT)
        assert recalled.facts == FACTS
        assert recalled.numbers.ceiling == 512


def test_a_new_file_is_for_its_owner_alone_and_has_its_room(path: Path) -> None:
    with opened(path) as state:
        status = path.stat()
        assert status.st_mode & 0o777 == 0o600
        assert status.st_size == HEADER_WORDS * WORD + EXTENT
        assert status.st_blocks * 512 >= status.st_size
        assert state.refused is None


def flags_of_mappings(path: Path) -> list[list[str]]:
    """VmFlags (proc(5)) of each mapping of the file in this process."""
    flags, is_its = [], False
    for line in Path("/proc/self/smaps").read_text().splitlines():
        name, *rest = line.split()
        if not name.endswith(":"):
            is_its = bool(rest) and rest[-1] == str(path)
        elif is_its and name == "VmFlags:":
            flags.append(rest)
    return flags


def test_no_mapping_of_it_is_dumped(path: Path) -> None:
    """MADV_DONTDUMP: keys do not lie in a core file, not even those of a session that came later."""
    state = begin(path)
    for number in range(PEERS_PER_EXTENT + 1):
        state.memory.peer_marks(number.to_bytes(32, "big"))
    mappings = flags_of_mappings(path)
    assert len(mappings) == 3, "the header and two extents"
    assert all("dd" in flags for flags in mappings)
    let_go(state)


def test_it_grows_without_losing_a_session(written: Path) -> None:
    keys = [number.to_bytes(32, "big") for number in range(1, PEERS_PER_EXTENT + 2)]
    with opened(written) as state:
        for key in keys:
            state.memory.peer_marks(key).outbound_stamp = 7
        assert written.stat().st_size == HEADER_WORDS * WORD + 2 * EXTENT
    with opened(written) as state:
        assert [each.facts for each in state.memory.recall(KEY, CONTEXT)] == [FACTS]
        assert all(state.memory.peer_marks(key).outbound_stamp == 7 for key in keys)


# --- refused -------------------------------------------------------------------------------------


def test_every_flipped_bit_of_the_header_is_refused(written: Path) -> None:
    for index in range(Header.CHECKSUM + 1):
        for bit in range(64):
            whole = written.read_bytes()
            with header_of(written) as header:
                header[index] ^= 1 << bit
            assert refused(written) is not None, (index, bit)
            written.write_bytes(whole)
    assert refused(written) is None


@pytest.mark.parametrize(
    ("index", "value", "reason"),
    [
        (Header.MAGIC, 5, "it is no state memory"),
        (Header.VERSION, VERSION + 1, "its layout is not version 2"),
        (Header.BOOT_ID, 5, "it was written before the machine was booted"),
        (Header.INTERFACE, 5, "it belongs to another interface"),
        (Header.PEERS, 0, "its length does not fit"),
        (Header.PEERS, PEERS_PER_EXTENT + 1, "its length does not fit"),
        (Header.CHECKSUM, 5, "its header is damaged"),
    ],
)
def test_another_header_is_refused(
    written: Path, index: int, value: int, reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with header_of(written) as header:
        header[index] = value
        if index != Header.CHECKSUM:
            header[Header.CHECKSUM] = checksum(read_bytes(header, 0, Header.CHECKSUM))
    assert refused(written) == reason
    assert reason in caplog.text


def test_another_interfaces_file_is_refused(written: Path) -> None:
    assert refused(written, "wg1") == "it belongs to another interface"


def test_another_boot_is_refused(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = tmp_path / "boot_id"
    other.write_text("01234567-89ab-cdef-0123-456789abcdef\n")
    monkeypatch.setattr(state_file, "BOOT_ID", other)
    assert refused(written) == "it was written before the machine was booted"


@pytest.mark.parametrize("size", [1, 4095, 4096, 4096 + WORD, 4096 + EXTENT - 1, 4096 + EXTENT + 1])
def test_a_truncated_file_is_refused(written: Path, size: int) -> None:
    os.truncate(written, size)
    assert refused(written) is not None
    assert written.stat().st_size == HEADER_WORDS * WORD + EXTENT


def test_nothing_of_a_refused_file_is_left(written: Path) -> None:
    assert b"s" * 32 in written.read_bytes()
    assert refused(written, "wg1")
    assert b"s" * 32 not in written.read_bytes()


# --- access --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [0o604, 0o640, 0o660, 0o602])
def test_a_file_open_to_others_is_refused(written: Path, mode: int) -> None:
    written.chmod(mode)
    with pytest.raises(StateRefusedError, match="open to others"):
        StateFile(written, "wg0")
    assert b"s" * 32 in written.read_bytes()


def test_another_users_file_is_refused(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    with pytest.raises(StateRefusedError, match="open to others"):
        StateFile(written, "wg0")


def test_a_link_is_not_followed(written: Path, tmp_path: Path) -> None:
    link = tmp_path / "wg1.state"
    link.symlink_to(written)
    with pytest.raises(StateRefusedError, match="cannot open"):
        StateFile(link, "wg0")


def test_a_file_that_another_process_holds_is_refused(written: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_file, "LOCK_PATIENCE", 0.05)
    holder = os.open(written, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    with pytest.raises(StateRefusedError, match="held by another process"):
        StateFile(written, "wg0")
    os.close(holder)
    assert refused(written) is None


def test_the_end_of_an_owner_is_waited_for(written: Path) -> None:
    """And nothing of the file is kept."""
    holder = os.open(written, os.O_RDWR)
    fcntl.flock(holder, fcntl.LOCK_EX)
    let_go = threading.Timer(0.2, os.close, [holder])
    let_go.start()
    began = time.monotonic()
    assert wait_until_free(written)
    assert time.monotonic() - began > 0.1
    let_go.join()
    assert wait_until_free(written)
    assert refused(written) is None


def test_where_no_file_is_nobody_waits(path: Path) -> None:
    assert not wait_until_free(path)
    assert not path.exists()


def test_a_file_is_waited_for(written: Path) -> None:
    """The former owner may take a moment to die."""
    hold = (
        "import fcntl, sys, time; f = open(sys.argv[1]); fcntl.flock(f, 2); print(flush=True); time.sleep(.3)"
    )
    with subprocess.Popen([sys.executable, "-c", hold, str(written)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        began = time.monotonic()
        assert refused(written) is None
        assert time.monotonic() - began > 0.1


def test_a_child_does_not_inherit_the_lock(path: Path) -> None:
    state = begin(path)
    with subprocess.Popen(["sleep", "10"], close_fds=False) as child:
        let_go(state)
        assert refused(path) is None
        child.kill()


def test_a_directory_open_to_others_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o750)
    with pytest.raises(StateRefusedError, match="mode 0700"):
        prepare_directory(tmp_path, any_file_system=True)


def test_a_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    prepare_directory(tmp_path / "state", any_file_system=True)
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_directory_on_a_disk_is_refused_unless_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(state_file, "file_system", lambda _: "ext4")
    with pytest.raises(StateRefusedError, match="lies on ext4, not in memory"):
        prepare_directory(tmp_path, any_file_system=False)
    prepare_directory(tmp_path, any_file_system=True)


def test_file_systems_are_told_apart() -> None:
    assert state_file.file_system(Path("/proc")) == "proc"
    assert state_file.file_system(Path("/dev/shm")) == "tmpfs"


# --- secrets -------------------------------------------------------------------------------------


def mappings(path: Path) -> list[tuple[int, set[str]]]:
    """Bytes and VmFlags (proc(5)) of each mapping of the file in this process; neighbours may be one."""
    blocks = re.split(r"(?m)^(?=[0-9a-f]+-)", Path("/proc/self/smaps").read_text())
    found = []
    for block in (block for block in blocks if str(path) in block):
        first, last = re.findall(r"[0-9a-f]+", block)[:2]
        flags = re.search(r"VmFlags: (.*)", block)
        found.append((int(last, 16) - int(first, 16), set(flags[1].split()) if flags else set()))
    return found


def test_keys_are_neither_swapped_nor_dumped(path: Path) -> None:
    with opened(path) as state:
        for number in range(PEERS_PER_EXTENT + 1):
            state.memory.peer_marks(number.to_bytes(32, "big")).last_sent = 1.0
            if not number:
                list(state.lock_into_memory())
        found = mappings(path)
        assert sum(size for size, _ in found) == path.stat().st_size, "header, first extent, second"
        assert all({"lo", "dd"} <= flags for _, flags in found)


def _without_a_right_to_lock() -> None:
    _unshare(CLONE_NEWUSER)
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))


def _is_told_that_keys_may_be_swapped(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with opened(path) as state:
        list(state.lock_into_memory())
        assert all("lo" not in flags for _, flags in mappings(path))
    assert caplog.text.count("session keys may be swapped to a disk") == 1


def test_a_refused_lock_is_a_warning(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    _in_child(_is_told_that_keys_may_be_swapped, _without_a_right_to_lock)(path, caplog)


# --- a full tmpfs --------------------------------------------------------------------------------


def _small_tmpfs(size: int) -> None:
    _unshare(CLONE_NEWUSER | CLONE_NEWNS)
    subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs", "/mnt"], check=True, timeout=10
    )


def _options(*arguments: str) -> Options:
    return parse([*arguments, "wg0"], {})


def _no_line() -> KeeperLine:
    return KeeperLine(None, {})  # type: ignore[arg-type]


def _start_in_a_full_tmpfs() -> None:
    with pytest.raises(OSError, match="No space left") as full:
        StateFile(Path("/mnt/wg0.state"), "wg0")
    assert full.value.errno == errno.ENOSPC
    with pytest.raises(StartError, match=r"no state memory: .*No space left"):
        daemon._memory("wg0", _options("--state", "/mnt"), _no_line())
    optional = parse(["wg0"], {})._replace(state=Path("/mnt"))
    assert daemon._memory("wg0", optional, _no_line()) == (None, None)


def _grow_in_a_full_tmpfs() -> None:
    state = StateFile(Path("/mnt/wg0.state"), "wg0")
    for number in range(1, PEERS_PER_EXTENT + 3):
        state.memory.peer_marks(number.to_bytes(32, "big")).last_sent = 1.0
    assert state.memory.knows((PEERS_PER_EXTENT).to_bytes(32, "big"))
    assert not state.memory.knows((PEERS_PER_EXTENT + 1).to_bytes(32, "big"))


def test_a_tunnel_starts_without_room() -> None:
    _in_child(_start_in_a_full_tmpfs, functools.partial(_small_tmpfs, 65536))()


def test_a_tunnel_runs_on_without_room() -> None:
    _in_child(_grow_in_a_full_tmpfs, functools.partial(_small_tmpfs, EXTENT + 65536))()


# --- the worst that can happen to a process ------------------------------------------------------


def _store_for_ever(path: Path) -> NoReturn:
    state = begin(path)
    numbers = state.memory.keypair_numbers(KEY, FACTS._replace(local_index=9), CONTEXT)
    numbers.place(Position.NEXT)
    counter = 1 << 56
    while True:
        counter += 1
        numbers.ceiling = counter


def test_a_reader_never_sees_half_a_ceiling(path: Path) -> None:
    """And what SIGKILL leaves is as good as what a reader saw last."""
    pid = os.fork()
    if not pid:
        logging.disable()
        _store_for_ever(path)
    try:
        while not path.exists() or path.stat().st_size < EXTENT:
            time.sleep(0.01)
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapping,
            memoryview(mapping) as view,
            view.cast("Q") as words,
        ):
            at = _until_found(words, 1 << 56)
            seen = [words[at] for _ in range(200_000)]
    finally:
        os.kill(pid, 9)
        os.waitpid(pid, 0)
    assert seen == sorted(seen)
    with opened(path) as state:
        ceilings = [each.numbers.ceiling for each in state.memory.recall(KEY, CONTEXT)]
        assert max(ceilings) >= seen[-1]


def _until_found(words: memoryview, least: int) -> int:
    """Where the ceiling lies that is being stored."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        for at in range(HEADER_WORDS, len(words)):
            if least < words[at] < least + (1 << 40):
                return at
    raise AssertionError("nothing was stored")
