"""Which machines the pool is lent to, and on which terms: a file in the directory of each, which
goes with it. It names the machine's uuid, so that a copy of the directory is lent nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import store
from rave_cli.machines.names import stored_names
from rave_cli.machines.spec import machines_dir
from rave_cli.pool.agents.room import NAME
from rave_cli.pool.jobs.work import MEMORIES, PROCESSORS
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.machines.spec import Machine

FILE = "pool.json"

# Bytes of output, of disk and of an archive that a job of a machine may have.
MOST_OUTPUT = 256 << 10
MOST_DISK = 2 << 30
MOST_GIVEN = 32 << 20

# Seconds, jobs at a time and in an hour, MiB.
LONGEST, MOST_JOBS, MOST_HOURLY, MOST_KEPT = 3600.0, 16, 3600, 1 << 20


@dataclass(frozen=True)
class GuestTerms:
    """What the jobs of a machine may be.

    Attributes:
        uuid: of the machine.
        memory_mib: MiB of memory that one may ask for; None: they have what the pool gives.
        cpus: processors, likewise.
        timeout: seconds that an attempt may take.
        jobs: how many may wait and run at a time.
        per_hour: how many may be submitted in an hour.
        kept_mib: MiB that may be kept of them, which is for 30 days: what they are given, and as
            much output as they may print.
    """

    uuid: str
    memory_mib: int | None = None
    cpus: int | None = None
    timeout: float = 600.0
    jobs: int = 2
    per_hour: int = 60
    kept_mib: int = 1024

    def __post_init__(self) -> None:
        good = (
            self.memory_mib in (None, *MEMORIES)
            and self.cpus in (None, *PROCESSORS)
            and 0 < self.timeout <= LONGEST
            and 0 < self.jobs <= MOST_JOBS
            and 0 < self.per_hour <= MOST_HOURLY
            and 0 < self.kept_mib <= MOST_KEPT
        )
        if not good:
            raise RaveError(
                "no machine may ask a pool for that much",
                hint="rave pool guest add --help",
                exit_code=ExitCode.USAGE,
            )


TERMS = RecordFormat(title="the terms of a machine in the pool", shape=GuestTerms, version=1)


@dataclass(frozen=True)
class PoolGuest:
    """A machine that may ask the pool."""

    machine: Machine
    terms: GuestTerms

    @property
    def owner(self) -> str:
        """Whose its jobs are: never another's, even if that is given the same name later."""
        return f"machine:{self.machine.name}.{self.terms.uuid[:8]}"


def place(name: str) -> Path:
    """Return where the terms of a machine are."""
    return machines_dir() / name / FILE


def lend(name: str, make: Callable[[str], GuestTerms] = GuestTerms) -> PoolGuest:
    """Let a machine ask the pool from now on, on the terms alone that `make` makes for its uuid.

    Raises:
        RaveError: USAGE if there is none, it is one of a job, or the terms are none; HOST if that
            cannot be kept.
    """
    if NAME.fullmatch(name):
        raise RaveError(
            f"{name} is the machine of a job, which may ask for none",
            hint="rave vm list   (the machines)",
            exit_code=ExitCode.USAGE,
        )
    with store.locked(name):
        machine = store.load(name)
        terms = make(machine.spec.uuid)
        TERMS.write(place(name), terms, mode=0o600)
    return PoolGuest(machine, terms)


def take_back(name: str) -> None:
    """Let a machine ask the pool no more.

    Raises:
        RaveError: USAGE if it may not ask already.
    """
    with store.locked(name):
        store.load(name)
        try:
            place(name).unlink()
        except FileNotFoundError:
            raise RaveError(
                f"machine {name} may not ask the pool",
                hint="rave pool guest list",
                exit_code=ExitCode.USAGE,
            ) from None


def of(name: str) -> PoolGuest | None:
    """Return a machine that may ask the pool; None if it may not.

    Raises:
        RaveError: USAGE if there is no such machine; HOST if what is kept of it cannot be read.
    """
    if not place(name).exists():
        return None
    terms = TERMS.read(place(name), hint=f"rave pool guest add {name}   (writes it anew)")
    machine = store.load(name)
    return PoolGuest(machine, terms) if machine.spec.uuid == terms.uuid else None


def lent() -> list[str]:
    """Return the names of the machines that have terms, whether they are theirs or not."""
    return [name for name in stored_names() if place(name).exists()]
