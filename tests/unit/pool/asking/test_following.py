"""Following a job: each piece of output once, each change, and an end."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.asking import following
from rave_cli.pool.asking.following import FollowedJob, follow
from rave_cli.pool.jobs.job import Began, Ended, Job, Postponed, Printed
from rave_cli.pool.jobs.store import JobStore, Piece
from rave_cli.pool.jobs.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.pool.jobs.job import Happening


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path / "pool/jobs.sqlite") as found:
        yield found


def told(store: JobStore, name: str) -> list[bytes | str]:
    return [what.data if isinstance(what, Piece) else what.state for what in follow(store, name)]


def test_what_was_printed_before_is_told_once(store: JobStore) -> None:
    (job,) = store.accept([Work(("true",))])
    store.record(
        [
            (job.name, Began(1, 1, "a")),
            (job.name, Printed(1, 1, b"x")),
            (job.name, Ended(2, 1, "success", 0, "", 0, 0)),
        ]
    )
    assert told(store, job.name) == [b"x", "success"]


def test_each_attempt_is_told_from_its_beginning(store: JobStore) -> None:
    (job,) = store.accept([Work(("true",))])
    steps: Iterator[list[tuple[str, Happening]]] = iter(
        [
            [(job.name, Began(1, 1, "a")), (job.name, Printed(1, 1, b"one"))],
            [(job.name, Postponed(2, 1, 3.0, "it failed", 1, 0))],
            [(job.name, Began(3, 2, "b")), (job.name, Printed(2, 1, b"two"))],
            [(job.name, Printed(2, 1, b"!")), (job.name, Ended(4, 2, "success", 0, "", 1, 0))],
        ]
    )
    found: list[bytes | str] = []
    for what in follow(store, job.name):
        found.append(what.data if isinstance(what, Piece) else what.state)
        if isinstance(what, Job):
            store.record(next(steps, []))
    assert found == [
        "waiting", "running", b"one", "waiting", "running", b"two", b"!", "success",
    ]  # fmt: skip


def test_the_store_is_read_only_where_somebody_has_written(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    (job,) = store.accept([Work(("true",))])
    following = FollowedJob(job.name)
    assert following.look(store) == [job]
    assert following.look(store) == []
    with monkeypatch.context() as patched:
        patched.delattr(JobStore, "load")
        assert following.look(store) == []
    with JobStore(store.place) as other:
        other.record([(job.name, Began(1, 1, "a"))])
    (running,) = following.look(store)
    assert isinstance(running, Job)
    assert running.state == "running"


def test_nobody_is_waited_for_who_does_not_serve(
    store: JobStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(following, "ASKS", 0.0)
    (job,) = store.accept([Work(("true",))])
    with pytest.raises(RaveError) as refused:
        told(store, job.name)
    assert refused.value.exit_code == ExitCode.NOT_READY
