"""Files of jobs as they go from one host to another: an input as it is kept, artifacts as a tar
archive, of which nothing is trusted by whoever unpacks it.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
import tempfile
from typing import IO, TYPE_CHECKING, cast

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.files import artifacts

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from rave_cli.pool.jobs.job import Artifact
    from rave_cli.pool.jobs.work import JobInput, Work

# Bytes that the archive of so many files may have beside what is in them: a header and its padding,
# and a longer name.
OVERHEAD = artifacts.MOST_FILES * 4096 + (64 << 10)


class Arriving:
    """A file that arrives, without a name: nothing is left of it, whatever ends us."""

    def __init__(self, folder: Path, most: int) -> None:
        self._stream = _nameless(paths.private_dir(folder))
        self._left = most

    def __enter__(self) -> Arriving:
        return self

    def __exit__(self, *_fault: object) -> None:
        self._stream.close()

    def write(self, data: bytes) -> None:
        """Take in a piece.

        Raises:
            RaveError: CHECK_FAILED if it is more than there may be; HOST if the disk is full.
        """
        self._left -= len(data)
        if self._left < 0:
            raise _refused("it is larger than it may be")
        with paths.refusing(paths.data_dir()):
            self._stream.write(data)

    def opened(self) -> IO[bytes]:
        """Return it from its beginning."""
        self._stream.flush()
        self._stream.seek(0)
        return self._stream

    def descriptor(self, given: JobInput) -> int:
        """Return a descriptor of it, once it is known to be what a job is given.

        Raises:
            RaveError: CHECK_FAILED if it is not.
        """
        stream = self.opened()
        if hashlib.file_digest(stream, "sha256").hexdigest() != given.sha256:  # type: ignore[arg-type]
            raise _refused("it is another than was submitted")
        stream.seek(0)
        return os.dup(stream.fileno())


def pieces(stream: IO[bytes], size: int) -> Iterator[bytes]:
    """Yield what a stream has, `size` bytes at a time."""
    while data := stream.read(size):
        yield data


def packed(place: Path, left: Sequence[Artifact]) -> IO[bytes]:
    """Return an archive of artifacts in a folder, as a file without a name.

    Raises:
        RaveError: HOST if it cannot be written.
    """
    with paths.refusing(place):
        stream = _nameless(place.parent)
        with tarfile.open(fileobj=stream, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for one in left:
                archive.add(place / one.path, arcname=one.path, recursive=False)
        stream.seek(0)
    return stream


def unpack(stream: IO[bytes], place: Path, work: Work) -> tuple[Artifact, ...]:
    """Lay artifacts out in a folder, made anew; return what is there then.

    Raises:
        RaveError: CHECK_FAILED if there is something that the job was not to leave; HOST if it
            cannot be written.
    """
    artifacts.remove(place)
    try:
        return _unpacked(stream, place, work)
    except BaseException:
        artifacts.remove(place)
        raise


def _unpacked(stream: IO[bytes], place: Path, work: Work) -> tuple[Artifact, ...]:
    paths.private_dir(place.parent)
    paths.private_dir(place)
    left = work.most_artifacts
    try:
        with paths.refusing(place), tarfile.open(fileobj=stream, mode="r:") as archive:
            for number, member in enumerate(archive):
                left -= member.size
                if number >= artifacts.MOST_FILES or left < 0:
                    raise _refused("they are more than the job may leave")
                _lay_out(archive, member, place, work)
    except tarfile.TarError as error:
        raise _refused(f"it is no archive: {error}") from error
    return artifacts.found_in(place)


def _lay_out(archive: tarfile.TarFile, member: tarfile.TarInfo, place: Path, work: Work) -> None:
    parts = member.name.split("/")
    named = any(f"{member.name}/".startswith(f"{path}/") for path in work.artifacts)
    content = archive.extractfile(member) if member.isreg() else None
    if content is None or not named or {"", ".", ".."} & set(parts):
        raise _refused("there is something that the job was not to leave")
    target = place.joinpath(*parts)
    paths.make_dir(target.parent)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(target, flags, 0o700 if member.mode & 0o100 else 0o600), "wb") as file:
        while data := content.read(1 << 20):
            file.write(data)
        file.flush()
        os.fsync(file.fileno())


def listing(left: Sequence[Artifact]) -> bytes:
    """Return what tells artifacts from all others: on either side it is the same."""
    text = json.dumps(sorted((one.path, one.size, one.sha256) for one in left))
    return hashlib.sha256(text.encode()).hexdigest().encode()


def _nameless(folder: Path) -> IO[bytes]:
    return cast("IO[bytes]", tempfile.TemporaryFile(dir=folder))


def _refused(why: str) -> RaveError:
    return RaveError(
        f"a file of another host is refused: {why}",
        hint="rave pool status   (on the host that submitted the job)",
        exit_code=ExitCode.CHECK_FAILED,
    )
