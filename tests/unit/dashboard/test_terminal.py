"""The dashboard at a terminal of its own, and where there is none."""

from __future__ import annotations

import json
import os
import signal
import termios
from typing import TYPE_CHECKING

import pytest

from rave_cli import app
from rave_cli.errors import ExitCode
from tests.terminal import RAVE, Terminal

from .watched import is_given_up, runs, submitted

if TYPE_CHECKING:
    from pathlib import Path

TOP = (*RAVE, "pool", "top")

# Whatever comes before it, the screen as it was and a cursor.
LEFT = ("\x1b[?1049l", "\x1b[?25h")


def ended(end: str | int) -> tuple[int, str]:
    """Return how it ended, and what was written last, when it is ended by a key or a signal."""
    (job,) = submitted("make check")
    with Terminal(TOP) as top:
        before = termios.tcgetattr(top.master)
        top.until(job.name)
        assert not termios.tcgetattr(top.master)[3] & termios.ECHO
        if isinstance(end, str):
            top.type(end)
        else:
            os.kill(top.child.pid, end)
        code = top.end()
        after = top.shown
        assert termios.tcgetattr(top.master) == before
    return code, after[after.rindex("\x1b[?1049h") :]


@pytest.mark.parametrize(
    ("end", "code"),
    [("\x03", 0), (signal.SIGTERM, 143), (signal.SIGKILL, -9)],
)
def test_however_it_ends_the_terminal_is_as_it_was(home: Path, end: str | int, code: int) -> None:
    found, last = ended(end)
    assert found == code
    assert all(words in last for words in LEFT)
    assert "Traceback" not in last


def test_a_terminal_that_is_closed_ends_it(home: Path) -> None:
    (job,) = submitted("true")
    with Terminal(TOP) as top:
        top.until(job.name)
        top.close()
        assert top.child.wait(timeout=60) in (129, -signal.SIGHUP)


def test_a_terminal_that_cannot_be_drawn_on_gets_one_view(home: Path) -> None:
    (job,) = submitted("make check")
    with Terminal(TOP, env={"TERM": "dumb"}) as top:
        assert top.end() == 0
        assert job.name in top.shown
        assert "\x1b[?" not in top.shown


def plain(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        app.main(["pool", "top", *words])
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_what_is_no_terminal_gets_one_view_of_all_there_is(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    runs_now, waits, dead = submitted("make check", "sleep 9", "make \x1b[31mdocs")
    runs(runs_now)
    is_given_up(runs(dead))
    assert plain() == 0
    shown = capsys.readouterr().out
    for words in ("by nobody: rave pool serve", "dead letters", "1 running", "make docs"):
        assert words in shown
    assert "\x1b" not in shown
    assert plain("--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert [one["job"] for one in found["jobs"]] == [runs_now.name, dead.name, waits.name]
    assert [one["job"] for one in found["dead"]] == [dead.name]
    assert found["pool"]["served"] is False


@pytest.mark.parametrize(
    ("endpoint", "code"), [("ftp://x", ExitCode.USAGE), ("https://127.0.0.1:1", ExitCode.NOT_READY)]
)
def test_an_endpoint_that_is_none_or_does_not_answer_is_said(
    home: Path, capsys: pytest.CaptureFixture[str], endpoint: str, code: int
) -> None:
    assert plain("--endpoint", endpoint) == code
    assert "hint:" in capsys.readouterr().err
