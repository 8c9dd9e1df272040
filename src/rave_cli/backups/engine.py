"""The engine that keeps backups: restic, on this host (docs/adr/0036).

Its repository is encrypted and holds each part of what it is given once. The key goes to it by a
descriptor, never on a command line or into a file.
"""

from __future__ import annotations

import json
import os
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import IO, TYPE_CHECKING, Any

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PROGRAM = "restic"
# Seconds for what reads or writes the whole repository, and for the rest.
LONGEST = 24 * 3600.0
ANSWERS = 300.0


class UnsoundRepositoryError(RaveError):
    """The engine found something in the repository that is not what it wrote."""


class Storing:
    """A file that is being written into the repository: nothing is kept before `finish`."""

    def __init__(self, engine: Engine, child: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._engine, self._child, self._said = engine, child, said

    def write(self, data: bytes) -> None:
        """Write a piece.

        Raises:
            RaveError: as the engine fails.
        """
        assert self._child.stdin is not None  # noqa: S101 - a pipe was asked for
        try:
            self._child.stdin.write(data)
        except BrokenPipeError as error:
            self._child.wait()
            raise self._fault() from error

    def finish(self) -> str:
        """Keep it, and return the id of its snapshot.

        Raises:
            RaveError: as the engine fails; nothing is kept then.
        """
        if self._child.stdin is not None:
            with suppress(BrokenPipeError):
                self._child.stdin.close()
        if self._child.wait(LONGEST) != 0:
            raise self._fault()
        for line in reversed(self._text().splitlines()):
            found = _record(line)
            if found.get("message_type") == "summary":
                return str(found["snapshot_id"])
        raise self._fault()

    def _text(self) -> str:
        self._said.seek(0)
        return self._said.read().decode(errors="replace")

    def _fault(self) -> RaveError:
        return self._engine.fault(self._text(), "write to")


@dataclass(frozen=True)
class Engine:
    """A repository.

    Args:
        folder: where it is.
        key: what opens it.
        sparing: whether it leaves processors to others.
    """

    folder: Path
    key: bytes = field(repr=False)
    sparing: bool = True

    def create(self) -> None:
        """Make the repository.

        Raises:
            RaveError: HOST if it cannot be written.
        """
        self._demand(("init",), "make")

    def snapshots(self) -> list[dict[str, Any]]:
        """Return what is kept, as restic tells it, the oldest first.

        Raises:
            RaveError: SECRETS for another key; HOST if there is no repository.
        """
        found = json.loads(self._demand(("snapshots", "--json"), "read").text or "[]")
        return sorted(found, key=lambda entry: str(entry["time"]))

    @contextmanager
    def store(self, name: str, *, host: str, tags: Sequence[str]) -> Iterator[Storing]:
        """Write a file; what is not finished on leaving is not kept.

        Raises:
            RaveError: HOST if restic is missing or cannot write.
        """
        words = [word for tag in tags for word in ("--tag", tag)]
        argv = ("--quiet", "--json", "backup", "--stdin", "--stdin-filename", name, "--host", host)
        with (
            tempfile.TemporaryFile() as said,
            self._keyed() as (fd, options),
            process.spawn(
                (*self._words(options), *argv, *words),
                stdin=subprocess.PIPE, stdout=said, stderr=said, env=self._env(), pass_fds=(fd,),
            ) as child,
        ):  # fmt: skip
            try:
                yield Storing(self, child, said)
            except BaseException:
                # Before its input ends, which it would take for the end of the file.
                child.kill()
                child.wait()
                raise

    def keep(self, source: IO[bytes], name: str, *, host: str, tags: Sequence[str]) -> str:
        """Write a file that is there already, and return the id of its snapshot: all of it is kept
        or nothing, even if this process is killed.

        Raises:
            RaveError: HOST if restic is missing or cannot write.
        """
        words = [word for tag in tags for word in ("--tag", tag)]
        argv = ("--quiet", "--json", "backup", "--stdin", "--stdin-filename", name, "--host", host)
        source.seek(0)
        with (
            tempfile.TemporaryFile() as said,
            self._keyed() as (fd, options),
            process.spawn(
                (*self._words(options), *argv, *words),
                stdin=source, stdout=said, stderr=said, env=self._env(), pass_fds=(fd,),
            ) as child,
        ):  # fmt: skip
            return Storing(self, child, said).finish()

    @contextmanager
    def read(self, snapshot: str, name: str) -> Iterator[Reading]:
        """Read a file of a snapshot.

        Raises:
            RaveError: HOST if restic is missing.
        """
        with (
            tempfile.TemporaryFile() as said,
            self._keyed() as (fd, options),
            process.spawn(
                (*self._words(options), "dump", snapshot, name),
                stdout=subprocess.PIPE, stderr=said, env=self._env(), pass_fds=(fd,),
            ) as child,
        ):  # fmt: skip
            yield Reading(self, child, said)

    def check(self, *, everything: bool) -> None:
        """Look whether the repository is what was written; with `everything`, at each byte.

        Raises:
            UnsoundRepositoryError: VERIFICATION if it is not.
            RaveError: SECRETS for another key; HOST if there is no repository.
        """
        done = self._called(("check", *(["--read-data"] if everything else [])), LONGEST)
        if not done.ok:
            raise self.fault(done.error_text + done.text, "check")

    def drop(self, snapshots: Sequence[str]) -> None:
        """Forget snapshots, and free what only they held.

        Raises:
            RaveError: as the engine fails; what is left is whole.
        """
        if snapshots:
            self.forget(snapshots)
        self._demand(("prune",), "change", LONGEST)

    def forget(self, snapshots: Sequence[str]) -> None:
        """Forget snapshots; what only they held takes its room until others are dropped.

        Raises:
            RaveError: as the engine fails.
        """
        self._demand(("forget", *snapshots), "change")

    def unlock(self) -> None:
        """Remove locks of engines that no longer run; one that was killed leaves its own.

        Raises:
            RaveError: as the engine fails.
        """
        locks = self.folder / "locks"
        with paths.refusing(locks):
            left = locks.is_dir() and any(locks.iterdir())
        if left:
            self._demand(("unlock",), "read")

    def _demand(
        self, words: Sequence[str], doing: str, timeout: float = ANSWERS
    ) -> process.Completed:
        done = self._called(words, timeout)
        if not done.ok:
            raise self.fault(done.error_text, doing)
        return done

    def _called(self, words: Sequence[str], timeout: float) -> process.Completed:
        with self._keyed() as (fd, options):
            return process.run(
                (*self._words(options), *words), timeout=timeout, env=self._env(), pass_fds=(fd,)
            )

    def _words(self, options: Sequence[str]) -> tuple[str, ...]:
        program = process.require(PROGRAM)
        return ("nice", "-n", "10", program, "--repo", str(self.folder), "--no-cache", *options)

    def _env(self) -> dict[str, str]:
        return {"GOMAXPROCS": "1"} if self.sparing else {}

    @contextmanager
    def _keyed(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        fd = os.memfd_create("rave-backup-key", os.MFD_CLOEXEC)
        try:
            os.write(fd, self.key)
            yield fd, ("--password-file", f"/proc/self/fd/{fd}")
        finally:
            os.close(fd)

    def fault(self, said: str, doing: str) -> RaveError:
        """Return what the engine's words mean."""
        lines = tuple(line for line in said.splitlines() if line.strip())[-8:]
        place = self.folder.parent
        if "wrong password or no key found" in said:
            return RaveError(
                f"the key does not open the backups in {place}",
                hint=f"put the right {place}/{KEY_NAME} back, or the key itself:"
                " rave backup key --put-back",
                exit_code=ExitCode.SECRETS,
            )
        if "no space left on device" in said or "disk quota exceeded" in said:
            return RaveError(
                f"there is no space left in {place}; what was there before is whole",
                hint=f"df -h {place}; or name a larger folder: RAVE_BACKUP_FOLDER=… rave backup …",
                exit_code=ExitCode.HOST,
            )
        if "Is there a repository at the following location" in said:
            return gone(place)
        if "already locked" in said:
            return RaveError(
                f"another command is at work in {place}",
                hint="try again when it is done",
                exit_code=ExitCode.HOST,
                detail=lines,
            )
        if "permission denied" in said or "read-only file system" in said:
            return RaveError(
                f"the backups in {place} cannot be used: {lines[-1] if lines else 'no reason'}",
                hint=f"ls -la {place} {self.folder}",
                exit_code=ExitCode.HOST,
            )
        return UnsoundRepositoryError(
            f"restic could not {doing} the backups in {place}",
            hint="rave backup verify; what it names as damaged is best taken from a copy of"
            f" {place}, if there is one",
            exit_code=ExitCode.VERIFICATION,
            detail=lines,
        )


class Reading:
    """A file that is being read out of the repository."""

    def __init__(self, engine: Engine, child: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._engine, self._child, self._said = engine, child, said

    def pieces(self, size: int = 1 << 18) -> Iterator[bytes]:
        """Yield it.

        Raises:
            RaveError: as the engine fails: what came is not all.
        """
        assert self._child.stdout is not None  # noqa: S101 - a pipe was asked for
        while data := self._child.stdout.read(size):
            yield data
        if self._child.wait(ANSWERS) != 0:
            self._said.seek(0)
            raise self._engine.fault(self._said.read().decode(errors="replace"), "read")


KEY_NAME = "key.sops.yaml"


def gone(place: Path) -> RaveError:
    """Return the error of a folder without a repository, or with a part of one."""
    with paths.refusing(place):
        begun = (place / "repository").is_dir() and (place / KEY_NAME).exists()
    if begun:
        return RaveError(
            f"the backups in {place} are not all there: the repository has no config, which comes"
            " last",
            hint="if they were being got back, the same rave backup fetch goes on with it",
            exit_code=ExitCode.HOST,
        )
    return RaveError(
        f"there are no backups in {place}: it is not mounted, or was moved",
        hint=f"ls -la {place}; rave config shows where RAVE_BACKUP_FOLDER comes from",
        exit_code=ExitCode.HOST,
    )


def is_there(folder: Path) -> bool:
    """Return whether a folder holds a repository."""
    with paths.refusing(folder):
        return (folder / "config").is_file()


def _record(line: str) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
