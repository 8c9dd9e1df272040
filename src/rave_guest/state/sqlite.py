"""What a service keeps in one SQLite file: copied as of one moment, while the service goes on."""

from __future__ import annotations

import os
from contextlib import closing

from rave_guest.refusal import Refused
from rave_guest.state.pieces import pieces_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator


def kept(service: str, path: str, name: str, folder: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield the copy of the file `name` below `path`, which SQLite itself makes in `folder`.

    Raises:
        Refused: at stage `provider` if the service's file cannot be read.
    """
    import sqlite3

    copy = f"{folder}/{name}"
    try:
        with (
            closing(sqlite3.connect(f"file:{path}/{name}?mode=rw", uri=True)) as ours,
            closing(sqlite3.connect(copy)) as target,
        ):
            ours.backup(target)
    except sqlite3.Error as error:
        raise Refused("provider", f"the {service}'s store: {error}") from error
    yield name, pieces_of(copy)


def put(folder: str, target: str, name: str) -> None:
    """Lay it where the service looks."""
    os.rename(f"{folder}/{name}", f"{target}/{name}")
    os.chmod(f"{target}/{name}", 0o600)


def marks(service: str, place: str, lines: list[str] | None) -> list[str]:
    """Put lines into a table of rave's own (none: take it away), or leave it as it is (None);
    returns what is in it then. No service looks at a table that it did not make.

    Raises:
        Refused: at stage `provider` if the service's file cannot be changed.
    """
    import sqlite3

    try:
        with closing(sqlite3.connect(f"file:{place}?mode=rw", uri=True, timeout=30)) as store:
            with store:
                if lines is not None:
                    store.execute("drop table if exists rave_recovery")
                if lines:
                    store.execute("create table rave_recovery (line text primary key)")
                    store.executemany("insert into rave_recovery values (?)", [(x,) for x in lines])
            there = store.execute("select 1 from sqlite_master where name = 'rave_recovery'")
            if there.fetchone() is None:
                return []
            return [line for (line,) in store.execute("select line from rave_recovery")]
    except sqlite3.Error as error:
        raise Refused("provider", f"the {service}'s store: {error}") from error
