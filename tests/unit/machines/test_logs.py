"""Logs have a bound, whatever a guest writes; readers keep up with what is rotated away."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli.machines import logs as reading
from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.logfiles import Tail, dropped, end, last_lines, older
from rave_cli.machines.qemu import logkeeper, logs
from tests.waiting import CEILING, NEVER, until

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

MOST = 100


@pytest.fixture
def pipe(tmp_path: Path) -> Path:
    place = tmp_path / "pipe"
    os.mkfifo(place)
    return place


class Kept:
    """A log that is kept, and the end of the pipe that a guest writes into."""

    def __init__(self, folder: Path, most: int = MOST) -> None:
        self.path = folder / "log"
        place = folder / "pipe"
        place.unlink(missing_ok=True)
        os.mkfifo(place)
        self.log = logkeeper.Log(str(place), str(self.path), most)
        self.writer = os.open(place, os.O_WRONLY)

    def write(self, data: bytes) -> None:
        os.write(self.writer, data)
        while self.log.take():
            if not _waits(self.log.fd):
                return

    def close(self) -> None:
        for fd in (self.writer, self.log.fd, self.log.file):
            os.close(fd)


def _waits(fd: int) -> bool:
    from select import select

    return bool(select([fd], [], [], 0)[0])


@settings(max_examples=60)
@given(st.lists(st.binary(min_size=1, max_size=350), max_size=12))
def test_a_log_holds_the_end_of_what_was_written_within_its_bound_and_counts_the_rest(
    tmp_path_factory: pytest.TempPathFactory, written: list[bytes]
) -> None:
    kept = Kept(tmp_path_factory.mktemp("log"))
    for data in written:
        kept.write(data)
    kept.close()
    total = b"".join(written)
    found = end(kept.path, 10 * MOST)
    assert len(found) <= 2 * MOST
    assert total.endswith(found)
    assert len(found) + dropped(kept.path) == len(total)
    assert len(found) == len(total) or len(found) > MOST


@settings(max_examples=60)
@given(st.lists(st.tuples(st.binary(min_size=1, max_size=250), st.booleans()), max_size=12))
def test_a_tail_misses_nothing_that_is_still_there_and_repeats_nothing(
    tmp_path_factory: pytest.TempPathFactory, written: list[tuple[bytes, bool]]
) -> None:
    kept = Kept(tmp_path_factory.mktemp("log"))
    tail, read, behind = Tail(kept.path), b"", 0
    total = b""
    for data, look in [*written, (b"end", True)]:
        kept.write(data)
        total += data
        behind += len(data)
        if look:
            new = b""
            while part := tail.read(64):
                new += part
            # What it missed was dropped meanwhile.
            assert total.endswith(new)
            assert len(new) >= min(behind, MOST)
            read, behind = read + new, 0
    kept.close()
    assert len(read) <= len(total)


def test_a_tail_reads_only_what_is_new(tmp_path: Path) -> None:
    path = tmp_path / "log"
    tail = Tail(path)
    assert tail.read() == b""
    path.write_bytes(b"one")
    assert tail.read() == b"one"
    assert tail.read() == b""
    with path.open("ab") as stream:
        stream.write(b"two")
    assert tail.read(2) == b"tw"
    tail.skip()
    assert tail.read() == b""


def test_the_last_lines_of_a_long_log_are_found(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(b"".join(b"line %d\r\n" % number for number in range(100_000)))
    assert last_lines(path, 2) == ("line 99998", "line 99999")
    path.rename(older(path))
    path.write_bytes(b"line 100000\r\n")
    assert last_lines(path, 2) == ("line 99999", "line 100000")
    assert last_lines(tmp_path / "none") == ()
    assert read_events(tmp_path / "none") == []


def keeper(*words: str | Path | int) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-ISE", logkeeper.__file__, *map(str, words)])


def test_a_flood_ends_within_the_bound_and_the_keeper_with_its_writer(
    tmp_path: Path, pipe: Path
) -> None:
    path = tmp_path / "log"
    with keeper(pipe, path, 1 << 20) as child, pipe.open("wb") as guest:
        for _ in range(50):
            guest.write(b"x" * (1 << 20))
        guest.write(b"last")
        guest.close()
        assert child.wait(CEILING) == 0
    assert path.stat().st_size <= 1 << 20
    assert older(path).stat().st_size == 1 << 20
    assert end(path, 4) == b"last"
    assert dropped(path) + len(end(path, 1 << 30)) == (50 << 20) + 4
    assert path.stat().st_mode & 0o777 == 0o600


def test_one_pipe_s_flood_does_not_keep_another_waiting(tmp_path: Path, pipe: Path) -> None:
    other = tmp_path / "other"
    os.mkfifo(other)
    words = (pipe, tmp_path / "a", 1 << 16, other, tmp_path / "b", 1 << 16)
    with keeper(*words), pipe.open("wb", 0) as flood, other.open("wb", 0) as quiet:
        for _ in range(200):
            flood.write(b"x" * (1 << 16))
        quiet.write(b"heard")
        for _ in range(20):
            flood.write(b"x" * (1 << 16))
        until(lambda: (tmp_path / "b").read_bytes() == b"heard")


def test_a_keeper_whose_qemu_never_comes_ends(
    tmp_path: Path, pipe: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logkeeper, "OPENS", 0.1)
    logkeeper.main([str(pipe), str(tmp_path / "log"), "100"])
    assert (tmp_path / "log").read_bytes() == b""


def test_a_writer_that_comes_and_goes_without_a_word_ends_the_keeper_at_once(
    tmp_path: Path, pipe: Path
) -> None:
    with keeper(pipe, tmp_path / "log", 100) as child:
        while True:
            with suppress(OSError):
                os.close(os.open(pipe, os.O_WRONLY | os.O_NONBLOCK))
                break
        assert child.wait(CEILING) == 0


def test_a_keeper_that_waits_does_not_spin(tmp_path: Path, pipe: Path) -> None:
    other = tmp_path / "other"
    os.mkfifo(other)
    words = (pipe, tmp_path / "a", 100, other, tmp_path / "b", 100)
    # One pipe is open and silent, the other nobody has opened yet.
    with keeper(*words) as child, pipe.open("wb") as silent:
        stat = Path(f"/proc/{child.pid}/stat")

        def stands_still() -> bool:
            """Whether it waits now, and used no processor for a while."""
            before = stat.read_text().rpartition(")")[2].split()
            time.sleep(0.5)
            after = stat.read_text().rpartition(")")[2].split()
            return after[0] == "S" and before[11:13] == after[11:13]

        until(stands_still)
        silent.close()
        assert child.wait(CEILING) == 0


def test_a_log_that_cannot_be_written_stops_neither_the_keeper_nor_the_guest(
    tmp_path: Path,
) -> None:
    kept = Kept(tmp_path)
    os.close(kept.log.file)
    kept.log.file = os.open("/dev/full", os.O_WRONLY)
    kept.write(b"x" * 40)
    assert dropped(kept.path) == 40
    os.close(kept.log.file)
    kept.log.file = os.open(kept.path, os.O_WRONLY)
    kept.write(b"again")
    assert kept.path.read_bytes() == b"again"
    kept.close()


def test_a_log_whose_machine_was_deleted_is_read_on(tmp_path: Path) -> None:
    folder = tmp_path / "machine"
    folder.mkdir()
    kept = Kept(folder)
    for entry in folder.iterdir():
        entry.unlink()
    folder.rmdir()
    for _ in range(5):
        kept.write(b"x" * 90)
    assert not folder.exists()
    kept.close()


@pytest.fixture
def quiet(machine: Machine) -> Machine:
    machine.runtime.mkdir(parents=True, mode=0o700)
    return machine


def opened(machine: Machine) -> list[IO[bytes]]:
    """Open a machine's pipes as QEMU does: all of them before the first is closed, for then the
    keeper waits for nobody else, and who opens one that nobody reads waits for ever.
    """
    return [pipe.open("wb") for pipe in (machine.console_pipe, machine.stage_pipe)]


def test_the_logs_of_a_qemu_that_ended_are_whole(
    quiet: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    fd = logs.start(quiet, ())
    for stream in opened(quiet):
        stream.write(b"hello")
        stream.close()
    os.write(fd, b"qemu: last words\n" * 5000)
    os.close(fd)
    logs.settle(quiet)
    assert last_lines(quiet.qemu_log, 1) == ("qemu: last words",)
    assert quiet.qemu_log.stat().st_size == 17 * 5000
    assert quiet.console_log.read_bytes() == quiet.stage_file.read_bytes() == b"hello"
    # Nobody writes any more, so there is nothing to wait for.
    monkeypatch.setattr(logs, "SETTLES", NEVER)
    logs.settle(quiet)


def test_a_start_begins_its_logs_anew(quiet: Machine) -> None:
    for log in (quiet.console_log, quiet.stage_file, quiet.qemu_log):
        for place in (log, older(log), Path(f"{log}.dropped")):
            place.write_text("12")
    fd = logs.start(quiet, ())
    for stream in opened(quiet):
        stream.close()
    os.close(fd)
    logs.settle(quiet)
    assert end(quiet.console_log, 100) == b""
    assert dropped(quiet.console_log) == 0


def test_a_log_is_shown_a_line_at_a_time_whatever_its_size(machine: Machine) -> None:
    older(machine.stage_file).write_bytes(b"first\n" + b"x" * 300_000)
    machine.stage_file.write_bytes(b"y\n" + b"z" * 100 + b"\nlast")
    Path(f"{machine.stage_file}.dropped").write_text("4711\n")
    found = list(reading.lines(machine, machine.stage_file, last=None, follow=False))
    assert found[:2] == ["(4711 bytes before this were dropped)", "first"]
    assert max(map(len, found)) <= reading.LONGEST_LINE
    assert "".join(found[2:-2]) == "x" * 300_000 + "y"
    assert found[-2:] == ["z" * 100, "last"]


def test_the_stage_file_of_a_machine_that_0_1_0_started_is_read(quiet: Machine) -> None:
    assert quiet.stage_file == quiet.directory / "stages.jsonl"
    (quiet.runtime / "stages.jsonl").touch()
    assert quiet.stage_file == quiet.runtime / "stages.jsonl"
