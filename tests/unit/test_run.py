"""How `make test` runs the suites: none that is killed passes."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from tests import kills, run
from tests.run import Suite

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

KILLED = "import os, signal\n\ndef test_it():\n    os.kill(os.getpid(), signal.SIGKILL)\n"


def suite(place: Path, name: str, text: str) -> Suite:
    (place / name).mkdir()
    (place / name / "test_it.py").write_text(text)
    return Suite((str(place / name),), workers=1)


def test_one_that_is_killed_is_no_success(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PYTEST_ADDOPTS", *(name for name in os.environ if name.startswith("COV_CORE_"))):
        monkeypatch.delenv(name, raising=False)
    killed = suite(tmp_path, "killed", KILLED)
    one = suite(tmp_path, "one", "def test_it():\n    pass\n")
    assert run.test([one], measure=False)[0] == 0
    status, outcome = run.test([killed, one], measure=False)
    assert (status != 0, outcome.counts["passed"]) == (True, 1)


def test_too_few_kills_are_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(kills, "STRIDE", kills.USUAL)
    promised = Suite((), workers=1, kills=5)
    report = tmp_path / "unit.kills"
    assert run.enough(promised, report) == 1
    assert "0 of machines, 5 are promised" in capsys.readouterr().out
    report.write_text("5")
    assert run.enough(promised, report) == 0
