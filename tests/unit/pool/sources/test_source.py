"""Sources: what may be one, what is kept, and what the commands say of them."""

from __future__ import annotations

import json
import stat
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import app, options
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.sources import source as sources
from rave_cli.pool.sources.ledger import open_ledger
from rave_cli.pool.sources.revision import Revision

from .forges import commit, source
from .stub import serving

if TYPE_CHECKING:
    from pathlib import Path

ADD = [
    "pool", "source", "add", "app", "--forge", "gitea", "--url", "https://git.example.org",
    "--repository", "team/app", "--secret-from", "hook",
]  # fmt: skip


def rave(*words: str) -> int:
    with pytest.raises(SystemExit) as caught:
        app.main(list(words))
    assert isinstance(caught.value.code, int)
    return caught.value.code


def test_the_words_of_the_options_are_those_of_the_sources() -> None:
    assert options.FORGES == sources.FORGES
    assert options.TRIGGERS == sources.TRIGGERS


def test_what_a_source_makes_is_no_part_of_whoever_added_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TRACEPARENT", f"00-{'1' * 32}-{'2' * 16}-01")
    assert rave(*ADD, "--", "true") == 0
    assert sources.load("app").work.traceparent == ""


def test_a_source_is_added_listed_shown_and_removed(
    home: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [
        "--ref",
        "main",
        "--secret",
        "deploy/key",
        "--timeout",
        "60",
        "--run",
        "ci.sh",
        "--",
        "-x",
    ]
    assert rave(*ADD, *words) == 0
    place = sources.place()
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    found = sources.load("app")
    assert (found.work.command, found.work.timeout) == (("./ci.sh", "-x"), 60)
    assert found.fetched_from == "https://git.example.org/team/app.git"
    # Again it is the same; another of that name is none.
    assert rave(*ADD, *words) == 0
    assert rave(*ADD, "--", "true") == ExitCode.USAGE
    with open_ledger() as ledger:
        ledger.take("app", "d", Revision("push", "main", commit(1)), "hook", 1.0)
    capsys.readouterr()
    assert rave("pool", "source", "list", "--json") == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["source"], listed["hook"], listed["poll"]["done"]) == (
        "app",
        "/v1/hooks/app",
        None,
    )
    assert rave("pool", "source", "show", "app", "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["revisions"][0] | {"seen": 0} == {
        "kind": "push", "name": "main", "commit": commit(1), "fork": False, "toldBy": "hook",
        "seen": 0, "state": "waiting", "why": "", "job": "",
    }  # fmt: skip
    assert rave("pool", "source", "show", "app") == 0
    assert "./ci.sh -x" in capsys.readouterr().out
    assert rave("pool", "source", "remove", "app") == 0
    assert sources.read() == ()
    assert rave("pool", "source", "show", "app") == ExitCode.USAGE
    with open_ledger() as ledger:
        assert ledger.revisions("app", 9) == []


@pytest.mark.parametrize(
    "words",
    [
        ["--run", "../x"], ["--run", "/bin/sh"], ["--run", "a", "--script", "/dev/null"], [],
        ["--every", "5", "--", "true"], ["--link", "ftp://x", "--", "true"],
        ["--link", "https://u:p@x/", "--", "true"],
    ],
)  # fmt: skip
def test_what_cannot_be_run_is_refused(home: Path, words: list[str]) -> None:
    assert rave(*ADD, *words) == ExitCode.USAGE
    assert sources.read() == ()


@pytest.mark.parametrize(
    "other",
    [
        {"name": "App"}, {"name": "../x"}, {"name": "a" * 33}, {"url": "http://forge.example"},
        {"url": "https://user:pass@forge.example"}, {"url": "https://"}, {"url": "https://x y"},
        {"url": "https://x:99999999"}, {"repository": "app"}, {"repository": "a/../b"},
        {"repository": "a/b?x=1"}, {"repository": "-a/b"}, {"on": ()}, {"every": 1.0},
        {"secrets": (), "every": 0.0}, {"refs": ("",)},
    ],
)  # fmt: skip
def test_what_is_no_source_is_refused(home: Path, other: dict[str, Any]) -> None:
    with pytest.raises(RaveError) as caught:
        sources.checked(replace(source(), **other))
    assert caught.value.exit_code is ExitCode.USAGE


def test_so_many_sources_there_may_be_and_no_more(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sources, "MOST", 2)
    for number in range(2):
        sources.add(source(name=f"s{number}"))
    with pytest.raises(RaveError, match="no more"):
        sources.add(source(name="s2"))


def test_a_file_that_others_may_write_steers_nothing(home: Path) -> None:
    sources.add(source())
    sources.place().chmod(0o666)
    with pytest.raises(RaveError):
        sources.SourcesFile().all()


def test_a_source_from_before_a_job_had_more_to_say_is_read(home: Path) -> None:
    sources.add(source(asked='{"command": ["true"]}'))
    assert sources.load("app").work.retries == 0


def test_reconcile_asks_the_forge_now(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving("gitea") as stub:
        stub.branches = {"main": commit(1)}
        sources.add(source("gitea", url=stub.url, on=("push",)))
        assert rave("pool", "source", "reconcile", "app") == 0
        assert "not built" in capsys.readouterr().out
        stub.branches = {"main": commit(2)}
        assert rave("pool", "source", "reconcile", "app", "--json") == 0
        assert json.loads(capsys.readouterr().out) == {"source": "app", "first": False, "new": 1}
        stub.instead = [(429, {"Retry-After": "60"}, b"")]
        assert rave("pool", "source", "reconcile", "app") == ExitCode.NOT_READY


def test_a_trial_says_what_a_source_lacks(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with serving("github") as stub:
        lacks = source(url=stub.url, secrets=("hook", "nowhere"), token="token", clone=str(home))
        sources.add(lacks)
        assert rave("pool", "source", "test", "app", "--json") == ExitCode.CHECK_FAILED
    checks = {one["what"]: one["good"] for one in json.loads(capsys.readouterr().out)["checks"]}
    assert checks == {
        "secret hook": True, "secret nowhere": False, "secret token": True,
        "secret deploy/key": False, "the forge's API": True, f"git ls-remote {home}": False,
    }  # fmt: skip
