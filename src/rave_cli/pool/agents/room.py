"""The memory of this host: whether one more machine fits is measured each time, for machines of one
template share what they have not written.
"""

from __future__ import annotations

import re
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli.machines import preflight
from rave_cli.machines.qemu import accelerator, processes
from rave_cli.machines.spec import machines_dir

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.flows.machine import NewMachine

# What the machine of an attempt is called.
NAME = re.compile(r"job-[0-9a-f]{12}-[0-9]{1,6}")


class Room:
    """The memory of this host, of which each job's machine may need `need_mib`, unless its job asks
    for another size.
    """

    def __init__(self, need_mib: int) -> None:
        self._need = need_mib
        self._lock = threading.Lock()
        self._kept = 0

    @contextmanager
    def kept(self) -> Iterator[str]:
        """Keep room for a machine meanwhile; yields why there is none, or nothing."""
        with self._held(self._need, self._need) as lacks:
            yield lacks

    @contextmanager
    def resized(self, need_mib: int) -> Iterator[str]:
        """Let the room that is kept be for a machine of that size meanwhile; yields likewise."""
        with self._held(need_mib - self._need, need_mib) as lacks:
            yield lacks

    @contextmanager
    def _held(self, more: int, need: int) -> Iterator[str]:
        with self._lock:
            lacks = self._lacks(more, need)
            self._kept += 0 if lacks else more
        try:
            yield lacks
        finally:
            with self._lock:
                self._kept -= 0 if lacks else more

    def _lacks(self, more: int, need: int) -> str:
        available = preflight.available_mib()
        if available is None or more <= 0:
            return ""
        # What those that have room kept for them may still take.
        promised = max(0, self._kept - private_mib()) if self._kept else 0
        if available - promised >= more:
            return ""
        said = f"a machine may take {need} MiB, and {available} MiB are available"
        return said + (f", of which others may still take {promised}" if promised else "")


def need_mib(wanted: NewMachine) -> int:
    """Return the MiB that a machine needs if it touches all its memory."""
    planned = wanted.plan.resources.of(wanted.mode).memory_mib
    return preflight.needed_mib(wanted.memory_mib or planned, accelerator.detect().kind)


def private_mib() -> int:
    """Return the MiB that the machines of jobs have for themselves, not shared with a template."""
    found = 0
    for process in processes.machines():
        place = process.directory
        if place is not None and place.parent == machines_dir() and NAME.fullmatch(place.name):
            found += _anonymous_mib(process.pid)
    return found


def _anonymous_mib(pid: int) -> int:
    with suppress(OSError):
        text = Path(f"/proc/{pid}/status").read_text()
        found = re.search(r"^RssAnon:\s+(\d+) kB", text, re.MULTILINE)
        return int(found[1]) >> 10 if found else 0
    return 0
