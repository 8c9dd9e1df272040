"""The root command: exit codes, messages, and what it costs to start."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import textwrap
from typing import TYPE_CHECKING

import click
import pytest
from click.testing import CliRunner

from rave_cli import app
from rave_cli.errors import ExitCode, RaveError
from rave_cli.lazy import LazyGroup

if TYPE_CHECKING:
    from pathlib import Path


def outcome(argv: list[str]) -> int:
    with pytest.raises(SystemExit) as caught:
        app.main(argv)
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_help_imports_nothing_heavy() -> None:
    program = (
        "import sys; from rave_cli.app import cli; "
        "cli.main(['--help'], standalone_mode=False); "
        "print(sorted({'pydantic', 'rich', 'paramiko', 'cryptography', 'httpx', 'yaml'}"
        " & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stderr.strip() == "[]"
    assert "rave up --profile demo --base debian" in done.stdout


def test_a_file_is_checked_without_the_ways_into_a_machine(tmp_path: Path) -> None:
    """Importing them costs each use 0.1 s."""
    program = (
        "import sys; from rave_cli.app import main\n"
        "try: main(['secrets', 'validate', '--file', 'none.yaml'])\n"
        "except SystemExit: print('paramiko' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert done.stdout == "False\n", done.stderr


@pytest.mark.parametrize("number", ["SIGINT", "SIGTERM", "SIGHUP"])
@pytest.mark.parametrize("late", ["done", "told"])
def test_a_signal_that_comes_once_all_is_done_does_not_take_it_back(number: str, late: str) -> None:
    """A terminal that was closed while a command ended made it end as if it had been killed."""
    program = textwrap.dedent(f"""
        import atexit, os, signal
        from rave_cli import app, streams
        end = lambda: os.kill(os.getpid(), signal.{number})
        app.cli.main = lambda **_: 7
        if {late!r} == "done":
            atexit.register(end)
        else:
            streams.finish = end
        app.main([])
    """)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False
    )
    expected = 7 if late == "done" else 128 + signal.Signals[number]
    assert (done.returncode, "Traceback" in done.stderr) == (expected, False), done.stderr


def commands(group: click.Group, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    found: list[tuple[str, ...]] = []
    ctx = click.Context(group)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        assert command is not None, (*path, name)
        found.append((*path, name))
        if isinstance(command, click.Group):
            found += commands(command, (*path, name))
    return found


def test_every_command_has_help_and_an_example(home: Path) -> None:
    for path in commands(app.cli):
        shown = CliRunner().invoke(app.cli, [*path, "-h"])
        assert shown.exit_code == 0, path
        assert "Usage:" in shown.output
        leaf = "Commands:" not in shown.output
        assert not leaf or "Example: rave" in shown.output or "=" in shown.output, path
        assert not leaf or "Example" in shown.output, path


def test_an_unknown_command_gets_a_guess(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert outcome(["smke"]) == ExitCode.USAGE
    assert "Did you mean 'smoke'?" in capsys.readouterr().err


@pytest.mark.parametrize("code", [c for c in ExitCode if c not in (0, 129, 130, 143)])
def test_a_fault_is_one_message_and_its_exit_code(
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    code: ExitCode,
) -> None:
    @click.command()
    def broken() -> None:
        raise RaveError("it broke", hint="mend it", exit_code=code, detail=("last line",))

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: broken)
    assert outcome(["up"]) == code
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err == "error: it broke\n  | last line\nhint: mend it\n"


def test_ctrl_c_is_130(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: interrupted)
    assert outcome(["up"]) == ExitCode.INTERRUPTED
    assert "interrupted" in capsys.readouterr().err


def test_a_full_disk_anywhere_is_a_message(
    home: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    @click.command()
    def full() -> None:
        with open("/dev/full", "w", encoding="utf-8") as stream:  # noqa: PTH123 - a device
            stream.write("x")

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: full)
    assert outcome(["up"]) == ExitCode.HOST
    assert "no space left" in capsys.readouterr().err


def test_json_errors_are_one_document(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "rave_cli", "confg", "--json"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == ExitCode.USAGE
    assert json.loads(done.stdout)["exitCode"] == ExitCode.USAGE


def test_json_may_stand_before_or_behind(home: Path) -> None:
    for argv in (["--json", "config"], ["config", "--json"]):
        shown = CliRunner().invoke(app.cli, argv)
        assert json.loads(shown.stdout)["settings"]["SAFE_MODE"]["value"] == "1"


def test_a_reader_that_leaves_is_not_an_error(home: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", f"{sys.executable} -m rave_cli config | true"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(home: Path, shell: str) -> None:
    shown = CliRunner().invoke(app.cli, ["completion", shell])
    assert shown.exit_code == 0
    assert "_RAVE_COMPLETE" in shown.output
