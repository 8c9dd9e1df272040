"""How `make test` runs the suites: side by side, none unheard, and none that is killed passes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests import kills, run
from tests.run import Suite

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

MEETS = """
import time
from pathlib import Path

def test_it():
    Path({own!r}).touch()
    while not Path({other!r}).exists():
        time.sleep(0.05)
"""
KILLED = "import os, signal\n\ndef test_it():\n    os.kill(os.getpid(), signal.SIGKILL)\n"


def suite(place: Path, name: str, text: str) -> Suite:
    (place / name).mkdir()
    (place / name / "test_it.py").write_text(text)
    return Suite(name, (str(place / name),), workers=1)


def meets(place: Path, own: str, other: str) -> Suite:
    """A suite whose test waits for the other's."""
    return suite(
        place, own, MEETS.format(own=str(place / f"{own}!"), other=str(place / f"{other}!"))
    )


def test_rows_run_side_by_side_and_one_that_is_killed_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for name in ("PYTEST_ADDOPTS", *(name for name in os.environ if name.startswith("COV_CORE_"))):
        monkeypatch.delenv(name, raising=False)
    one, other = meets(tmp_path, "one", "other"), meets(tmp_path, "other", "one")
    killed = suite(tmp_path, "killed", KILLED)
    assert run.test([[one], [other]], measure=False)[0] == 0
    said = capfd.readouterr().out
    assert "one: 1 passed" in said
    assert "other: 1 passed" in said
    status, outcome = run.test([[killed, one]], measure=False)
    assert (status != 0, outcome.counts["passed"]) == (True, 1)


def test_too_few_kills_are_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kills, "STRIDE", kills.USUAL)
    promised = Suite("unit", (), workers=1, kills=5)
    report = tmp_path / "unit.xml"
    assert run.enough(promised, report) == 1
    assert "0 of machines, 5 are promised" in capsys.readouterr().out
    report.with_suffix(".kills").write_text("5")
    assert run.enough(promised, report) == 0
