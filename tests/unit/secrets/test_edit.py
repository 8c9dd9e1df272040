"""Editing: where the plaintext lies, how it goes away, which editor is started and how."""

from __future__ import annotations

import fcntl
import os
import signal
from typing import TYPE_CHECKING

import pytest

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import edit

if TYPE_CHECKING:
    from pathlib import Path


def left(base: Path) -> list[Path]:
    return list(base.glob("rave-edit-*"))


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that counts as being in memory."""
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(edit, "_type", lambda path: "tmpfs")
    return tmp_path


def test_the_directory_is_private_and_goes_away(memory: Path) -> None:
    with edit.memory_dir() as place:
        assert place.parent == memory
        assert place.stat().st_mode & 0o777 == 0o700
        (place / "secrets.yaml").write_text("x")
    assert left(memory) == []


def test_it_goes_away_on_an_error(memory: Path) -> None:
    with pytest.raises(ZeroDivisionError), edit.memory_dir() as place:
        (place / "secrets.yaml").write_text(str(1 / 0))
    assert left(memory) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_it_goes_away_on_a_signal(memory: Path, number: signal.Signals) -> None:
    with pytest.raises(KeyboardInterrupt), signals.handled(), edit.memory_dir():
        signal.raise_signal(number)
    assert left(memory) == []


def test_what_a_killed_process_left_goes_away(memory: Path) -> None:
    orphan, used = memory / "rave-edit-orphan", memory / "rave-edit-used"
    for place in (orphan, used):
        place.mkdir()
        (place / "secrets.yaml").write_text("plaintext")
    fd = os.open(used, os.O_RDONLY)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        with edit.memory_dir():
            assert not orphan.exists()
            assert used.exists()
    finally:
        os.close(fd)


def test_a_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setattr(edit, "_type", lambda path: "ext4")
    with pytest.raises(RaveError, match="no file system in memory") as caught, edit.memory_dir():
        pass
    assert caught.value.exit_code is ExitCode.HOST
    assert left(tmp_path) == []


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("VISUAL", "EDITOR"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def program(place: Path) -> Path:
    place.write_text("#!/bin/sh\n")
    place.chmod(0o755)
    return place


def test_visual_comes_before_editor(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two"):
        program(tools / name)
    monkeypatch.setenv("EDITOR", "one")
    assert edit.editor_argv() == ("one",)
    monkeypatch.setenv("VISUAL", "two --wait")
    assert edit.editor_argv() == ("two", "--wait")


@pytest.mark.parametrize("name", ["vim", "nvim", "vim.basic"])
def test_vim_writes_no_swap_and_no_backup(tools: Path, name: str) -> None:
    (tools / "vi").symlink_to(program(tools / name))
    argv = edit.editor_argv()
    assert argv[1] == "-n"
    assert "noswapfile" in argv[-1]
    assert "nobackup" in argv[-1]


def test_another_editor_gets_no_options(tools: Path) -> None:
    program(tools / "nano")
    assert edit.editor_argv() == ("nano",)


@pytest.mark.parametrize("editor", ["", "missing-editor --wait"])
def test_no_editor(tools: Path, monkeypatch: pytest.MonkeyPatch, editor: str) -> None:
    monkeypatch.setenv("EDITOR", editor)
    with pytest.raises(RaveError, match="there is no editor") as caught:
        edit.editor_argv()
    assert caught.value.exit_code is ExitCode.HOST
