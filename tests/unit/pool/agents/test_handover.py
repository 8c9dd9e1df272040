"""What a job gets is laid out by the programs that a guest has, here run on this host."""

from __future__ import annotations

import io
import os
import stat
import subprocess
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.pool.agents import handover
from rave_cli.pool.agents.agent import UnfitJobError
from rave_cli.pool.files import inputs
from rave_cli.pool.jobs.tracecontext import parse, span_id
from rave_cli.pool.jobs.work import Work, script_of
from rave_cli.pool.queue.streams import Task
from rave_cli.process import Completed

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Here:
    """A session whose guest is a folder of this host."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.words: list[str] = []

    def stream(
        self, argv: Sequence[str], *, stdin: int | None, on_output: Callable[[int, bytes], None],
        timeout: float,
    ) -> int:  # fmt: skip
        """Run a program, as `Session.stream`."""
        self.words += argv
        given = stdin if stdin is not None else subprocess.DEVNULL
        done = subprocess.run(
            argv, stdin=given, timeout=timeout, capture_output=True, cwd=self.home, check=False
        )
        on_output(1, done.stdout)
        on_output(2, done.stderr)
        return done.returncode

    def run(self, argv: Sequence[str], *, stdin: bytes, timeout: float) -> Completed:
        """Run a program, as `Session.run`."""
        self.words += argv
        done = subprocess.run(
            argv, input=stdin, timeout=timeout, capture_output=True, cwd=self.home, check=False
        )
        return Completed(tuple(argv), done.returncode, done.stdout, done.stderr)


@pytest.fixture
def guest(home: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    place = tmp_path / "guest"
    place.mkdir()
    secrets = str(tmp_path / "secrets")
    before = handover.SECRETS
    for name in ("SECRETS", "_HIDE"):
        monkeypatch.setattr(handover, name, getattr(handover, name).replace(before, secrets))
    return Here(place)


def opened_input(work: Work) -> int:
    assert work.given is not None
    return inputs.open_kept(work.given)


def lay_out(guest: Here, work: Work, opened: dict[str, bytes] | None = None) -> None:
    session: Any = guest
    handover.lay_out(session, work, opened or {}, given=lambda: opened_input(work), timeout=30)


def carry_out(guest: Here, work: Work) -> str:
    said = bytearray()
    argv = handover.argv(Task("0123456789ab", "1-0", 3, 0, 0, work))
    status = guest.stream(argv, stdin=None, on_output=lambda _n, d: said.extend(d), timeout=30)
    assert status == 0, said
    return said.decode()


def test_a_plain_command_needs_no_program_before_it(guest: Here) -> None:
    lay_out(guest, Work(("true",)))
    assert guest.words == []
    assert carry_out(guest, Work(("sh", "-c", "echo $RAVE_JOB $RAVE_ATTEMPT"))) == (
        "0123456789ab 3\n"
    )


def test_a_script_gets_its_arguments_and_runs_as_its_first_line_says(guest: Here) -> None:
    text = b"#!/usr/bin/env python3\nimport sys\nprint(sys.argv[1:])"
    work = Work(("one", "two"), script=script_of(text))
    lay_out(guest, work)
    assert carry_out(guest, work) == "['one', 'two']\n"
    below = replace(work, artifacts=("left",))
    lay_out(guest, below)
    assert carry_out(guest, below) == "['one', 'two']\n"
    assert script_of(b"echo x").startswith("#!/bin/sh\n")


def test_secrets_are_files_that_only_the_operator_reads_and_stand_in_no_argument(
    guest: Here,
) -> None:
    work = Work(("sh", "-c", 'cat "$RAVE_SECRETS/a/b"'), secrets=("a/b",))
    lay_out(guest, work, {"a/b": b"hunter22"})
    assert carry_out(guest, work) == "hunter22"
    file = Path(handover.SECRETS) / "a/b"
    assert stat.S_IMODE(file.stat().st_mode) == 0o400
    assert stat.S_IMODE(Path(handover.SECRETS).stat().st_mode) == 0o700
    assert "hunter22" not in " ".join(guest.words)


def test_what_is_given_is_unpacked_where_the_command_runs(guest: Here, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.mkdir()
    (source / "file").write_text("x")
    work = Work(("sh", "-c", "pwd; cat file; echo $A"), environment=(("A", "b c"),))
    work = replace(work, given=inputs.keep_folder(source))
    lay_out(guest, work)
    assert carry_out(guest, work) == f"{guest.home}/job\nxb c\n"


def test_where_artifacts_are_wanted_there_is_a_folder_for_them(guest: Here) -> None:
    work = Work(("touch", "left"), artifacts=("left",))
    lay_out(guest, work)
    carry_out(guest, work)
    assert (guest.home / "job/left").exists()


def test_what_cannot_be_unpacked_is_the_jobs_failure(guest: Here) -> None:
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as archive:
        member = tarfile.TarInfo("file")
        member.size = 5000
        archive.addfile(member, io.BytesIO(b"x" * 5000))
    fd = os.memfd_create("cut")
    os.write(fd, data.getvalue()[:2000])
    os.lseek(fd, 0, os.SEEK_SET)
    work = replace(Work(("true",)), given=inputs.keep_stream(fd))
    os.close(fd)
    with pytest.raises(UnfitJobError, match="cannot unpack standard input: tar: "):
        lay_out(guest, work)


def test_a_command_is_told_which_span_it_is(guest: Here) -> None:
    job = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00"
    work = Work(("sh", "-c", "echo $TRACEPARENT"), traceparent=job)
    found = parse(carry_out(guest, work).strip())
    assert found is not None
    assert found.span == span_id(found.trace, "0123456789ab", 3, "command")
    assert (found.trace, found.sampled) == (job[3:35], False)
    # Whoever names that variable means theirs.
    assert carry_out(guest, replace(work, environment=(("TRACEPARENT", "x"),))) == "x\n"
    assert carry_out(guest, replace(work, traceparent="")) == "\n"
