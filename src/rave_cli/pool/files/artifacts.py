"""What jobs leave: files that are copied out of their machines, of which nothing is trusted.

They lie beside the jobs, by job and attempt. Those of an attempt are whole before it is said to
have ended; whatever was begun and is not named by a job that ended is removed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.transfer import copying
from rave_cli.pool.jobs.database import folder
from rave_cli.pool.jobs.job import NAME, Artifact
from rave_cli.text import cell

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Sequence
    from typing import IO

    from rave_cli.machines.spec import Machine
    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.jobs.work import Work

    # Yields the content of a file that a job left.
    ReadArtifact = Callable[[Job, Artifact], Iterator[bytes]]

# Files of a job: each is told in the store, in its proof and in `rave pool show`.
MOST_FILES = 1000

# Files, folders, and what is left out, of one that is named: they cost inodes before they are
# counted.
MOST_MEMBERS = 4 * MOST_FILES
LONGEST_PATH = 1024

# Bytes that are read at a time.
CHUNK = 1 << 20


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
            most_members=MOST_MEMBERS,
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


def executable(place: Path, left: Sequence[Artifact]) -> tuple[str, ...]:
    """Return the paths of those files in a folder that their owner may execute."""
    with paths.refusing(place):
        return tuple(one.path for one in left if (place / one.path).stat().st_mode & stat.S_IXUSR)


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


def read_kept(job: Job, one: Artifact) -> Iterator[bytes]:
    """Yield the content of a file that a job left, as it lies here.

    Raises:
        RaveError: VERIFICATION if it is not there, or is no file any more.
    """
    with kept_file(job, one).open("rb") as stream:
        while data := stream.read(CHUNK):
            yield data


def kept_file(job: Job, one: Artifact) -> Path:
    """Return where a file that a job left lies.

    Raises:
        RaveError: VERIFICATION if it is not there, or is no file any more.
    """
    file = place_of(job.name, job.attempt) / one.path
    with suppress(OSError):
        if stat.S_ISREG(file.lstat().st_mode):
            return file
    raise _changed(job, [one.path])


def refuse_changed(job: Job, read: ReadArtifact = read_kept) -> None:
    """Refuse the artifacts of a job unless they are as they were when it ended; `read` yields what
    they are now.

    Raises:
        RaveError: VERIFICATION; as `read`.
    """
    wrong = [one.path for one in job.facts.artifacts if not _same(job, one, read, None)]
    if wrong:
        raise _changed(job, wrong)


def hand_out(job: Job, target: Path, read: ReadArtifact | None = None) -> None:
    """Copy the artifacts of a job into a folder that is not there yet: all of them as they were
    when it ended, or none, and executable if it says so. `read` yields those of another host; None
    takes what lies here.

    Raises:
        RaveError: USAGE if something is there; VERIFICATION if an artifact was changed; HOST if it
            cannot be written; as `read`.
    """
    if os.path.lexists(target):
        raise RaveError(
            f"{target} is there already",
            hint="name a folder that is to be made",
            exit_code=ExitCode.USAGE,
        )
    with paths.refusing(target):
        paths.make_dir(target.parent)
        stage = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
        try:
            for one in job.facts.artifacts:
                _hand_out(job, one, stage, read)
            stage.rename(target)
        except BaseException:
            shutil.rmtree(stage, ignore_errors=True)
            raise


def _hand_out(job: Job, one: Artifact, stage: Path, read: ReadArtifact | None) -> None:
    # Another host's pool may say any path.
    if {"", ".", ".."} & set(one.path.split("/")) or cell(one.path) != one.path:
        raise _changed(job, [cell(one.path)])
    to = stage / one.path
    paths.make_dir(to.parent)
    with to.open("xb") as sink:
        if not _same(job, one, read or read_kept, sink):
            raise _changed(job, [one.path])
    if read is None:
        # An older rave did not say which are executable.
        shutil.copymode(kept_file(job, one), to)
    elif one.path in job.facts.executable:
        mode = to.stat().st_mode
        # By whoever may read it.
        to.chmod(mode | (mode & 0o444) >> 2)


def _same(job: Job, one: Artifact, read: ReadArtifact, sink: IO[bytes] | None) -> bool:
    """Return whether what is read is a file that a job left; it is written to `sink` meanwhile."""
    digest, size = hashlib.sha256(), 0
    try:
        for data in read(job, one):
            size += len(data)
            if size > one.size:
                return False
            digest.update(data)
            if sink is not None:
                sink.write(data)
    except RaveError as error:
        if error.exit_code != ExitCode.VERIFICATION:
            raise
        return False
    return (size, digest.hexdigest()) == (one.size, one.sha256)


def _changed(job: Job, wrong: list[str]) -> RaveError:
    return RaveError(
        f"artifacts of job {job.name} were changed or removed: {', '.join(wrong[:4])}",
        hint=f"rave pool retry {job.name}   (makes them anew)",
        exit_code=ExitCode.VERIFICATION,
    )


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
