"""The ledger: a file that is older than the version known last is noticed."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import ledger
from rave_cli.secrets.structure import Structure

if TYPE_CHECKING:
    from pathlib import Path

THEN = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
KNOWN = ledger.LedgerEntry("a" * 64, THEN.isoformat(), ("age1me",))
SAME = Structure({}, ("age1me",), THEN, ())


def codes(sha256: str, found: Structure) -> list[str]:
    return [finding.code for finding in ledger.compare(KNOWN, sha256, found)]


def test_the_same_version() -> None:
    assert codes("a" * 64, SAME) == []


def test_a_newer_version() -> None:
    assert codes("b" * 64, replace(SAME, lastmodified=THEN + timedelta(seconds=1))) == []


def test_an_older_version() -> None:
    assert codes("b" * 64, replace(SAME, lastmodified=THEN - timedelta(seconds=1))) == ["rollback"]


def test_another_file_with_the_same_time() -> None:
    assert codes("b" * 64, SAME) == ["changed"]


def test_a_new_recipient() -> None:
    assert codes("a" * 64, replace(SAME, recipients=("age1me", "age1you"))) == ["recipient-new"]


def test_an_entry_is_recalled_by_its_file(home: Path) -> None:
    assert ledger.recall(home / "a") is None
    ledger.record(home / "a", KNOWN)
    ledger.record(home / "b", replace(KNOWN, sha256="b" * 64))
    assert ledger.recall(home / "a") == KNOWN
    assert ledger.place().stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "[]", '{"x": {}}', '{"x": 1}', "not json"])
def test_a_ledger_that_cannot_be_read(home: Path, text: str) -> None:
    ledger.place().parent.mkdir(parents=True)
    ledger.place().write_text(text)
    with pytest.raises(RaveError) as caught:
        ledger.recall(home / "a")
    assert caught.value.exit_code is ExitCode.HOST
    assert str(caught.value.hint).startswith(f"mv {ledger.place()} ")
