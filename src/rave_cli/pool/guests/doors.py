"""Answers the machines that the pool is lent to, while it is served: one thread for all of them."""

from __future__ import annotations

import logging
import os
import select
import threading
import time
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.pool.access.local import LocalPool
from rave_cli.pool.guests import terms
from rave_cli.pool.guests.answering import GuestDesk
from rave_cli.pool.guests.door import GoneError, GuestDoor, connect
from rave_cli.pool.jobs.store import open_store

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.guests.terms import PoolGuest
    from rave_cli.pool.jobs.store import JobStore

log = logging.getLogger("rave.pool.guests")

# Seconds between two looks at which machines there are, so that one that may ask no more is heard
# no longer; and between two words about what was refused.
LOOK = 1.0
TOLD = 60.0


@contextmanager
def answered() -> Iterator[None]:
    """Answer machines meanwhile; whoever calls is the only one who serves the pool."""
    reads, rings = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    thread = threading.Thread(target=_serve, args=(reads,), name="machines at the pool")
    thread.start()
    try:
        yield
    finally:
        os.close(rings)
        thread.join()
        os.close(reads)


def _serve(ends: int) -> None:
    with ExitStack() as stack:
        doors = GuestDoors(stack)
        stack.callback(doors.close)
        going = True
        while going:
            try:
                going = doors.turn(ends)
            except Exception:
                log.exception("machines are not heard for a while")
                going = not _ready({ends}, set(), LOOK)


def _ready(reads: set[int], writes: set[int], patience: float) -> set[int]:
    """Return which descriptors there is something to do with, at most so many seconds later."""
    poll = select.poll()
    for fd in reads | writes:
        wanted = (select.POLLIN if fd in reads else 0) | (select.POLLOUT if fd in writes else 0)
        poll.register(fd, wanted)
    return {fd for fd, _ in poll.poll(patience * 1000)}


class GuestDoors:
    """The ports of all machines that may ask. For one thread; `stack` closes the store."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack = stack
        self._store: JobStore | None = None
        self._doors: dict[str, GuestDoor] = {}
        self._known: dict[str, tuple[tuple[int, int], PoolGuest]] = {}
        self._look = self._tell = 0.0

    def turn(self, ends: int) -> bool:
        """Do once what there is to do; False once the other end of `ends` is closed."""
        now = time.monotonic()
        if now >= self._look:
            self._look = now + LOOK
            self._renew()
            self._say_refused(now)
        doors = {one.fileno(): one for one in self._doors.values()}
        hears = {fd for fd, one in doors.items() if one.wait(now) == 0.0}
        speaks = {fd for fd, one in doors.items() if one.speaks}
        asked = {fd for fd in hears if doors[fd].waits}
        waits = [one.wait(now) or LOOK for fd, one in doors.items() if fd not in hears]
        patience = 0.0 if asked else max(0.0, min([self._look - now, *waits]))
        found = _ready({ends, *hears}, speaks, patience)
        for fd in asked | (found & hears):
            self._guarded(doors[fd], now, says=False)
        for fd in found & speaks:
            self._guarded(doors[fd], now, says=True)
        return ends not in found

    def close(self) -> None:
        """Leave all of them."""
        for one in self._doors.values():
            one.close()
        self._doors.clear()

    def _guarded(self, door: GuestDoor, now: float, *, says: bool) -> None:
        """Serve a machine; whatever becomes of it, the others are served on."""
        try:
            door.say() if says else door.hear(now)
        except GoneError:
            self._drop(door)
        except Exception:
            log.exception("machine %s is not heard for a while", door.desk.guest.machine.name)
            self._drop(door)

    def _drop(self, door: GuestDoor) -> None:
        door.close()
        for name in [name for name, one in self._doors.items() if one is door]:
            del self._doors[name]

    # --- which there are

    def _renew(self) -> None:
        """Take in who may ask now, on which terms, and whose port is open."""
        guests = {name: one for name in terms.lent() if (one := self._guest(name))}
        for name, door in list(self._doors.items()):
            if name not in guests or guests[name].owner != door.desk.guest.owner:
                self._drop(door)
            else:
                door.desk.guest = guests[name]
                door.desk.given.rest(time.monotonic())
        self._known = {name: one for name, one in self._known.items() if name in guests}
        for name, guest in guests.items():
            if name not in self._doors:
                self._open(name, guest)

    def _guest(self, name: str) -> PoolGuest | None:
        """Return a machine that may ask, read anew if its terms are others than before."""
        try:
            seen = terms.place(name).stat()
            key = (seen.st_ino, seen.st_mtime_ns)
            known = self._known.get(name)
            if known is None or known[0] != key:
                found = terms.of(name)
                if found is None:
                    return None
                self._known[name] = known = (key, found)
            return known[1]
        except OSError:
            return None
        except RaveError as error:
            log.warning("machine %s may not ask the pool: %s", name, error.message)
            return None

    def _open(self, name: str, guest: PoolGuest) -> None:
        if not guest.machine.pool_socket.exists():
            return
        stream = connect(guest.machine.pool_socket)
        if stream is None:
            return
        try:
            if self._store is None:
                self._store = self._stack.enter_context(open_store())
        except RaveError as error:
            log.warning("machines are not answered: %s", error.message)
            stream.close()
            return
        desk = GuestDesk(guest, LocalPool(self._store, guest.owner))
        self._doors[name] = GuestDoor(stream, desk)

    def _say_refused(self, now: float) -> None:
        if now < self._tell:
            return
        self._tell = now + TOLD
        for name, door in self._doors.items():
            if door.desk.refused:
                log.warning("machine %s: %d questions refused", name, door.desk.refused)
                door.desk.refused = 0
