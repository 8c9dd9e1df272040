"""What jobs leave: files that are copied out of their machines, of which nothing is trusted.

They lie beside the jobs, by job and attempt. Those of an attempt are whole before it is said to
have ended; whatever was begun and is not named by a job that ended is removed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.transfer import copying
from rave_cli.pool.jobs import NAME, Artifact
from rave_cli.pool.jobstore import folder
from rave_cli.text import cell

if TYPE_CHECKING:
    from collections.abc import Callable, Collection

    from rave_cli.machines.spec import Machine
    from rave_cli.pool.jobs import Job, Work

# Files of a job: each is told in the store, in its proof and in `rave pool show`.
MOST_FILES = 1000
LONGEST_PATH = 1024


def collect(machine: Machine, work: Work, place: Path, where: str) -> tuple[Artifact, ...]:
    """Copy what is to be kept out of a machine.

    Args:
        machine: the machine.
        work: what is to be kept, and how much of it.
        place: the folder for it, made anew.
        where: the folder in the guest in which the command ran.

    Raises:
        RaveError: USAGE if the command did not leave it; CHECK_FAILED if it is too much, or must
            not be on this host; HOST if it cannot be written; NOT_READY if the machine is lost.
    """
    remove(place)
    paths.private_dir(place.parent)
    paths.private_dir(place)
    bound = _bound(work.most_artifacts)
    for path in work.artifacts:
        target = place / path
        paths.make_dir(target.parent)
        copying.fetch(
            machine,
            f"{where}/{path}",
            target,
            sudo=False,
            leave_out=True,
            on_total=lambda _total: None,
            on_bytes=bound,
        )
    return found_in(place)


def _bound(most: int) -> Callable[[int], None]:
    left = most

    def count(size: int) -> None:
        nonlocal left
        left -= size
        if left < 0:
            raise RaveError(
                f"its artifacts are larger than {most >> 20} MiB",
                hint="rave pool submit --most-artifacts MIB",
                exit_code=ExitCode.CHECK_FAILED,
            )

    return count


def found_in(place: Path) -> tuple[Artifact, ...]:
    """Return the files in a folder, by their paths; links are none.

    Raises:
        RaveError: CHECK_FAILED if there are too many, or one's name is too long or cannot be shown.
    """
    found = []
    with paths.refusing(place):
        for root, folders, files in os.walk(place):
            folders.sort()
            for name in sorted(files):
                file = Path(root, name)
                if stat.S_ISREG(file.lstat().st_mode):
                    found.append(_artifact(file, place))
                if len(found) > MOST_FILES:
                    raise _refused(f"there are more than {MOST_FILES} of them")
    return tuple(found)


def _artifact(file: Path, place: Path) -> Artifact:
    path = str(file.relative_to(place))
    if cell(path) != path or len(path) > LONGEST_PATH:
        raise _refused(f"one is called {cell(path)[:80]!r}, which cannot be shown as it is")
    with file.open("rb") as stream:
        digest = hashlib.file_digest(stream, "sha256").hexdigest()
    return Artifact(path, file.stat().st_size, digest)


def _refused(why: str) -> RaveError:
    return RaveError(
        f"its artifacts are not kept: {why}",
        hint="put them into an archive",
        exit_code=ExitCode.CHECK_FAILED,
    )


def refuse_changed(job: Job) -> None:
    """Refuse the artifacts of a job unless they are here as they were when it ended.

    Raises:
        RaveError: VERIFICATION.
    """
    if not job.facts.artifacts:
        return
    there = {one.path: one for one in found_in(place_of(job.name, job.attempt))}
    wrong = [one.path for one in job.facts.artifacts if there.get(one.path) != one]
    if wrong:
        raise RaveError(
            f"artifacts of job {job.name} were changed or removed: {', '.join(wrong[:4])}",
            hint=f"rave pool retry {job.name}   (makes them anew)",
            exit_code=ExitCode.VERIFICATION,
        )


def hand_out(job: Job, target: Path) -> None:
    """Copy the artifacts of a job into a folder that is not there yet.

    Raises:
        RaveError: USAGE if something is there; VERIFICATION if an artifact was changed; HOST if it
            cannot be written.
    """
    if os.path.lexists(target):
        raise RaveError(
            f"{target} is there already",
            hint="name a folder that is to be made",
            exit_code=ExitCode.USAGE,
        )
    refuse_changed(job)
    place = place_of(job.name, job.attempt)
    with paths.refusing(target):
        for one in job.facts.artifacts:
            to = target / one.path
            paths.make_dir(to.parent)
            shutil.copyfile(place / one.path, to, follow_symlinks=False)
            shutil.copymode(place / one.path, to)


def place_of(job: str, attempt: int) -> Path:
    """Return where the artifacts of an attempt lie."""
    return _folder() / f"{job}-{attempt}"


def remove(place: Path) -> None:
    """Remove what is left of an attempt.

    Raises:
        RaveError: HOST if it cannot be removed.
    """
    with paths.refusing(place), suppress(FileNotFoundError):
        shutil.rmtree(place)


def prune(kept: Collection[str]) -> int:
    """Remove the artifacts of all attempts but those of `kept`, as `job-attempt`; return how many.
    The caller is the only one who serves, and no job runs.
    """
    gone = 0
    with suppress(OSError):
        for place in _folder().iterdir():
            job, _, attempt = place.name.partition("-")
            if NAME.fullmatch(job) and attempt.isdigit() and place.name not in kept:
                with suppress(RaveError):
                    remove(place)
                    gone += 1
    return gone


def _folder() -> Path:
    return folder() / "artifacts"
