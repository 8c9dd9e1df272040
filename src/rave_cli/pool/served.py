"""Whether anybody serves the pool, and what they say of themselves, for the commands beside."""

from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from rave_cli import paths
from rave_cli.errors import RaveError
from rave_cli.pool.jobs.database import folder
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path

LOCK = "serving.lock"

# Seconds after which whoever has the lock serves, and does not only ask.
ASKED = 0.5

HoldCode = Literal["", "memory", "disk", "making", "template", "queue"]


@dataclass(frozen=True)
class HoldUp:
    """What keeps agents from taking jobs; the code is empty where nothing does."""

    code: HoldCode
    why: str = ""
    hint: str = ""


FREE = HoldUp("")


@dataclass(frozen=True)
class ServingRecord:
    """The content of pool.json in the runtime directory.

    Attributes:
        pid: who serves.
        since: seconds since the epoch when it began.
        profile: of the machines of jobs.
        base: of the same.
        mode: of the same.
        need_mib: what each may take of the host's memory.
        most: how many jobs may run at a time unless somebody scales it.
        agents: how many may now; 0 while it is drained.
        working: how many agents have a job, or may be about to take one.
        draining: whether it was told to take no more jobs.
        hold: what keeps agents from taking jobs.
        shared: whether agents of other hosts take them, too.
    """

    pid: int
    since: float
    profile: str
    base: str
    mode: str
    need_mib: int
    most: int
    agents: int
    working: int
    draining: bool
    hold: HoldUp
    shared: bool = False


def _not_shared(document: dict[str, Any]) -> dict[str, Any]:
    return document | {"shared": False}


SERVING = RecordFormat(
    title="what the pool's server says",
    shape=ServingRecord,
    version=2,
    upgrades={1: _not_shared},
)


def place() -> Path:
    """Return where it is written."""
    return paths.runtime_dir() / "pool.json"


def api_socket() -> Path:
    """Return the path of the socket at which whoever serves answers its owner."""
    return paths.runtime_dir() / "pool-api.sock"


def read() -> ServingRecord | None:
    """Return what whoever serves said last; None if there is nothing that can be read."""
    try:
        return SERVING.read(place(), hint="rave pool serve")
    except RaveError:
        return None


def lock() -> AbstractContextManager[None]:
    """Return what whoever serves the pool holds.

    Raises:
        RaveError: HOST on entering it, if somebody else does.
    """
    busy = "the pool is served already, by another rave command"
    return paths.lock(paths.private_dir(folder()) / LOCK, busy=busy)


@contextmanager
def alone() -> Iterator[None]:
    """Be the only one who serves; whoever only asks holds the lock for a moment.

    Raises:
        RaveError: HOST if somebody else does.
    """
    until = time.monotonic() + ASKED
    with ExitStack() as stack:
        while True:
            try:
                stack.enter_context(lock())
                break
            except RaveError:
                if time.monotonic() > until:
                    raise
                time.sleep(ASKED / 10)
        yield


def served() -> bool:
    """Return whether somebody serves the pool."""
    try:
        with lock():
            return False
    except RaveError:
        return True
