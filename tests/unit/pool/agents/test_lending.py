"""Which secrets of whoever serves a job may read."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.agents import lending
from rave_cli.pool.agents.agent import UnfitJobError
from rave_cli.pool.agents.lending import SecretLending
from rave_cli.pool.jobs.job import Ended
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.queue.streams import Task

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.pool.jobs.job import Job

READS = Work(("true",), secrets=("a/b",))


@pytest.fixture(autouse=True)
def _opened(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "_opened", lambda: {"a/b": "hunter22", "c/d": "other"})


def task_of(job: Job, origin: str, **changed: object) -> Task:
    # As an agent has it: with the span that the job is.
    work = replace(job.work, traceparent=job.context.header)
    return replace(Task(job.name, "1-0", 1, 0, 0, work, origin), **changed)  # type: ignore[arg-type]


def test_a_pool_of_its_own_lends_its_jobs_what_they_name() -> None:
    task = Task("0123456789ab", "1-0", 1, 0, 0, READS, "here")
    assert SecretLending("here").secrets(task) == {"a/b": b"hunter22"}
    unknown = replace(task, work=replace(READS, secrets=("e/f",)))
    with pytest.raises(UnfitJobError, match="there is no secret e/f"):
        SecretLending("here").secrets(unknown)


def test_what_reads_no_secret_opens_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(lending, "_opened")
    task = Task("0123456789ab", "1-0", 1, 0, 0, Work(("true",)), "away")
    assert SecretLending("here", frozenset()).secrets(task) == {}
    assert lending.require(()) == frozenset()


def test_jobs_of_other_hosts_are_lent_what_is_named_for_them_and_nothing_else() -> None:
    task = Task("0123456789ab", "1-0", 1, 0, 0, READS, "away")
    assert SecretLending("here", frozenset({"a/b"})).secrets(task) == {"a/b": b"hunter22"}
    for origin in ("here", ""):
        with pytest.raises(UnfitJobError, match="a/b is not lent to jobs of other hosts here"):
            SecretLending(origin, frozenset({"c/d"})).secrets(task)


def test_what_is_gone_here_another_host_may_have() -> None:
    wanted = replace(READS, secrets=("e/f",))
    with open_store() as store:
        (job,) = store.accept([wanted])
    for task in (
        Task("0123456789ab", "1-0", 1, 0, 0, wanted, "away"),
        task_of(job, "here"),
    ):
        with pytest.raises(RaveError, match="there is no secret e/f") as found:
            SecretLending("here", frozenset({"e/f"})).secrets(task)
        # That is an error, which is tried again by whoever asks first.
        assert not isinstance(found.value, UnfitJobError)


def test_what_is_to_be_lent_is_there_when_serving_begins() -> None:
    assert lending.require(["a/b"]) == {"a/b"}
    with pytest.raises(RaveError, match="e/f that jobs could be lent") as found:
        lending.require(["a/b", "e/f"])
    assert found.value.exit_code == ExitCode.SECRETS


def test_a_job_of_this_host_on_a_shared_server_is_what_the_store_says() -> None:
    lends = SecretLending("here", frozenset())
    with open_store() as store:
        (job,) = store.accept([READS])
        assert lends.secrets(task_of(job, "here")) == {"a/b": b"hunter22"}
        # Whoever can write into the server may say anything.
        other = replace(job.work, command=("cat", "/dev/shm/rave-secrets/a/b"))
        for forged in (
            task_of(job, "here", work=other),
            task_of(job, "here", work=replace(job.work, secrets=("a/b", "c/d"))),
            task_of(job, "here", name=job.name[:6]),
        ):
            with pytest.raises(UnfitJobError, match="not what was submitted here"):
                lends.secrets(forged)
        with pytest.raises(RaveError, match="there is no job"):
            lends.secrets(task_of(job, "here", name="f" * 12))
        store.record([(job.name, Ended(1.0, 0, "cancelled", None, "", 0, 0))])
        with pytest.raises(UnfitJobError, match="not what was submitted here"):
            lends.secrets(task_of(job, "here"))
