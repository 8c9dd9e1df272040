"""The text while it is edited: where it lies, when it goes away, when it is kept and found."""

from __future__ import annotations

import fcntl
import os
import signal
import time
from typing import TYPE_CHECKING

import pytest

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import draft

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.secrets.draft import KeptDraft

FILE, SEALED, BEFORE = "secrets.sops.yaml", b"sealed", b"before"


def left(base: Path) -> list[Path]:
    return list(base.glob("rave-edit-*"))


def never(kept: KeptDraft) -> bool:
    raise AssertionError("there was no earlier text")


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as the only one in memory."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(
        draft, "_type", lambda path: "tmpfs" if path.is_relative_to(tmp_path) else "ext4"
    )
    return tmp_path


def leave_behind(memory: Path, text: bytes, *, sealed: bytes = SEALED, file: str = FILE) -> Path:
    """Do what a killed edit does: nothing of its clean-up happens."""
    place = draft._begin(memory / file, sealed, BEFORE)
    (place / draft.TEXT).write_bytes(text)
    return place


def test_the_directory_is_private_and_goes_away(memory: Path) -> None:
    with draft.held(memory / FILE, SEALED, BEFORE, never) as text:
        assert text.parent.parent == memory
        assert text.parent.stat().st_mode & 0o777 == 0o700
        assert text.stat().st_mode & 0o777 == 0o600
        assert text.read_bytes() == BEFORE
        text.write_text("x")
    assert left(memory) == []


def test_it_goes_away_on_an_error_if_nothing_was_typed(memory: Path) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        draft.held(memory / FILE, SEALED, BEFORE, never) as text,
    ):
        text.write_text(str(1 / 0))
    assert left(memory) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_it_goes_away_on_a_signal_if_nothing_was_typed(
    memory: Path, number: signal.Signals
) -> None:
    with (
        pytest.raises(KeyboardInterrupt),
        signals.handled(),
        draft.held(memory / FILE, SEALED, BEFORE, never),
    ):
        signal.raise_signal(number)
    assert left(memory) == []


def interrupt() -> None:
    signal.raise_signal(signal.SIGTERM)


def hang_up() -> None:
    signal.raise_signal(signal.SIGHUP)


def press_control_c() -> None:
    signal.raise_signal(signal.SIGINT)


def refuse() -> None:
    raise RaveError("refused", exit_code=ExitCode.SECRETS)


def crash() -> None:
    raise ZeroDivisionError


def type_and(end: Callable[[], None], memory: Path) -> None:
    with signals.handled(), draft.held(memory / FILE, SEALED, BEFORE, never) as text:
        text.write_bytes(b"typed")
        end()


ENDS = [interrupt, hang_up, press_control_c, refuse, crash]


@pytest.mark.parametrize("end", ENDS)
def test_what_was_typed_is_kept_however_the_edit_ends(
    memory: Path, end: Callable[[], None]
) -> None:
    with pytest.raises((RaveError, ZeroDivisionError)) as caught:
        type_and(end, memory)
    if isinstance(caught.value, RaveError):
        assert any("what you typed is kept" in line for line in caught.value.detail)
        assert "typed is kept" not in caught.value.message
    found: list[KeptDraft] = []

    def resume(kept: KeptDraft) -> bool:
        found.append(kept)
        return True

    with draft.held(memory / FILE, SEALED, BEFORE, resume) as text:
        assert text.read_bytes() == b"typed"
    assert not found[0].outdated
    assert left(memory) == []


def test_an_interruption_has_its_exit_code(memory: Path) -> None:
    with pytest.raises(RaveError) as caught:
        type_and(interrupt, memory)
    assert caught.value.exit_code is ExitCode.INTERRUPTED


def test_what_a_killed_process_left_is_found(memory: Path) -> None:
    leave_behind(memory, b"typed")
    with draft.held(memory / FILE, SEALED, BEFORE, lambda kept: True) as text:
        assert text.read_bytes() == b"typed"


def test_who_does_not_want_it_begins_anew(memory: Path) -> None:
    orphan = leave_behind(memory, b"typed")
    with draft.held(memory / FILE, SEALED, BEFORE, lambda kept: False) as text:
        assert text.read_bytes() == BEFORE
        assert not orphan.exists()


def test_an_answer_that_does_not_come_leaves_it(memory: Path) -> None:
    def interrupted(kept: KeptDraft) -> bool:
        raise KeyboardInterrupt

    orphan = leave_behind(memory, b"typed")
    with pytest.raises(KeyboardInterrupt), draft.held(memory / FILE, SEALED, BEFORE, interrupted):
        pass
    assert (orphan / draft.TEXT).read_bytes() == b"typed"


def test_a_text_of_another_version_is_marked(memory: Path) -> None:
    leave_behind(memory, b"typed", sealed=b"older")
    (kept,) = draft.find(memory / FILE, SEALED)
    assert kept.outdated


def test_texts_of_other_files_and_of_running_edits_are_left_alone(memory: Path) -> None:
    other = leave_behind(memory, b"typed", file="other.yaml")
    used = leave_behind(memory, b"typed")
    fd = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with draft.held(memory / FILE, SEALED, BEFORE, never):
            assert other.exists()
            assert used.exists()
        assert draft.discard(memory / FILE) == 0
    finally:
        os.close(fd)
    assert draft.discard(memory / FILE) == 1
    assert left(memory) == [other]


@pytest.mark.parametrize("note", [None, "", "[]", '{"file": 1}'])
def test_what_is_no_draft_goes_away(memory: Path, note: str | None) -> None:
    orphan = memory / "rave-edit-orphan"
    orphan.mkdir(mode=0o700)
    (orphan / "secrets.yaml").write_text("plaintext")
    if note is not None:
        (orphan / draft.NOTE).write_text(note)
    os.utime(orphan, (time.time() - 100,) * 2)
    assert draft.find(memory / FILE, SEALED) == []
    assert not orphan.exists()


def test_one_where_nothing_was_typed_goes_away(memory: Path) -> None:
    orphan = leave_behind(memory, BEFORE)
    assert draft.find(memory / FILE, SEALED) == []
    assert not orphan.exists()


@pytest.mark.skipif(os.getuid() != 0, reason="giving a file away needs root")
def test_what_somebody_else_put_there_is_not_taken_up(memory: Path) -> None:
    foreign = leave_behind(memory, b"of an attacker")
    os.chown(foreign, 65534, 65534)
    with draft.held(memory / FILE, SEALED, BEFORE, never):
        assert foreign.exists()


def test_what_an_editor_saved_beside_the_text_when_it_was_ended_counts(memory: Path) -> None:
    orphan = leave_behind(memory, BEFORE)
    (orphan / "secrets.yaml.save").write_bytes(b"saved by nano")
    with draft.held(memory / FILE, SEALED, BEFORE, lambda kept: True) as text:
        assert text.read_bytes() == b"saved by nano"


def test_an_older_backup_beside_the_text_does_not_count(memory: Path) -> None:
    orphan = leave_behind(memory, b"typed")
    (orphan / "secrets.yaml~").write_bytes(b"an older state")
    os.utime(orphan / "secrets.yaml~", (time.time() - 100,) * 2)
    with draft.held(memory / FILE, SEALED, BEFORE, lambda kept: True) as text:
        assert text.read_bytes() == b"typed"


def test_it_is_found_from_another_session(
    memory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    leave_behind(memory, b"typed")
    monkeypatch.setattr(draft, "_bases", lambda: [elsewhere, memory])
    assert len(draft.find(memory / FILE, SEALED)) == 1


def test_a_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(draft, "_type", lambda path: "ext4")
    with (
        pytest.raises(RaveError, match="no file system in memory") as caught,
        draft.held(tmp_path / FILE, SEALED, BEFORE, never),
    ):
        pass
    assert caught.value.exit_code is ExitCode.HOST
    assert left(tmp_path) == []


def test_a_relative_runtime_directory_is_ignored(
    memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the XDG specification demands."""
    monkeypatch.chdir(memory)
    monkeypatch.setenv("XDG_RUNTIME_DIR", ".")
    monkeypatch.setattr(draft, "_type", lambda path: "tmpfs" if str(path) == "." else "ext4")
    with pytest.raises(RaveError, match="no file system in memory"):
        draft.find(memory / FILE, SEALED)
