"""Whose groups the bridge asks for, where nothing real is needed."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

import pytest

from rave_platform.adapters.chat.directory import FileDirectory, SocketDirectory
from rave_platform.application.chat.ports import (
    DirectoryUnavailableError,
)
from tests.unit.platform.chat.talk import groups

if TYPE_CHECKING:
    from pathlib import Path


def test_groups_are_read_again_when_they_changed_and_not_from_a_file_of_others(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = tmp_path / "groups.json"
    found = FileDirectory(place, {"admin": frozenset({"root"})})
    assert groups(found, "root") == {"admin"}
    assert groups(found, "alice") == frozenset()
    place.write_text('{"staff": ["alice"], "admin": ["alice"]}')
    place.chmod(0o644)
    assert groups(found, "alice") == {"staff", "admin"}
    assert groups(found, "") == frozenset()
    place.write_text('{"staff": ["bobby"]}')
    os.utime(place, (1, 1))
    assert groups(found, "alice") == frozenset()
    assert groups(found, "bobby") == {"staff"}
    with caplog.at_level(logging.WARNING):
        for spoil in (lambda: place.chmod(0o666), lambda: place.write_text("{"), place.unlink):
            spoil()
            assert groups(found, "bobby") == frozenset()
    assert "no groups can be read" in caplog.text


class Accounts:
    """Whoever answers for the identity provider, once for each answer of the script."""

    def __init__(self, *script: bytes) -> None:
        self.script, self.asked = list(script), list[bytes]()

    async def groups(self, place: Path) -> list[frozenset[str] | str]:
        """Ask as often; return what came, or why nothing did."""
        directory = SocketDirectory(place, {"admin": frozenset({"alice"})})
        found: list[frozenset[str] | str] = []
        async with await asyncio.start_unix_server(self._answer, place):
            while self.script:
                try:
                    found.append(await directory.groups("alice"))
                except DirectoryUnavailableError as fault:
                    found.append(str(fault))
        return found

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.asked.append(await reader.read())
        writer.write(self.script.pop(0))
        writer.close()


def test_groups_are_asked_for_each_time(tmp_path: Path) -> None:
    accounts = Accounts(
        b'{"ok": true, "answer": {"groups": ["staff"]}}', b'{"ok": true, "answer": {"groups": []}}',
        b'{"ok": false, "reason": "absent", "error": "there is no account alice"}',
    )  # fmt: skip
    found = asyncio.run(accounts.groups(tmp_path / "s"))
    assert found == [{"staff", "admin"}, {"admin"}, frozenset()]
    assert accounts.asked == [b'{"action": "groups-of", "arguments": {"user": "alice"}}'] * 3


def test_whoever_cannot_say_has_commands_wait(tmp_path: Path) -> None:
    long = b'{"ok": true, "answer": {"groups": ["' + b"a" * (64 << 10) + b'"]}}'
    accounts = Accounts(
        b"", b"{", b"[]", b'{"ok": false, "reason": "system"}', b'{"ok": true}', long
    )
    assert asyncio.run(accounts.groups(tmp_path / "s")) == [
        *["the accounts: ValidationError"] * 3, "the accounts: system",
        "the accounts: no answer", "the accounts: ValidationError",
    ]  # fmt: skip
    with pytest.raises(DirectoryUnavailableError, match="FileNotFoundError"):
        groups(SocketDirectory(tmp_path / "none", {}), "alice")
    assert groups(SocketDirectory(tmp_path / "none", {}), "") == frozenset()
