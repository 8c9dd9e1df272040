"""Which job and machine a build has: kept between its stages, each of which is a process."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.pool.jobs.database import folder
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True)
class HeldBuild:
    """A build that has a job.

    Attributes:
        job: its name.
        machine: the name of its machine; empty until it is there.
        status: with which the build ends, as far as is known.
    """

    job: str
    machine: str = ""
    status: int = 0


BUILDS = RecordFormat(title="a build of GitLab's", shape=HeldBuild, version=1)


def read(build: str) -> HeldBuild | None:
    """Return a build; None if it has no job.

    Raises:
        RaveError: HOST if that cannot be read.
    """
    place = _place(build)
    return BUILDS.read(place, hint=f"rm {place}") if place.exists() else None


def write(build: str, held: HeldBuild) -> None:
    """Keep a build."""
    paths.private_dir(_place(build).parent)
    BUILDS.write(_place(build), held, mode=0o600)


def forget(build: str) -> None:
    """Forget a build that is over."""
    with paths.refusing(_place(build)):
        _place(build).unlink(missing_ok=True)


def _place(build: str) -> Path:
    return folder() / "builds" / f"{build}.json"
