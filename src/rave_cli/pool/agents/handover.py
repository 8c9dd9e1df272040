"""What a job gets in its machine before its command begins: files, its script, its secrets.

Secrets go over standard input into a folder in memory that only the operator can read; none stands
in an argument, in the queue, in the store or on a disk.
"""

from __future__ import annotations

import io
import os
import tarfile
from dataclasses import replace
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode
from rave_cli.pool.agents import cachedisk
from rave_cli.pool.agents.agent import UnfitJobError
from rave_cli.pool.jobs import tracecontext

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.guest.session import Session
    from rave_cli.pool.jobs.work import Work
    from rave_cli.pool.queue.streams import Task

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


def lay_out(
    session: CommandChannel | Session,
    work: Work,
    opened: Mapping[str, bytes],
    *,
    given: Callable[[], int],
    timeout: float,
) -> None:
    """Put what a job gets into its machine; `given` opens the archive, if there is one.

    Raises:
        UnfitJobError: the guest cannot unpack it.
        RaveError: HOST if what it is given is not here any more; NOT_READY as running a program.
    """
    if work.given is not None:
        fd = given()
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
    # Whoever names a variable of this name means theirs.
    words = [*_trace(task), *(f"{name}={value}" for name, value in work.environment)]
    words += [f"RAVE_JOB={task.name}", f"RAVE_ATTEMPT={task.attempt}"]
    if work.secrets:
        words.append(f"RAVE_SECRETS={SECRETS}")
    if work.cache:
        words.append(f"RAVE_CACHE={cachedisk.PLACE}")
    below = bool(work.given or work.artifacts)
    where = (f"--chdir={FOLDER}",) if below else ()
    program = (f"{'..' if below else '.'}/{SCRIPT}",) if work.script else ()
    return ("env", *where, "--", *words, *program, *work.command)


def _trace(task: Task) -> list[str]:
    """Return the variable that hangs what a command does on the span of that command."""
    job = tracecontext.parse(task.work.traceparent)
    if job is None:
        return []
    command = tracecontext.span_id(job.trace, task.name, task.attempt, "command")
    return [f"{tracecontext.VARIABLE}={replace(job, span=command).header}"]


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
