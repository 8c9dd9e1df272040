"""The groups of accounts: asked of the identity provider, or of a JSON file beside it.

It is asked over a socket that it serves to nobody but us. One question is
{"action": "groups-of", "arguments": {"user": "alice"}}, to the end of what is sent; its answer
{"ok": true, "answer": {"groups": ["staff"]}}, or {"ok": false, "reason": "absent"}.
The file, {"staff": ["alice", "bob"], "admin": ["alice"]}, is read whenever it changed.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
from typing import TYPE_CHECKING

from pydantic import BaseModel, TypeAdapter, ValidationError

from rave_platform.adapters import files
from rave_platform.adapters.files import UntrustedFileError
from rave_platform.application.chat.ports import DirectoryUnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from pathlib import Path

LOG = logging.getLogger(__name__)

MEMBERS = TypeAdapter(dict[str, frozenset[str]])

# Seconds until the identity provider has answered, and bytes that it says at most.
ANSWERS = 20.0
LARGEST = 64 * 1024


class ToldGroups(BaseModel):
    """What the identity provider says of an account."""

    groups: frozenset[str]


class ToldAnswer(BaseModel):
    """How it answers."""

    ok: bool
    answer: ToldGroups | None = None
    reason: str = ""


class SocketDirectory:
    """A Directory: the identity provider, asked each time, so that who is disabled is at once."""

    def __init__(self, place: Path, fixed: Mapping[str, frozenset[str]]) -> None:
        self._place = place
        self._fixed = fixed

    async def groups(self, account: str) -> frozenset[str]:
        """As Directory."""
        if not account:
            return frozenset()
        asked = json.dumps({"action": "groups-of", "arguments": {"user": account}}).encode()
        try:
            async with asyncio.timeout(ANSWERS):
                told = ToldAnswer.model_validate_json(await self._ask(asked))
        except (OSError, ValidationError) as fault:
            raise DirectoryUnavailableError(f"the accounts: {type(fault).__name__}") from fault
        if told.ok and told.answer is not None:
            return told.answer.groups | _named(self._fixed, account)
        if told.reason == "absent":
            return frozenset()
        raise DirectoryUnavailableError(f"the accounts: {told.reason or 'no answer'}")

    async def _ask(self, asked: bytes) -> bytes:
        reader, writer = await asyncio.open_unix_connection(self._place)
        try:
            writer.write(asked)
            writer.write_eof()
            # More than that is cut off, and then no JSON.
            parts = [part async for part in _parts(reader)]
        finally:
            writer.close()
        return b"".join(parts)


async def _parts(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    left = LARGEST
    while left > 0 and (part := await reader.read(left)):
        left -= len(part)
        yield part


def _named(members: Mapping[str, frozenset[str]], account: str) -> frozenset[str]:
    return frozenset(group for group, accounts in members.items() if account in accounts)


class FileDirectory:
    """A Directory: the groups of a file, and those that the settings name."""

    def __init__(self, place: Path | None, fixed: Mapping[str, frozenset[str]]) -> None:
        self._place = place
        self._fixed = fixed
        self._seen: tuple[int, ...] = ()
        self._found: Mapping[str, frozenset[str]] = {}

    async def groups(self, account: str) -> frozenset[str]:
        """As Directory; a file that is not there, or that others may write, names nobody."""
        if not account:
            return frozenset()
        self._look()
        return _named(self._fixed, account) | _named(self._found, account)

    def _look(self) -> None:
        if self._place is None:
            return
        try:
            with self._place.open("rb") as file:
                files.require_ours(file.fileno(), self._place)
                state = os.fstat(file.fileno())
                seen = (state.st_ino, state.st_mtime_ns, state.st_size)
                if seen != self._seen:
                    self._found, self._seen = MEMBERS.validate_json(file.read()), seen
        except (OSError, UntrustedFileError, ValidationError) as fault:
            LOG.warning("no groups can be read", extra={"why": type(fault).__name__})
            self._found, self._seen = {}, ()
