"""`rave smoke` as it is called: what is refused, what is listed, what goes to stdout."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner

from rave_cli.app import cli
from rave_cli.errors import RaveError
from rave_cli.options import complete_phase
from rave_cli.show import Show
from rave_cli.views.smoke import summary
from tests.unit.smoke.test_smoke_reports import run as example

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


@pytest.fixture(autouse=True)
def outside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Outside of any checkout, whose catalog Nix would be asked for, which takes it seconds."""
    monkeypatch.chdir(home)


def rave(*words: str) -> Result:
    return CliRunner().invoke(cli, ["smoke", *words])


def test_every_check_of_a_profile_is_listed() -> None:
    done = rave("list", "--profile", "demo", "--base", "debian")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert len(lines) > 80
    assert all(len(line.split("\t")) == 5 for line in lines)
    assert any(line.startswith("networking.isolation\thealth\tguest\tcritical\t") for line in lines)


def test_the_list_as_json_is_one_document() -> None:
    done = rave("list", "--profile", "demo", "--base", "debian", "--json")
    checks = {check["id"]: check for check in json.loads(done.stdout)}
    assert checks["security.ban"]["needs"] == ["security.fail2ban", "security.ssh-root"]
    assert checks["oidc.sign-in"]["skip"]


def test_the_mode_changes_what_is_promised() -> None:
    done = rave("list", "--profile", "demo", "--base", "debian", "--mode", "full")
    assert "keeps metrics for 7 days" in done.stdout


def test_no_runs_yet(tmp_path: Path) -> None:
    done = rave("list", "--runs", "--output", str(tmp_path), "--json")
    assert json.loads(done.stdout) == []
    assert "rave smoke run" in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--phase", "helth"], "there is no phase 'helth'"),
        (["run", "--vm", "x", "--profile", "demo"], "--vm names a machine"),
        (["run", "--timeout", "0"], "0"),
        (["run", "--simulate", "--sandbox"], "--simulate carries nothing out"),
        (["verify", "x.json", "--key", "/nonexistent"], "does not exist"),
    ],
)
def test_usage_errors(words: list[str], message: str) -> None:
    done = rave(*words)
    assert done.exit_code == 2
    assert message in done.stderr


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["run", "--vm", "nobody"], "there is no machine 'nobody'"),
        (["run", "--profile", "demoo"], "did you mean demo"),
        (["verify", "x.json"], "against one trusted key"),
        (["list", "--profile", "demo", "--base", "arch"], "there is no base 'arch'"),
    ],
)
def test_foreseeable_faults(words: list[str], message: str) -> None:
    done = rave(*words)
    assert isinstance(done.exception, RaveError)
    assert message in done.exception.message
    assert done.exception.hint


def test_phases_are_completed(monkeypatch: pytest.MonkeyPatch) -> None:
    import click

    ctx = click.Context(cli)
    parameter: Any = None
    assert complete_phase(ctx, parameter, "se") == ["secrets", "security"]


class Stub:
    show = Show()


def test_the_summary_has_a_line_per_phase_and_each_failure_with_its_detail() -> None:
    found = example("why").with_files({"transcript": "t.json", "json": "r.json"})
    app: Any = Stub()
    lines = ["".join(line) for line in summary(app.show, found)]
    assert lines[0] == "error\tService health\t1 pass, 1 fail, 1 warn, 1 skip, 1 error\t1.5 s"
    assert "fail a.fail: it works" in lines
    assert "     why" in lines
    assert "skip a.skip: why" in lines
    assert "FAILED in 2.5 s" in lines
    assert "transcript: t.json" in lines
    assert not [line for line in lines if line.startswith("verify it")]
