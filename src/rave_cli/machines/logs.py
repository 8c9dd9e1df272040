"""What a machine left to read: console, QEMU's own words, the guest's reports, its journal."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from rave_cli.machines.logfiles import CHUNK, Tail, dropped, last_lines
from rave_cli.machines.qemu import processes
from rave_cli.text import clean

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.machines.spec import Machine

# How often a followed log is read, in seconds.
GLANCE = 0.1

# Bytes to which a line without end is cut.
LONGEST_LINE = 64 << 10


def lines(machine: Machine, path: Path, *, last: int | None, follow: bool) -> Iterator[str]:
    """Yield the lines of a log, without what a terminal would take for more than text.

    Args:
        machine: whose log it is; following ends when it no longer runs.
        path: the log.
        last: only so many of the last lines that are there now; None for all.
        follow: go on with what is added.

    Raises:
        RaveError: HOST if the log cannot be read.
    """
    tail = Tail(path)
    if last is not None:
        yield from last_lines(path, last)
        tail.skip()
    elif (lost := dropped(path)) > 0:
        yield f"({lost} bytes before this were dropped)"
    rest = b""
    while True:
        runs = follow and processes.find(machine) is not None
        while data := tail.read(CHUNK):
            whole, rest = _cut(rest + data)
            yield from (_text(line) for line in whole)
        if not runs:
            break
        time.sleep(GLANCE)
    if rest:
        yield _text(rest)


def _cut(data: bytes) -> tuple[list[bytes], bytes]:
    """Return the lines that are whole, and what is left of the last."""
    *whole, rest = data.split(b"\n")
    while len(rest) > LONGEST_LINE:
        whole.append(rest[:LONGEST_LINE])
        rest = rest[LONGEST_LINE:]
    return whole, rest


def _text(line: bytes) -> str:
    return clean(line.decode(errors="replace").rstrip("\r"))


def journal(machine: Machine, count: int) -> Iterator[str]:
    """Yield the last `count` lines of the guest's journal, read over SSH.

    Raises:
        RaveError: NOT_READY if the machine cannot be reached.
    """
    from rave_cli.machines.guest.ssh import connect

    with connect(machine) as session:
        done = session.run(
            ["journalctl", "--no-pager", "--lines", str(count)], timeout=60, sudo=True
        )
    yield from (clean(line) for line in done.text.splitlines())
