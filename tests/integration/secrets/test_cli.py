"""`rave secrets` as a user meets it: results, exit codes, and no value in any output."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli import app
from rave_cli.secrets import ages, identity, store

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def outside(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Away from the checkout, the catalog is the one baked into the package: no Nix is needed."""
    monkeypatch.chdir(home)


class Cli:
    """Runs commands and keeps what they printed."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys
        self.said = ""

    def __call__(self, *words: str) -> tuple[int, str, str]:
        with pytest.raises(SystemExit) as caught:
            app.main(["secrets", *words])
        out, err = self.capsys.readouterr()
        self.said += out + err
        return int(caught.value.code or 0), out, err

    def json(self, *words: str) -> tuple[int, Any]:
        status, out, _ = self(*words, "--json")
        return status, json.loads(out)


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Cli:
    return Cli(capsys)


def test_a_whole_life_without_a_value_shown(cli: Cli) -> None:
    file = store.default_file()
    assert cli("init")[0] == 0
    values = dict(store.open_values(file.read_bytes(), identity.load()).values)
    assert cli("validate")[0] == 0
    assert cli("list")[0] == 0
    assert cli("rotate", "redis/password")[0] == 0
    values["new"] = store.open_values(file.read_bytes(), identity.load()).values["redis/password"]
    assert cli("edit", "--reencrypt")[0] == 0
    assert cli.json("validate")[1]["valid"]
    assert not any(value in cli.said for value in values.values())
    assert identity.load().identities[0].secret not in cli.said


def test_what_is_older_than_a_quarter_gets_new_values_and_nothing_else(cli: Cli) -> None:
    file = store.default_file()
    cli("init")
    assert cli.json("rotate", "--due")[1]["changed"] == []
    before = store.open_values(file.read_bytes(), identity.load()).values
    long_ago = datetime.now(UTC) - ages.QUARTER - timedelta(days=1)
    young = [name for name in before if name != "gitlab/db"]
    ages.place().unlink()
    ages.note(file, before, new=young, before=long_ago)
    assert cli.json("rotate", "--due")[1]["changed"] == []
    ages.place().unlink()
    young.remove("redis/password")
    ages.note(file, before, new=young, before=long_ago)
    table = cli("list")[1]
    assert f"{long_ago:%Y-%m-%d} or before, due" in table
    assert cli.json("rotate", "--due")[1]["changed"] == ["redis/password"]
    after = store.open_values(file.read_bytes(), identity.load()).values
    assert [name for name in after if after[name] != before[name]] == ["redis/password"]
    assert cli("rotate", "--due")[1].strip() == "no secret is due"


def test_init_says_what_it_made(cli: Cli) -> None:
    status, document = cli.json("init")
    assert status == 0
    assert document["madeKey"]
    assert document["madePolicy"]
    assert "gitlab/jws" in document["added"]
    status, document = cli.json("init")
    assert (document["madeKey"], document["madePolicy"], document["added"]) == (False, False, [])


def test_the_listing_as_a_table_and_as_json(cli: Cli) -> None:
    cli("init")
    _, table, _ = cli("list")
    today = f"{datetime.now(UTC):%Y-%m-%d}"
    assert f"redis/password\tredis\t/run/secrets/redis/password\t{today}" in table.splitlines()
    _, document = cli.json("list")
    assert all(entry["present"] for entry in document["secrets"])
    assert document["recipient"] == identity.load().recipients[0]


@pytest.mark.parametrize(
    "words", [["validate"], ["edit"], ["rotate", "redis/password"], ["install", "x"]]
)
def test_before_init(cli: Cli, words: list[str]) -> None:
    status, _, err = cli(*words)
    assert status in {2, 6}
    assert "hint:" in err
    assert "Traceback" not in err


def test_a_refused_file_has_exit_code_6(cli: Cli) -> None:
    cli("init")
    file = store.default_file()
    file.write_text(f"more: null\n{file.read_text()}")
    status, document = cli.json("validate")
    assert status == 6
    assert not document["valid"]
    assert "empty-value" in {finding["code"] for finding in document["findings"]}
    assert cli.json("validate", "--keyless")[0] == 6


def test_a_group_readable_key_has_exit_code_6(cli: Cli) -> None:
    cli("init")
    identity.key_file().chmod(0o640)
    status, _, err = cli("validate")
    assert status == 6
    assert f"chmod 600 {identity.key_file()}" in err


def test_a_wrong_key_has_exit_code_6(cli: Cli, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("init")
    identity.key_file().unlink()
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(home / "other.txt"))
    identity.ensure()
    status, out, _ = cli("validate")
    assert status == 6
    assert "none of your age identities" in out
    status, _, err = cli("rotate", "redis/password")
    assert status == 6
    assert "none of your age identities" in err


@pytest.mark.parametrize(
    "words",
    [
        ["rotate"],
        ["rotate", "--all", "redis/password"],
        ["rotate", "--due", "--all"],
        ["rotate", "nope"],
    ],
)
def test_wrong_words_have_exit_code_2(cli: Cli, words: list[str]) -> None:
    cli("init")
    assert cli(*words)[0] == 2


def test_an_edit_through_the_command(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("init")
    monkeypatch.setenv("EDITOR", "sed -i s/^redis:/redis:/")
    _, document = cli.json("edit")
    assert not document["changed"]
    monkeypatch.setenv("EDITOR", "sed -i '1i # a comment'")
    _, document = cli.json("edit")
    assert document["changed"]
    assert cli("validate")[0] == 0


def test_an_editor_that_fails_changes_nothing(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    cli("init")
    before = store.default_file().read_bytes()
    monkeypatch.setenv("EDITOR", "false")
    status, _, err = cli("edit")
    assert status == 6
    assert "nothing was changed" in err
    assert store.default_file().read_bytes() == before
