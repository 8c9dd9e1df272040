"""Which editor is started, with which options and environment."""

from __future__ import annotations

import signal
import subprocess
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import editor

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def tools(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A PATH with nothing but what a test puts there."""
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in editor.VARIABLES:
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def program(place: Path, script: str = "") -> Path:
    place.write_text(f"#!/bin/sh\n{script}\n")
    place.chmod(0o755)
    return place


def test_visual_comes_before_editor(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("one", "two", "three"):
        program(tools / name)
    monkeypatch.setenv("EDITOR", "one")
    assert editor.argv() == ("one",)
    monkeypatch.setenv("VISUAL", "two --wait")
    assert editor.argv() == ("two", "--wait")
    monkeypatch.setenv("SOPS_EDITOR", "'three' '-a b'")
    assert editor.argv() == ("three", "-a b")
    monkeypatch.setenv("SOPS_EDITOR", " ")
    assert editor.argv() == ("two", "--wait")


@pytest.mark.parametrize("name", ["vim", "nvim", "vim.basic"])
def test_vim_writes_no_swap_and_no_backup(tools: Path, name: str) -> None:
    (tools / "vi").symlink_to(program(tools / name))
    argv = editor.argv()
    assert argv[1] == "-n"
    assert "noswapfile" in argv[-1]
    assert "nobackup" in argv[-1]


def test_another_editor_gets_no_options(tools: Path) -> None:
    program(tools / "nano")
    assert editor.argv() == ("nano",)


@pytest.mark.parametrize("named", ["", "missing-editor --wait", "''"])
def test_no_editor(tools: Path, monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    monkeypatch.setenv("EDITOR", named)
    with pytest.raises(RaveError, match="there is no editor") as caught:
        editor.argv()
    assert caught.value.exit_code is ExitCode.HOST


@pytest.mark.parametrize("variable", editor.VARIABLES)
@pytest.mark.parametrize("text", ["vim 'unclosed", 'code "--wait', "vi \\"])
def test_a_badly_quoted_editor_is_named(
    tools: Path, monkeypatch: pytest.MonkeyPatch, variable: str, text: str
) -> None:
    monkeypatch.setenv(variable, text)
    with pytest.raises(RaveError, match=f"{variable} cannot be split into words") as caught:
        editor.argv()
    assert caught.value.exit_code is ExitCode.HOST


def test_it_gets_the_whole_environment_but_the_key(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "XAUTHORITY", "COLORTERM", "SOPS_AGE_KEY"):
        monkeypatch.setenv(name, f"value of {name}")
    monkeypatch.setenv("EDITOR", str(program(tools / "ed", f"/usr/bin/env >{tools}/seen")))
    editor.launch(tools / "text")
    seen = (tools / "seen").read_text()
    assert "DISPLAY=value of DISPLAY" in seen
    assert "COLORTERM=value of COLORTERM" in seen
    assert "SOPS_AGE_KEY" not in seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT])
def test_what_is_typed_to_interrupt_reaches_the_editor_alone(
    tools: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    """The terminal sends the signal to both; in an editor it leaves a mode or stops a search."""
    script = f"trap 'echo had it >{tools}/seen' {number.value}; kill -{number.value} $PPID $$"
    monkeypatch.setenv("EDITOR", str(program(tools / "ed", script)))
    before = signal.getsignal(number)
    editor.launch(tools / "text")
    assert (tools / "seen").read_text() == "had it\n"
    assert signal.getsignal(number) is before


def test_one_that_fails_is_named(tools: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", str(program(tools / "ed", "exit 3")))
    with pytest.raises(RaveError, match="ended with status 3") as caught:
        editor.launch(tools / "text")
    assert caught.value.exit_code is ExitCode.SECRETS


def test_it_is_asked_to_end_before_it_is_killed(
    tools: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Told to end, an editor saves what it has."""
    script = (
        f"trap 'echo saved >{tools}/text; exit' TERM\n"
        f"until [ -e {tools}/waited-for ]; do /bin/sleep 0.01; done\n"
        "kill -TERM $PPID\n"
        "while :; do /bin/sleep 0.01; done"
    )
    wait = subprocess.Popen.wait

    def waiting(child: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        (tools / "waited-for").touch()
        return wait(child, timeout)

    monkeypatch.setattr(subprocess.Popen, "wait", waiting)
    monkeypatch.setenv("EDITOR", str(program(tools / "ed", script)))

    def leave(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("rave_cli.process.GRACE", 30.0)
    before = signal.signal(signal.SIGTERM, leave)
    try:
        with pytest.raises(KeyboardInterrupt):
            editor.launch(tools / "text")
    finally:
        signal.signal(signal.SIGTERM, before)
    assert (tools / "text").read_text() == "saved\n"
