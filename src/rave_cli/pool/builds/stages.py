"""The stages of a build: its machine is that of a job that does nothing but wait for its end.

So a build waits for its turn and for memory as any job does, its machine is bounded, and is deleted
whatever becomes of the runner. The machine reaches no network: its sources are fetched here.
"""

from __future__ import annotations

import base64
import os
import sys
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from rave_cli import __version__
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import store as machines
from rave_cli.machines.guest.connection import connect
from rave_cli.pool.asking import explaining, following
from rave_cli.pool.builds import kept, moving, wanted
from rave_cli.pool.builds.asked import BUILDS, CACHE, STARTS
from rave_cli.pool.builds.kept import HeldBuild
from rave_cli.pool.builds.moving import BuildMachine
from rave_cli.pool.files import inputs
from rave_cli.pool.jobs.submission import local_owner
from rave_cli.pool.jobs.work import Work

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from rave_cli.machines.guest.channel import CommandChannel
    from rave_cli.machines.guest.session import Session
    from rave_cli.pool.builds.asked import RunnerAsked
    from rave_cli.pool.builds.wanted import BuildFiles
    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.jobs.store import JobStore

    Say = Callable[[str], None]
    Move = Callable[[BuildMachine, RunnerAsked, BuildFiles], None]

# In the guest's memory: scripts carry the build's token.
SCRIPT = "/dev/shm/rave-build"  # noqa: S108 - in a guest of its own
OVER = "/dev/shm/rave-build-over"  # noqa: S108 - the same

# Says which machine it is, and waits to be told with which status the build has ended.
HOLDS = f"""#!/bin/sh
hostname
until [ -s {OVER} ]; do sleep 1; done
exit "$(cat {OVER})"
"""

_TAKE = f"umask 077 && cat > {SCRIPT}"
_RUN = f"trap 'rm -f {SCRIPT}' EXIT; bash {SCRIPT} </dev/null"
_END = f"umask 077 && cat > {OVER}.new && mv {OVER}.new {OVER}"
_UNPACK = 'umask 022 && mkdir -p "$1" && exec tar -x -f - -C "$1" --no-same-owner'

# Seconds between two looks at a job, for a short command of ours in a machine, and for a job that
# was told to end.
LOOK, ANSWERS, ENDS = 0.2, 120.0, 30.0


def config() -> dict[str, Any]:
    """Return what a runner is told before a build."""
    return {
        "builds_dir": BUILDS,
        "cache_dir": CACHE,
        "builds_dir_is_shared": False,
        "driver": {"name": "rave pool", "version": __version__},
        "shell": "bash",
    }


def prepare(store: JobStore, asked: RunnerAsked, say: Say) -> None:
    """Get a build its machine; a runner asks again for what failed, and then gets another.

    Raises:
        RaveError: NOT_READY if nobody serves the pool, or the job ends before it has a machine.
    """
    cleanup(store, asked)
    following.require_served()
    work = Work((), script=HOLDS, timeout=asked.timeout + STARTS)
    (job,) = store.accept([work], owner=local_owner())
    # Before anything else: whatever ends this, the job is known to `cleanup`.
    kept.write(asked.build, HeldBuild(job.name))
    say(f"job {job.name}")
    kept.write(asked.build, HeldBuild(job.name, _machine(store, job, say)))


def run(asked: RunnerAsked, script: Path, stage: str) -> int:
    """Run a script of a build in its machine, passing on what it prints; return its status.

    Raises:
        RaveError: NOT_READY if the machine is lost; USAGE if the build has none, or git does not
            find its commit; HOST if the script cannot be read.
    """
    held = kept.read(asked.build)
    if held is None or not held.machine:
        raise RaveError(
            f"build {asked.build} has no machine",
            hint="prepare_exec of the runner's configuration: rave pool executor prepare",
            exit_code=ExitCode.USAGE,
        )
    # Whatever ends this first, the build did not go well.
    kept.write(asked.build, replace(held, status=held.status or 1))
    with connect(machines.load(held.machine)) as session:
        if stage == "get_sources":
            status = _lay_out(session, asked)
        elif asked.files is not None and stage in _MOVES:
            machine = BuildMachine(session, asked.directory, asked.timeout)
            _MOVES[stage](machine, asked, asked.files)
            status = 0
        else:
            status = _carried_out(session, script, asked.timeout)
    kept.write(asked.build, replace(held, status=held.status or plain(status)))
    return status


def cleanup(store: JobStore, asked: RunnerAsked) -> None:
    """Let the machine of a build end, with the build's status if it can be told so.

    Raises:
        RaveError: HOST if the pool's store cannot be read or written.
    """
    held = kept.read(asked.build)
    if held is None:
        return
    job = store.load(held.job)
    if held.machine and job.state == "running":
        try:
            _tell(held)
            _await(store, held.job, ENDS)
        except RaveError as error:
            sys.stderr.write(f"{error.message}\n")
    if not store.load(held.job).over:
        store.cancel(held.job)
    kept.forget(asked.build)


def _machine(store: JobStore, job: Job, say: Say) -> str:
    """Return the machine of a job, as soon as there is one."""
    said = ""
    while True:
        job = store.load(job.name)
        if job.over:
            raise RaveError(
                f"job {job.name} ended as {job.state}" + (f": {job.why}" if job.why else ""),
                hint=f"rave pool show {job.name}",
                exit_code=ExitCode.NOT_READY,
            )
        told = b"".join(one.data for one in store.output(job) if one.stream == 1)
        if b"\n" in told:
            return told.partition(b"\n")[0].decode(errors="replace")
        if job.state == "waiting":
            reasons = explaining.explain(job, explaining.look(store, job))
            now = reasons[0].text if reasons else ""
            if now != said:
                say(f"job {job.name} waits: {now}")
                said = now
        time.sleep(LOOK)


def _lay_out(session: CommandChannel | Session, asked: RunnerAsked) -> int:
    if asked.strategy in ("none", "empty"):
        return 0
    if not asked.repository or not asked.commit:
        raise RaveError(
            "the runner does not say what to fetch, or not over HTTP",
            hint="GIT_STRATEGY: none   (in the pipeline, for a build without sources)",
            exit_code=ExitCode.USAGE,
        )
    word = f"gitlab-ci-token:{asked.password}".encode()
    shown = "Basic " + base64.b64encode(word).decode() if asked.password else ""
    given = inputs.keep_commit(
        asked.repository, asked.commit, authorization=shown, history=asked.depth
    )
    _print(2, f"{given.origin}\n".encode())
    fd = inputs.open_kept(given)
    try:
        argv = ("sh", "-c", _UNPACK, "sh", asked.directory)
        return session.stream(argv, stdin=fd, on_output=_print, timeout=asked.timeout)
    finally:
        os.close(fd)


def _restore(machine: BuildMachine, _asked: RunnerAsked, files: BuildFiles) -> None:
    for one in files.caches:
        archive = moving.cached(files.project, one) if one.gets else None
        if archive is not None:
            with archive:
                machine.put(archive)
        if one.gets:
            _say(f"cache {one.keys[0]}: " + ("there is none" if archive is None else "restored"))


def _archive(*, success: bool) -> Move:
    def move(machine: BuildMachine, _asked: RunnerAsked, files: BuildFiles) -> None:
        for one in files.caches:
            if one.puts and wanted.is_for(one.when, success=success):
                with machine.packed(one.files) as archive:
                    if archive is not None:
                        moving.keep(files.project, one.keys[0], archive)
                    done = "nothing of it is there" if archive is None else "kept on this host"
                    _say(f"cache {one.keys[0]}: {done}")

    return move


def _download(machine: BuildMachine, asked: RunnerAsked, files: BuildFiles) -> None:
    for one in files.dependencies:
        with moving.fetched(asked.server, one) as archive:
            machine.put(archive)
        _say(f"artifacts of {one.name} ({one.number}): unpacked")


def _upload(*, success: bool) -> Move:
    def move(machine: BuildMachine, asked: RunnerAsked, files: BuildFiles) -> None:
        for one in files.artifacts:
            if wanted.is_for(one.when, success=success):
                with machine.packed(one.files) as archive:
                    if archive is not None:
                        moving.send(asked.server, asked.build, files, one, archive)
                    done = "no file of them is there" if archive is None else "uploaded"
                    _say(f"artifacts {one.name} ({one.kind}): {done}")

    return move


# What the runner's own program would do in the machine, which does not reach GitLab.
_MOVES: dict[str, Move] = {
    "restore_cache": _restore,
    "download_artifacts": _download,
    "archive_cache": _archive(success=True),
    "archive_cache_on_failure": _archive(success=False),
    "upload_artifacts_on_success": _upload(success=True),
    "upload_artifacts_on_failure": _upload(success=False),
}


def _say(text: str) -> None:
    _print(2, f"{text}\n".encode(errors="replace"))


def _carried_out(session: CommandChannel | Session, script: Path, timeout: float) -> int:
    try:
        text = script.read_bytes()
    except OSError as error:
        raise RaveError(
            f"the script {script} cannot be read: {error.strerror}",
            hint=f"ls -l {script}",
            exit_code=ExitCode.HOST,
        ) from error
    taken = session.run(("sh", "-c", _TAKE), stdin=text, timeout=ANSWERS)
    if taken.returncode != 0:
        raise RaveError(
            f"the machine does not take the script: {taken.error_text}",
            hint="rave pool list   (is the job still running?)",
            exit_code=ExitCode.NOT_READY,
        )
    return session.stream(("bash", "-c", _RUN), stdin=None, on_output=_print, timeout=timeout)


def _tell(held: HeldBuild) -> None:
    with connect(machines.load(held.machine)) as session:
        session.run(("sh", "-c", _END), stdin=f"{held.status}\n".encode(), timeout=ANSWERS)


def _await(store: JobStore, name: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    while not store.load(name).over and time.monotonic() < until:
        time.sleep(LOOK)


def plain(status: int) -> int:
    """Return a status as a shell has it: one that a signal ended has none of its own."""
    return status if 0 <= status < 256 else 1


def _print(stream: int, data: bytes) -> None:
    out = sys.stdout if stream == 1 else sys.stderr
    out.buffer.write(data)
    out.buffer.flush()
