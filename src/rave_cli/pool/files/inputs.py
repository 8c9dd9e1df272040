"""What jobs are given: tar archives, kept by their digest beside the jobs that name them.

A machine of a job reaches no network, so what it needs is fetched here, before the job is
submitted, and is the same in every attempt. An archive is not looked into: only the guest unpacks
it.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import stat
import tarfile
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, cast

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.database import folder
from rave_cli.pool.jobs.work import JobInput

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

MOST = 512 << 20
CHUNK = 1 << 20

# Seconds after which what no job names is nobody's: whoever submits keeps it first.
UNCLAIMED = 86400.0

# Seconds for a repository to be fetched.
FETCHES = 600.0

# What a repository, or the address of one, could make git run here.
_HARMLESS = (
    "-c", "core.hooksPath=/dev/null", "-c", "protocol.ext.allow=never",
    "-c", "fetch.recurseSubmodules=no", "-c", "core.fsmonitor=false", "-c", "gc.auto=0",
)  # fmt: skip


def place(given: JobInput) -> Path:
    """Return where an archive is kept."""
    return _folder() / given.sha256


def keep_folder(source: Path) -> JobInput:
    """Keep what is in a folder. Links in it stay links; what is no file, folder or link is left
    out; owners are not kept.

    Raises:
        RaveError: USAGE if there is none, or it is too large; HOST if it cannot be read or kept.
    """
    if not source.is_dir():
        raise RaveError(
            f"{source} is no folder",
            hint="--input FOLDER; or --input - for a tar archive on standard input",
            exit_code=ExitCode.USAGE,
        )

    with paths.refusing(source), _new() as new:
        # A stream is only written to.
        sink = cast("IO[bytes]", new)
        with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:
            archive.add(source, arcname=".", filter=_nobodys)
        return new.kept(f"folder {source.resolve().name}")


def keep_stream(source: int) -> JobInput:
    """Keep the tar archive that a descriptor gives until its end.

    Raises:
        RaveError: USAGE if it gives none, or it is too large; HOST if it cannot be kept.
    """
    with paths.refusing(_folder()), _new() as new:
        while data := os.read(source, CHUNK):
            new.write(data)
        new.stream.seek(0)
        if not tarfile.is_tarfile(new.stream):
            raise RaveError(
                "what came on standard input is no tar archive",
                hint="tar -c . | rave pool submit --input - -- COMMAND",
                exit_code=ExitCode.USAGE,
            )
        return new.kept("standard input")


def keep_commit(
    url: str, revision: str, *, authorization: str = "", history: int | None = None
) -> JobInput:
    """Keep what is in a commit of a repository; git fetches it as its user is set up to, over HTTP
    with an `authorization` if there is one, which goes to that address alone. With `history` there
    is a repository beside it, of so many commits, 0 for all, which knows its address.

    Raises:
        RaveError: USAGE if git does not find it; HOST if there is no git, or it cannot be kept.
    """
    _check_words(url, revision)
    process.require("git")
    with tempfile.TemporaryDirectory(prefix="rave-git-") as text, _new() as new:
        work, tar = paths.make_dir(Path(text, ".git")), Path(text, "tar")
        # No hooks, which a template of this host's may have.
        _git(work, "init", "--quiet", "--template=")
        depth = 1 if history is None else history
        bound = ("--depth", str(depth)) if depth else ()
        fetch = ("fetch", "--quiet", *bound, "--no-tags", "--", url, revision)
        _git(work, *fetch, env=_authorized(url, authorization))
        commit = _git(work, "rev-parse", "--verify", "FETCH_HEAD^{commit}").decode().strip()
        _git(work, "archive", "--format=tar", "--output", str(tar), commit)
        if history is not None:
            _add_repository(work, commit, url, tar)
        with paths.refusing(work), tar.open("rb") as archive:
            while data := archive.read(CHUNK):
                new.write(data)
        return new.kept(f"commit {commit} of {shown(url)}")


def _add_repository(work: Path, commit: str, url: str, tar: Path) -> None:
    """Add a repository in which a commit is checked out to an archive of that commit."""
    _git(work, "update-ref", "--no-deref", "HEAD", commit)
    _git(work, "read-tree", commit)
    _git(work, "config", "remote.origin.url", shown(url))
    with paths.refusing(work), tarfile.open(tar, "a") as archive:
        (work / "FETCH_HEAD").unlink()
        archive.add(work, ".git", filter=_nobodys)


def _nobodys(info: tarfile.TarInfo) -> tarfile.TarInfo | None:
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info if info.isreg() or info.isdir() or info.issym() or info.islnk() else None


def look(url: str, *, authorization: str = "") -> int:
    """Return how many refs a repository has; as `keep_commit` would fetch from it.

    Raises:
        RaveError: as that.
    """
    _check_words(url)
    process.require("git")
    with tempfile.TemporaryDirectory(prefix="rave-git-") as text:
        work = paths.make_dir(Path(text, ".git"))
        _git(work, "init", "--quiet", "--template=")
        told = _git(work, "ls-remote", "--quiet", "--", url, env=_authorized(url, authorization))
        return len(told.splitlines())


def prune(named: Collection[str], now: float) -> int:
    """Remove the archives that no job names any more; return how many."""
    gone = 0
    with suppress(OSError):
        for file in _folder().iterdir():
            with suppress(OSError):
                if file.name not in named and file.lstat().st_mtime < now - UNCLAIMED:
                    file.unlink()
                    gone += 1
    return gone


class _NewInput:
    """An archive that is being kept; its bytes are counted."""

    def __init__(self, file: Path, stream: IO[bytes]) -> None:
        self._file, self.stream = file, stream
        self._size = 0

    def write(self, data: bytes) -> int:
        """Write a piece.

        Raises:
            RaveError: USAGE if it becomes too large.
        """
        self._size += len(data)
        if self._size > MOST:
            raise RaveError(
                f"what the job is given is larger than {MOST >> 20} MiB",
                hint="put what changes seldom into the image",
                exit_code=ExitCode.USAGE,
            )
        return self.stream.write(data)

    def kept(self, origin: str) -> JobInput:
        """Put it in its place and return what names it."""
        self.stream.flush()
        os.fsync(self.stream.fileno())
        self.stream.seek(0)
        digest = _digest(self.stream)
        given = JobInput(digest, self._size, origin)
        # Anew, even if it is there: from now on it has a day to be named by a job.
        self._file.replace(place(given))
        paths.sync_dir(place(given).parent)
        return given


@contextmanager
def _new() -> Iterator[_NewInput]:
    """Begin an archive; unless it is kept nothing is left of it."""
    file = paths.private_dir(_folder()) / f".{secrets.token_hex(8)}"
    with paths.refusing(file):
        fd = os.open(file, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(fd, "w+b") as stream:
                yield _NewInput(file, stream)
        finally:
            file.unlink(missing_ok=True)


def open_kept(given: JobInput) -> int:
    """Return a descriptor of an archive, once it is known to be the one that is named.

    Raises:
        RaveError: HOST if it is not there, or was changed.
    """
    file = place(given)
    try:
        fd = os.open(file, os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError as error:
        raise _gone(given, f"it is not on this host: {error.strerror}") from error
    with os.fdopen(os.dup(fd), "rb") as stream:
        good = stat.S_ISREG(os.fstat(fd).st_mode) and _digest(stream) == given.sha256
    if not good:
        os.close(fd)
        raise _gone(given, "it was changed")
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _digest(stream: IO[bytes]) -> str:
    return hashlib.file_digest(stream, "sha256").hexdigest()  # type: ignore[arg-type]


def _gone(given: JobInput, why: str) -> RaveError:
    return RaveError(
        f"what the job is given ({given.origin}) cannot be handed over: {why}",
        hint="submit the job again",
        exit_code=ExitCode.HOST,
    )


def _check_words(*words: str) -> None:
    for word in words:
        if not word or word.startswith("-") or not word.isprintable():
            raise RaveError(
                f"{word!r} is no address or revision",
                hint="--git https://HOST/PATH --revision BRANCH",
                exit_code=ExitCode.USAGE,
            )


def _authorized(url: str, authorization: str) -> dict[str, str]:
    """Return the environment in which git shows an authorization: it is in no argument and no file
    (git-config(1), GIT_CONFIG_COUNT).
    """
    if not authorization:
        return {}
    pairs = {
        f"http.{url}.extraHeader": f"Authorization: {authorization}",
        "http.followRedirects": "false",
    }
    found = {"GIT_CONFIG_COUNT": str(len(pairs))}
    for number, (name, value) in enumerate(pairs.items()):
        found |= {f"GIT_CONFIG_KEY_{number}": name, f"GIT_CONFIG_VALUE_{number}": value}
    return found


def _git(work: Path, *words: str, env: Mapping[str, str] | None = None) -> bytes:
    quiet = {
        "GIT_TERMINAL_PROMPT": "0", "GIT_ASKPASS": "true", "GIT_DIR": str(work),
        "GIT_WORK_TREE": str(work.parent), **(env or {}),
    }  # fmt: skip
    done = process.run(("git", *_HARMLESS, *words), timeout=FETCHES, env=quiet, cwd=work.parent)
    if not done.ok:
        raise RaveError(
            f"git {words[0]} fails",
            hint="git ls-remote URL   (shows what there is)",
            exit_code=ExitCode.USAGE,
            detail=tuple(done.tail(4)),
        )
    return done.stdout


def shown(url: str) -> str:
    """Return an address without what may be a password in it."""
    scheme, there, rest = url.partition("://")
    host = rest.rpartition("@")[2] if "@" in rest.partition("/")[0] else rest
    return f"{scheme}://{host}" if there else url


def _folder() -> Path:
    return folder() / "inputs"
