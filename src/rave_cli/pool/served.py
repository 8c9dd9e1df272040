"""What whoever serves the pool says of itself, for the commands beside it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rave_cli import paths
from rave_cli.errors import RaveError
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from pathlib import Path

HoldCode = Literal["", "memory", "template", "queue"]


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


SERVING = RecordFormat(title="what the pool's server says", shape=ServingRecord, version=1)


def place() -> Path:
    """Return where it is written."""
    return paths.runtime_dir() / "pool.json"


def read() -> ServingRecord | None:
    """Return what whoever serves said last; None if there is nothing that can be read."""
    try:
        return SERVING.read(place(), hint="rave pool serve")
    except RaveError:
        return None
