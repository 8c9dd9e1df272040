"""The event log: chained, durable, and worth nothing once a line is touched."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import threading
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.transcripts import EVENTS, NONCE, Clock, make_run

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.transcript import EventLog, Reason, Redactor, RefusedError
from rave_cli.transcript.chain import GENESIS, KINDS, read_chain

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def log(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return make_run(tmp_path_factory.mktemp("log")).files.events.read_bytes()


def reason(raw: bytes) -> Reason:
    with pytest.raises(RefusedError) as caught:
        read_chain(raw)
    assert caught.value.exit_code is ExitCode.VERIFICATION
    assert caught.value.hint
    return caught.value.reason


def test_a_whole_log_is_accepted(log: bytes) -> None:
    chain = read_chain(log).ends
    lines = log.splitlines(keepends=True)
    assert chain.count == len(lines) == EVENTS
    assert chain.head == hashlib.sha256(lines[-1]).hexdigest()
    assert (chain.nonce, chain.status) == (NONCE, "SUCCESS")


def test_each_line_carries_the_hash_of_the_line_before(log: bytes) -> None:
    lines = log.splitlines(keepends=True)
    previous = GENESIS
    for number, line in enumerate(lines, start=1):
        event = json.loads(line)
        assert (event["seq"], event["prev"]) == (number, previous)
        previous = hashlib.sha256(line).hexdigest()


@given(st.data())
def test_dropped_moved_and_repeated_lines_are_refused(log: bytes, data: st.DataObject) -> None:
    lines = log.splitlines(keepends=True)
    change = data.draw(st.sampled_from(["drop", "swap", "repeat", "shuffle"]))
    at = data.draw(st.integers(0, len(lines) - 1))
    if change == "drop":
        changed = lines[:at] + lines[at + 1 :]
    elif change == "repeat":
        changed = lines[: at + 1] + lines[at:]
    elif change == "swap":
        other = data.draw(st.integers(0, len(lines) - 1).filter(lambda n: n != at))
        changed = list(lines)
        changed[at], changed[other] = changed[other], changed[at]
    else:
        changed = data.draw(st.permutations(lines).filter(lambda found: found != lines))
    assert reason(b"".join(changed)) in (Reason.EVENTS, Reason.TRUNCATED)


@given(st.data())
def test_a_log_cut_anywhere_is_refused(log: bytes, data: st.DataObject) -> None:
    assert reason(log[: data.draw(st.integers(0, len(log) - 1))]) is Reason.TRUNCATED


@pytest.mark.parametrize("junk", [b"\n", b"{}\n", b"x", b" ", b"\0\n"])
def test_nothing_may_stand_around_the_lines(log: bytes, junk: bytes) -> None:
    assert reason(log + junk) in (Reason.EVENTS, Reason.TRUNCATED)
    assert reason(junk + log) is Reason.EVENTS


def chain_of(*events: tuple[str, dict[str, object]], **changes: object) -> bytes:
    """Return a log whose hashes are right, whatever its events say."""
    raw, head = b"", GENESIS
    for number, (kind, data) in enumerate(events, start=1):
        event = {
            "seq": number, "prev": head, "time": "2026-01-24T14:30:52Z", "mono": 0.0,
            "phase": "x", "kind": kind, "data": data,
        } | changes  # fmt: skip
        line = json.dumps(event, separators=(",", ":")).encode() + b"\n"
        raw, head = raw + line, hashlib.sha256(line).hexdigest()
    return raw


BEGIN: tuple[str, dict[str, object]] = ("begin", {"schema": "rave-events@v2"})


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (b"", Reason.TRUNCATED),
        (chain_of(BEGIN), Reason.TRUNCATED),
        (chain_of(("end", {"count": 1})), Reason.UNKNOWN_VERSION),
        (chain_of(("begin", {"schema": "rave-events@v4"})), Reason.UNKNOWN_VERSION),
        (chain_of(BEGIN, ("end", {"count": 3})), Reason.EVENTS),
        (chain_of(BEGIN, BEGIN, ("end", {"count": 3})), Reason.EVENTS),
        (chain_of(BEGIN, ("end", {"count": 2}), ("end", {"count": 3})), Reason.EVENTS),
        (chain_of(BEGIN, ("end", {"count": 2}), more=1), Reason.EVENTS),
        (chain_of(BEGIN, ("end", {"count": 2}), seq=1), Reason.EVENTS),
    ],
)
def test_logs_that_are_well_chained_but_wrong(raw: bytes, expected: Reason) -> None:
    assert reason(raw) is expected


def test_a_run_that_dies_leaves_a_log_that_cannot_verify(tmp_path: Path) -> None:
    events = EventLog.begin(tmp_path)
    events.append("boot", "stage", {"stage": "kernel"})
    assert reason(events.path.read_bytes()) is Reason.TRUNCATED
    events.close()


def test_every_event_is_on_the_disk_when_append_returns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda fd: synced.append(os.fstat(fd).st_size))
    with EventLog.begin(tmp_path) as events:
        size = events.path.stat().st_size
        events.append("boot", "stage")
        assert synced[-2:] == [size, events.path.stat().st_size]


def test_events_are_redacted(tmp_path: Path) -> None:
    with EventLog.begin(tmp_path, redactor=Redactor([b"hunter22!"])) as events:
        events.append("services", "output", {"text": "password=hunter22!"})
        assert "hunter22!" not in events.path.read_text()
        assert events.redactor.count == 1


def test_two_runs_of_one_second_do_not_meet(tmp_path: Path) -> None:
    with (
        EventLog.begin(tmp_path, clock=Clock()) as one,
        EventLog.begin(tmp_path, clock=Clock()) as two,
    ):
        assert one.session.id == "spinup-20260124-143052"
        assert two.session.id == "spinup-20260124-143052-2"
        assert one.path.name == "boot_transcript_20260124T143052Z.events.ndjson"
        assert two.path.name == "boot_transcript_20260124T143052Z-2.events.ndjson"
        assert one.session.nonce != two.session.nonce


@pytest.mark.parametrize(
    "nonce", ["", "short", "x" * 129, "with blank", "\u00e4" * 9, "x" * 8 + "\n"]
)
def test_what_is_no_nonce(tmp_path: Path, nonce: str) -> None:
    with pytest.raises(RaveError, match="a nonce is 8 to 128") as caught:
        EventLog.begin(tmp_path, nonce=nonce)
    assert caught.value.exit_code is ExitCode.USAGE
    assert list(tmp_path.iterdir()) == []


def test_a_clock_that_stands_still_ends_with_a_message(tmp_path: Path) -> None:
    for _ in range(99):
        EventLog.begin(tmp_path, clock=Clock()).close()
    with pytest.raises(RaveError, match="already holds 99 transcripts of this second"):
        EventLog.begin(tmp_path, clock=Clock())


def test_a_clock_that_jumps_back_does_not_end_before_it_began(tmp_path: Path) -> None:
    clock = Clock()
    with EventLog.begin(tmp_path, clock=clock) as events:
        clock.next = clock.next.replace(year=2020)
        events.append("boot", "stage")
        chain = events.finish("SUCCESS")
    assert chain.completed == chain.started == "2026-01-24T14:30:52Z"


def test_threads_share_one_chain(tmp_path: Path) -> None:
    with EventLog.begin(tmp_path) as events:
        threads = [
            threading.Thread(target=lambda: [events.append("x", "y") for _ in range(20)])
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        events.finish("SUCCESS")
    assert read_chain(events.path.read_bytes()).ends.count == 162


@pytest.mark.parametrize("kind", KINDS)
def test_only_the_log_writes_its_ends(tmp_path: Path, kind: str) -> None:
    with EventLog.begin(tmp_path) as events, pytest.raises(ValueError, match="itself"):
        events.append("x", kind)


def test_a_full_disk_takes_back_the_half_line_and_closes_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = EventLog.begin(tmp_path)
    events.append("boot", "stage", {"stage": "kernel"})
    before = events.path.read_bytes()
    write = os.write

    def half(fd: int, data: memoryview) -> int:
        if len(data) < 60:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return write(fd, data[:50])

    monkeypatch.setattr(os, "write", half)
    with pytest.raises(RaveError, match="no space left") as caught:
        events.append("boot", "stage", {"stage": "systemd"})
    assert caught.value.exit_code is ExitCode.HOST
    assert events.path.read_bytes() == before
    monkeypatch.undo()
    with pytest.raises(RaveError, match="closed"):
        events.append("boot", "stage", {"stage": "systemd"})
    with pytest.raises(RaveError, match="closed"):
        events.finish("SUCCESS")
    assert reason(events.path.read_bytes()) is Reason.TRUNCATED


def test_an_interrupt_while_writing_closes_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events = EventLog.begin(tmp_path)
    before = events.path.read_bytes()

    def interrupted(fd: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        events.append("boot", "stage")
    assert events.path.read_bytes() == before
    with pytest.raises(RaveError, match="closed"):
        events.append("boot", "stage")


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RaveError, match="file") as caught:
        EventLog.begin(tmp_path / "file" / "artifacts")
    assert caught.value.exit_code is ExitCode.HOST


def test_a_signal_while_a_line_is_written_ends_the_run_and_not_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The log was closed then, and no aborted run could be recorded: the disk takes its time."""
    sync = os.fsync

    def slow(fd: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        sync(fd)

    with EventLog.begin(tmp_path) as log:
        with monkeypatch.context() as patch, signals.handled():
            patch.setattr(os, "fsync", slow)
            with pytest.raises(signals.Interrupted):
                log.append("boot", "note", {})
        before = log.count
        log.abort("interrupted")
        lines = log.path.read_bytes().splitlines()
    assert [json.loads(line)["kind"] for line in lines][-2:] == ["note", "abort"]
    assert len(lines) == before + 1
