"""The file of the jobs: opened, brought to this version's tables, and written whole or not at all.

What is written is on the disk once its transaction ends (WAL with synchronous=FULL: with NORMAL a
power cut takes back what was acknowledged, https://www.sqlite.org/pragma.html#pragma_synchronous).
Any number of processes may write and read.
"""

from __future__ import annotations

import errno
import os
import secrets
import sqlite3
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from rave_cli import paths, signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.rows import SCHEMA, UPGRADES, VERSION
from rave_cli.records import NewerRecordError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

# Before the first happening of a queue.
NOTHING_SEEN = "0-0"

# Seconds to wait for another process that writes.
BUSY = 10.0


def folder() -> Path:
    """Return the directory of the pool."""
    return paths.data_dir() / "pool"


def jobs_file() -> Path:
    """Return where the jobs of whoever calls are."""
    return folder() / "jobs.sqlite"


class JobDatabase:
    """The open file; a context that closes it. For one thread."""

    def __init__(self, place: Path) -> None:
        self.place = place
        paths.private_dir(place.parent)
        with paths.refusing(place):
            _make(place)
        paths.require_trusted(place)
        with _refusing(place):
            # No transaction begins by itself.
            self._db = sqlite3.connect(place, timeout=BUSY, isolation_level=None)
            try:
                self._prepare()
            except BaseException:
                self._db.close()
                raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._db.close()

    @property
    def version(self) -> tuple[int, int]:
        """What is another once somebody has written: others, and we. Asking costs next to nothing.

        https://www.sqlite.org/pragma.html#pragma_data_version
        """
        return int(self._rows("PRAGMA data_version")[0][0]), self._db.total_changes

    def _prepare(self) -> None:
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        if self._version() < VERSION:
            with self._writing():
                # Another process may have done it meanwhile.
                if self._version() == 0:
                    self._change(SCHEMA, 1)
                    self._db.execute(
                        "INSERT INTO pool VALUES (?, '', ?)", (secrets.token_hex(6), NOTHING_SEEN)
                    )
                for version in range(self._version(), VERSION):
                    self._change(UPGRADES[version], version + 1)
        if self._version() > VERSION:
            raise NewerRecordError(
                f"the jobs in {self.place} were written by a newer rave (version"
                f" {self._version()}, this rave knows {VERSION})",
                hint="update rave, or use the one that made it; the file was left as it is",
                exit_code=ExitCode.HOST,
            )

    def _change(self, statements: str, version: int) -> None:
        for statement in _apart(statements):
            self._db.execute(statement)
        self._db.execute(f"PRAGMA user_version = {version}")

    def _version(self) -> int:
        return int(self._db.execute("PRAGMA user_version").fetchone()[0])

    @contextmanager
    def no_larger(self) -> Iterator[None]:
        """Let the file not grow meanwhile, as on a disk that is full."""
        before = self._rows("PRAGMA max_page_count")[0][0]
        self._rows(f"PRAGMA max_page_count = {self._rows('PRAGMA page_count')[0][0]}")
        try:
            yield
        finally:
            self._rows(f"PRAGMA max_page_count = {before}")

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """Enclose a transaction: all of it, or nothing."""
        with signals.held(), _refusing(self.place):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def _rows(self, words: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with _refusing(self.place):
            return self._db.execute(words, tuple(values)).fetchall()


def _make(place: Path) -> None:
    """Make an empty file that only we can open, unless there is one.

    One that is there is not opened here: to close it again would take the locks from every other
    connection of this process, and the next command to end would remove the log under them
    (https://www.sqlite.org/howtocorrupt.html, 2.2).
    """
    if place.is_symlink():
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
    if place.exists():
        return
    fd, made = tempfile.mkstemp(prefix=".jobs-", dir=place.parent)
    os.close(fd)
    try:
        with suppress(FileExistsError):
            os.link(made, place)
    finally:
        Path(made).unlink()


def _apart(statements: str) -> Iterator[str]:
    """Yield each statement; a trigger has some of its own."""
    found = ""
    for part in statements.split(";"):
        found += f"{part};"
        if sqlite3.complete_statement(found):
            yield found
            found = ""


@contextmanager
def _refusing(place: Path) -> Iterator[None]:
    """Turn a fault of SQLite into a RaveError that says what to do."""
    try:
        yield
    except sqlite3.Error as error:
        full = getattr(error, "sqlite_errorname", "") == "SQLITE_FULL"
        hint = f"df -h {place.parent}" if full else f"ls -l {place.parent}; df -h {place.parent}"
        raise RaveError(
            f"the jobs in {place} cannot be read or written: {error}",
            hint=hint,
            exit_code=ExitCode.HOST,
        ) from error
