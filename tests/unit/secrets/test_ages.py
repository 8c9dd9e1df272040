"""Since when secrets have their values, and which are due for new ones."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from rave_cli.doctor import EXAMINATIONS
from rave_cli.errors import ExitCode, RaveError
from rave_cli.profiles.source import load_catalog
from rave_cli.secrets import ages, listing, store
from rave_cli.secrets.ages import QUARTER, Age
from tests.sops import CATALOG, sops_file

FILE = Path("/somewhere/secrets.sops.yaml")
NOW = datetime.now(UTC).replace(microsecond=0)
LONG_AGO, RECENT = NOW - QUARTER - timedelta(days=1), NOW - timedelta(days=1)


def test_what_rave_made_is_of_now_and_what_it_found_as_old_as_the_file(home: Path) -> None:
    ages.note(FILE, ["a", "b"], new=["a"], before=LONG_AGO)
    found = ages.of(FILE, ["a", "b"], NOW)
    assert found["a"].made
    assert NOW <= found["a"].since <= datetime.now(UTC)
    assert found["b"] == Age(LONG_AGO, made=False)


def test_writing_the_file_again_makes_nothing_younger(home: Path) -> None:
    ages.note(FILE, ["a", "b"], new=["a"], before=LONG_AGO)
    first = ages.of(FILE, ["a", "b"], None)
    ages.note(FILE, ["a", "b", "c"], new=["c"], before=NOW)
    again = ages.of(FILE, ["a", "b", "c"], None)
    assert {name: again[name] for name in first} == first
    ages.note(FILE, ["a"], new=[], before=NOW)
    assert ages.of(FILE, ["a", "c"], None).keys() == {"a"}


def test_without_a_note_the_time_of_the_file_counts(home: Path) -> None:
    assert ages.of(FILE, ["a"], LONG_AGO) == {"a": Age(LONG_AGO, made=False)}
    assert ages.of(FILE, ["a"], None) == {}


def test_a_clock_that_was_ahead_makes_nothing_of_the_future(home: Path) -> None:
    ages.note(FILE, ["a"], new=[], before=NOW + timedelta(days=400))
    assert ages.of(FILE, ["a"], None)["a"].since <= datetime.now(UTC)


def test_two_files_do_not_mix(home: Path) -> None:
    ages.note(FILE, ["a"], new=["a"], before=None)
    ages.note(FILE.with_name("other"), ["a"], new=[], before=LONG_AGO)
    assert ages.of(FILE, ["a"], None)["a"].made


def test_due_after_a_quarter_and_not_before() -> None:
    ages_of = {"redis/password": Age(NOW - QUARTER, made=True)}
    assert ages.due(ages_of, CATALOG, NOW) == ()
    assert ages.due(ages_of, CATALOG, NOW + timedelta(seconds=1)) == ("redis/password",)


def test_what_lasts_is_never_due() -> None:
    catalog = load_catalog(None).secrets
    late = ages.due({name: Age(LONG_AGO, made=True) for name in catalog}, catalog, NOW)
    assert {"redis/password", "grafana/db-password"} <= set(late)
    lasting = {name for name, secret in catalog.items() if secret.lasting}
    assert {"n8n/encryption-key", "gitlab/db", "matrix/signing-key"} <= lasting
    assert not lasting & set(late)


def test_damaged_notes_are_told_with_what_helps(home: Path) -> None:
    ages.note(FILE, ["a"], new=[], before=None)
    ages.place().write_text("{")
    with pytest.raises(RaveError) as caught:
        ages.of(FILE, ["a"], None)
    assert caught.value.exit_code == ExitCode.HOST
    assert "mv " in str(caught.value.hint)


def test_a_time_without_its_zone_is_refused(home: Path) -> None:
    ages.note(FILE, ["a"], new=[], before=None)
    document = json.loads(ages.place().read_text())
    document["files"][str(FILE)]["a"]["since"] = "2026-11-26T20:00:00"
    ages.place().write_text(json.dumps(document))
    with pytest.raises(RaveError):
        ages.of(FILE, ["a"], None)


def test_the_listing_and_the_doctor_tell_what_is_due(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(home)
    file = store.default_file()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(sops_file(["redis/password", "grafana/secret-key", "nats/password"]))
    file.chmod(0o600)
    catalog = load_catalog(None).secrets
    ages.note(file, ["redis/password", "nats/password"], new=["nats/password"], before=LONG_AGO)
    assert listing.due(file, catalog)[-1] == "redis/password"
    entries = {entry.name: entry for entry in listing.listing(file, catalog).entries}
    assert (entries["redis/password"].due, entries["redis/password"].made) == (True, False)
    assert (entries["nats/password"].due, entries["nats/password"].made) == (False, True)
    assert entries["grafana/secret-key"].lasting
    assert not entries["grafana/secret-key"].due
    assert entries["n8n/encryption-key"].since is None
    told = EXAMINATIONS["secrets-age"].run()
    assert told.status == "warn"
    assert "redis/password" in told.detail
    assert "--due" in told.advice
    ages.note(file, catalog, new=list(catalog), before=None)
    assert EXAMINATIONS["secrets-age"].run().status == "ok"
