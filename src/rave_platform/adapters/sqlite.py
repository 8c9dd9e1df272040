"""A store of a service: one SQLite file, durable when a transaction has ended, whatever is killed.

WAL with synchronous=FULL: with NORMAL a power cut takes back what was acknowledged
(https://www.sqlite.org/pragma.html#pragma_synchronous).
"""

from __future__ import annotations

import os
import sqlite3
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from rave_platform.adapters import files
from rave_platform.adapters.files import UntrustedFileError
from rave_platform.application.ports import StoreUnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

# Seconds to wait for another process that writes.
BUSY = 5.0

# What a store knows besides its rows; each schema has it.
FACTS = "CREATE TABLE facts (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID"


class SqliteFile:
    """An open store. For one thread at a time."""

    def __init__(self, place: Path, schema: str, version: int, *, create: bool = True) -> None:
        """Open it, and make it if it is not there and `create`.

        Raises:
            StoreUnavailableError: if it cannot be used, or a newer version wrote it.
        """
        self.place = place
        with self._refusing():
            # What is in it is nobody else's business.
            flags = os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW
            descriptor = os.open(place, flags | (os.O_CREAT if create else 0), 0o600)
            try:
                files.require_ours(descriptor, place, secret=True)
            finally:
                os.close(descriptor)
            self._db = sqlite3.connect(
                place, timeout=BUSY, isolation_level=None, check_same_thread=False
            )
            try:
                self._prepare(schema, version)
            except BaseException:
                self._db.close()
                raise

    def close(self) -> None:
        """Close it."""
        self._db.close()

    def _prepare(self, schema: str, version: int) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        # Memory is scarcer than reads: 1 MiB.
        self._db.execute("PRAGMA cache_size = -1024")
        if self._version() == 0:
            with self.writing():
                # Another process may have made it meanwhile.
                if self._version() == 0:
                    for statement in f"{schema};{FACTS}".split(";"):
                        self._db.execute(statement)
                    self._db.execute(f"PRAGMA user_version = {version}")
        if self._version() > version:
            raise StoreUnavailableError(f"{self.place} was written by a newer version")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    def execute(
        self, words: str, values: Sequence[object] | dict[str, object] = ()
    ) -> sqlite3.Cursor:
        """Carry out a statement within a transaction."""
        return self._db.execute(words, values)

    def rows(
        self, words: str, values: Sequence[object] | dict[str, object] = ()
    ) -> list[tuple[Any, ...]]:
        """Return what a query finds."""
        with self._refusing():
            return self._db.execute(words, values).fetchall()

    def fact(self, name: str) -> str | None:
        """Return a fact, if it is known."""
        found = self.rows("SELECT value FROM facts WHERE name = ?", (name,))
        return str(found[0][0]) if found else None

    def set_fact(self, name: str, value: str) -> None:
        """Set a fact, within a transaction."""
        self._db.execute("INSERT OR REPLACE INTO facts VALUES (?, ?)", (name, value))

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Enclose a transaction: all of it, or nothing."""
        with self._refusing():
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    @contextmanager
    def unsynced(self) -> Iterator[None]:
        """Enclose transactions that a power cut may take back."""
        with self._refusing():
            self._db.execute("PRAGMA synchronous = NORMAL")
        try:
            yield
        finally:
            self._db.execute("PRAGMA synchronous = FULL")

    @contextmanager
    def _refusing(self) -> Iterator[None]:
        """Raise what SQLite or the disk refuses as what the application knows."""
        try:
            yield
        except (sqlite3.DatabaseError, OSError, UntrustedFileError) as fault:
            raise StoreUnavailableError(
                f"the store {self.place} cannot be used: {fault}"
            ) from fault
