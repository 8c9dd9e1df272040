"""Files of builds between machines, this host and GitLab, which a machine does not reach.

Of what comes out of a machine nothing is unpacked here, and what comes from GitLab is unpacked in
the machine alone.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import os
import shutil
import ssl
import tarfile
import tempfile
import time
import zipfile
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

import httpx

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.database import folder

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.guest.session import Session
    from rave_cli.pool.builds.wanted import (
        BuildFiles,
        WantedArtifact,
        WantedBuild,
        WantedCache,
        WantedFiles,
    )

# Bytes of an archive, of the names of a build's files, and of all caches; those that were used
# longest ago go first.
MOST = 1 << 30
MOST_NAMES = 16 << 20
MOST_CACHED = 20 << 30

# Seconds for GitLab to answer, and how often it is asked.
ANSWERS, TRIES, AGAIN = 60.0, 3, 1.0

_LIST = 'cd "$1" && exec find . -mindepth 1 \\( -type f -o -type l \\) -print0'
_PACK = 'exec tar -c -f - -C "$1" --no-recursion --null -T -'
_UNPACK = 'umask 022 && mkdir -p "$1" && exec tar -x -f - -C "$1" --no-same-owner'


class BuildMachine:
    """The files of a build in its machine: below `directory`."""

    def __init__(self, session: CommandChannel | Session, directory: str, patience: float) -> None:
        self._session, self._directory, self._patience = session, directory, patience

    def put(self, archive: IO[bytes]) -> None:
        """Unpack a tar archive there.

        Raises:
            RaveError: CHECK_FAILED if it cannot be; NOT_READY if the machine is lost.
        """
        archive.seek(0)
        self._run(_UNPACK, archive, None)

    @contextlib.contextmanager
    def packed(self, wanted: WantedFiles) -> Iterator[IO[bytes] | None]:
        """Yield a tar archive of files there; None if there are none of those.

        Raises:
            RaveError: CHECK_FAILED if they are too many or too large; NOT_READY as `put`.
        """
        with _temporary() as names, _temporary() as listed, _temporary() as archive:
            self._run(_LIST, None, _Bounded(listed, MOST_NAMES))
            listed.seek(0)
            text = listed.read().decode(errors="surrogateescape")
            there = [name.removeprefix("./") for name in text.split("\0") if name]
            chosen = wanted.chosen(there)
            if not chosen:
                yield None
                return
            said = "".join(f"./{name}\0" for name in chosen)
            names.write(said.encode(errors="surrogateescape"))
            names.seek(0)
            self._run(_PACK, names, _Bounded(archive, MOST))
            archive.seek(0)
            yield archive

    def _run(self, script: str, stdin: IO[bytes] | None, sink: _Bounded | None) -> None:
        said = bytearray()

        def take(stream: int, data: bytes) -> None:
            if stream == 1 and sink is not None:
                sink.write(data)
            else:
                said.extend(data[: 4096 - len(said)])

        argv = ("sh", "-c", script, "sh", self._directory)
        fd = None if stdin is None else stdin.fileno()
        status = self._session.stream(argv, stdin=fd, on_output=take, timeout=self._patience)
        if status != 0:
            last = " ".join(said.decode(errors="replace").split()[-40:])
            raise _failed(f"files of the build cannot be moved: {last or f'exit status {status}'}")


class _Bounded:
    def __init__(self, sink: IO[bytes], most: int) -> None:
        self._sink, self._left = sink, most

    def write(self, data: bytes) -> None:
        self._left -= len(data)
        if self._left < 0:
            raise _failed("files of the build are more than are moved")
        self._sink.write(data)


# --- caches, which stay on this host


def cached(project: str, cache: WantedCache) -> IO[bytes] | None:
    """Return the archive under the first key of a project that there is one under."""
    for key in cache.keys:
        place = _place(project, key)
        with contextlib.suppress(OSError):
            found = place.open("rb")
            # It was used just now.
            place.touch()
            return found
    return None


def keep(project: str, key: str, archive: IO[bytes]) -> None:
    """Keep an archive under a key of a project, in place of what was there.

    Raises:
        RaveError: HOST if the disk is full.
    """
    place = _place(project, key)
    above = paths.private_dir(place.parent)
    with paths.refusing(place):
        fd, new = tempfile.mkstemp(prefix=".new-", dir=above)
        try:
            with os.fdopen(fd, "wb") as sink:
                shutil.copyfileobj(archive, sink)
            Path(new).replace(place)
        finally:
            Path(new).unlink(missing_ok=True)
        _make_room(above)


def _make_room(above: Path) -> None:
    files = sorted((one.stat().st_mtime, one.stat().st_size, one) for one in above.iterdir())
    total = sum(size for _, size, _ in files)
    for _, size, file in files[:-1]:
        if total <= MOST_CACHED:
            return
        file.unlink(missing_ok=True)
        total -= size


def _place(project: str, key: str) -> Path:
    name = hashlib.sha256(f"{project}\0{key}".encode(errors="surrogateescape")).hexdigest()
    return folder() / "builds" / "cache" / name


# --- artifacts, which GitLab has


def send(server: str, build: str, files: BuildFiles, one: WantedArtifact, tar: IO[bytes]) -> None:
    """Give GitLab an artifact of a build, as its runner does.

    Raises:
        RaveError: NOT_READY if it does not take it.
    """
    ending, pack = (".gz", _gzipped) if one.form == "gzip" else (".zip", _zipped)
    asked = {"artifact_format": one.form, "artifact_type": one.kind, "expire_in": one.expires}
    with _temporary() as packed:
        pack(tar, packed)
        name = f"{Path(one.name).name or 'artifacts'}{ending}"
        url = f"{server}/api/v4/jobs/{build}/artifacts"
        params = {word: value for word, value in asked.items() if value}
        why = ""
        for _ in range(TRIES):
            why, again = _offered(files.token, url, params, (name, packed))
            if not again:
                break
            time.sleep(AGAIN)
        if why:
            raise _refused(f"{name} is not uploaded: {why}")


def _offered(
    token: str, url: str, params: dict[str, str], file: tuple[str, IO[bytes]]
) -> tuple[str, bool]:
    """Offer a file to GitLab once; return why it does not take it, and whether it may later."""
    file[1].seek(0)
    try:
        with _client(token) as client:
            answer = client.post(url, params=params, files={"file": file})
    except httpx.HTTPError as error:
        return f"GitLab does not answer: {type(error).__name__}", True
    if answer.status_code == 201:
        return "", False
    return f"GitLab answers {answer.status_code}", answer.status_code >= 500


@contextlib.contextmanager
def fetched(server: str, one: WantedBuild) -> Iterator[IO[bytes]]:
    """Yield the artifacts of another build as a tar archive.

    Raises:
        RaveError: NOT_READY if GitLab does not give them; CHECK_FAILED if they are no archive, or
            too large.
    """
    with _temporary() as archive, _temporary() as tar:
        sink = _Bounded(archive, MOST)
        url = f"{server}/api/v4/jobs/{one.number}/artifacts"
        try:
            with _client(one.token) as client, client.stream("GET", url) as answer:
                if answer.status_code != 200:
                    raise _refused(
                        f"artifacts of {one.name} are not there: GitLab answers"
                        f" {answer.status_code}"
                    )
                for piece in answer.iter_bytes():
                    sink.write(piece)
        except httpx.HTTPError as error:
            raise _refused(f"GitLab does not answer: {type(error).__name__}") from error
        _tarred(archive, tar)
        yield tar


def _client(token: str) -> httpx.Client:
    # A redirection might lead anywhere, and would take the token along.
    return httpx.Client(
        headers={"JOB-TOKEN": token}, timeout=ANSWERS, verify=ssl.create_default_context()
    )


def _zipped(tar: IO[bytes], sink: IO[bytes]) -> None:
    with _read(tar) as archive, zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED) as made:
        for member in archive:
            kind = 0o120000 if member.issym() else 0o100000
            at = time.localtime(min(max(member.mtime, 400_000_000), 4_000_000_000))[:6]
            info = zipfile.ZipInfo(member.name.removeprefix("./"), at)
            info.external_attr = (kind | member.mode & 0o777) << 16
            info.compress_type = zipfile.ZIP_DEFLATED
            source = archive.extractfile(member) if member.isreg() else None
            if source is not None:
                with made.open(info, "w") as target:
                    shutil.copyfileobj(source, target)
            elif member.issym():
                made.writestr(info, member.linkname)


def _gzipped(tar: IO[bytes], sink: IO[bytes]) -> None:
    with _read(tar) as archive:
        for member in archive:
            source = archive.extractfile(member) if member.isreg() else None
            if source is not None:
                name = Path(member.name).name
                with gzip.GzipFile(name, "wb", fileobj=sink, mtime=0) as target:
                    shutil.copyfileobj(source, target)


def _tarred(archive: IO[bytes], sink: IO[bytes]) -> None:
    try:
        with zipfile.ZipFile(archive) as found, tarfile.open(fileobj=sink, mode="w") as made:
            if sum(one.file_size for one in found.infolist()) > MOST:
                raise _failed("artifacts of another build are larger than are moved")
            for one in found.infolist():
                mode = one.external_attr >> 16
                info = tarfile.TarInfo(one.filename)
                info.mode = mode & 0o777 or (0o755 if one.is_dir() else 0o644)
                if one.is_dir():
                    info.type = tarfile.DIRTYPE
                    made.addfile(info)
                elif mode & 0o170000 == 0o120000:
                    info.type, info.linkname = tarfile.SYMTYPE, found.read(one).decode()
                    made.addfile(info)
                else:
                    info.size = one.file_size
                    with found.open(one) as source:
                        made.addfile(info, source)
    except (zipfile.BadZipFile, tarfile.TarError, ValueError, NotImplementedError) as error:
        raise _failed(f"artifacts of another build are no archive: {error}") from error


def _read(tar: IO[bytes]) -> tarfile.TarFile:
    tar.seek(0)
    return tarfile.open(fileobj=tar, mode="r:")


def _temporary() -> IO[bytes]:
    above = paths.private_dir(folder() / "builds")
    return cast("IO[bytes]", tempfile.TemporaryFile(dir=above))


def _failed(why: str) -> RaveError:
    return RaveError(
        why, hint="artifacts: or cache: in .gitlab-ci.yml", exit_code=ExitCode.CHECK_FAILED
    )


def _refused(why: str) -> RaveError:
    return RaveError(
        why, hint="curl -I GITLAB/api/v4/version   (from this host)", exit_code=ExitCode.NOT_READY
    )
