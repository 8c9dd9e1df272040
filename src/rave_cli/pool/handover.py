"""What a job gets in its machine before its command begins: files, its script, its secrets.

Secrets go over standard input into a folder in memory that only the operator can read; none stands
in an argument, in the queue, in the store or on a disk.
"""

from __future__ import annotations

import io
import os
import tarfile
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode
from rave_cli.pool import inputs
from rave_cli.pool.agents import UnfitJobError
from rave_cli.secrets import identity, store

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.guest.session import Session
    from rave_cli.pool.jobs import Work
    from rave_cli.pool.queue import Task

# In the operator's home, where commands begin: there the command runs if it is given something or
# leaves something.
FOLDER = "job"

# Beside that: what is in memory cannot be run.
SCRIPT = ".rave-script"

# On tmpfs, in every guest.
SECRETS = "/dev/shm/rave-secrets"  # noqa: S108 - in a guest that nobody else is in

_UNPACK = f"umask 022 && mkdir -p {FOLDER} && exec tar -x -f - -C {FOLDER} --no-same-owner"
_HIDE = f"umask 077 && mkdir {SECRETS} && exec tar -x -p -f - -C {SECRETS} --no-same-owner"
_WRITE = f"umask 077 && cat > {SCRIPT} && exec chmod 700 {SCRIPT}"
_MAKE = ("mkdir", "-p", FOLDER)


def secrets(work: Work, *, lent: bool) -> dict[str, bytes]:
    """Return the values of the secrets that a job may read; `lent` says whether jobs may read any
    of whoever serves.

    Raises:
        UnfitJobError: there is none of that name, or none is lent.
        RaveError: SECRETS if the file cannot be decrypted here.
    """
    if not work.secrets:
        return {}
    if not lent:
        raise UnfitJobError(
            "secrets are not lent to jobs of a Redis server that others use, too",
            hint="rave pool serve   (without --redis)",
            exit_code=ExitCode.SECRETS,
        )
    opened = store.names_of(
        store.decrypt(store.read(store.place(None)), identity.load(), output="json")
    )
    missing = [name for name in work.secrets if name not in opened]
    if missing:
        raise UnfitJobError(
            f"there is no secret {', '.join(missing)}",
            hint="rave secrets edit",
            exit_code=ExitCode.SECRETS,
        )
    return {name: opened[name].encode() for name in work.secrets}


def lay_out(
    session: CommandChannel | Session, work: Work, opened: Mapping[str, bytes], *, timeout: float
) -> None:
    """Put what a job gets into its machine.

    Raises:
        UnfitJobError: the guest cannot unpack it.
        RaveError: HOST if what it is given is not here any more; NOT_READY as running a program.
    """
    if work.given is not None:
        fd = inputs.open_kept(work.given)
        try:
            _run(session, ("sh", "-c", _UNPACK), fd, f"unpack {work.given.origin}", timeout)
        finally:
            os.close(fd)
    elif work.artifacts:
        _run(session, _MAKE, None, "make the folder", timeout)
    if work.script:
        _run(session, ("sh", "-c", _WRITE), work.script.encode(), "take its script", timeout)
    if opened:
        _run(session, ("sh", "-c", _HIDE), _packed(opened), "take its secrets", timeout)


def argv(task: Task) -> tuple[str, ...]:
    """Return the command of a task as its machine is to run it."""
    work = task.work
    words = [f"{name}={value}" for name, value in work.environment]
    words += [f"RAVE_JOB={task.name}", f"RAVE_ATTEMPT={task.attempt}"]
    if work.secrets:
        words.append(f"RAVE_SECRETS={SECRETS}")
    below = bool(work.given or work.artifacts)
    where = (f"--chdir={FOLDER}",) if below else ()
    program = (f"{'..' if below else '.'}/{SCRIPT}",) if work.script else ()
    return ("env", *where, "--", *words, *program, *work.command)


def _run(
    session: CommandChannel | Session,
    words: tuple[str, ...],
    stdin: int | bytes | None,
    what: str,
    timeout: float,
) -> None:
    said = bytearray()

    def take(_stream: int, data: bytes) -> None:
        said.extend(data[: 4096 - len(said)])

    if isinstance(stdin, bytes):
        done = session.run(words, stdin=stdin, timeout=timeout)
        status, text = done.returncode, done.error_text
    else:
        status = session.stream(words, stdin=stdin, on_output=take, timeout=timeout)
        text = said.decode(errors="replace")
    if status != 0:
        last = " ".join(text.split()[-40:])
        raise UnfitJobError(
            f"its machine cannot {what}: {last or f'exit status {status}'}",
            hint="tar -t < ARCHIVE   (what is in it)",
            exit_code=ExitCode.CHECK_FAILED,
        )


def _packed(opened: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as archive:
        for name, data in opened.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(data), 0o400
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
