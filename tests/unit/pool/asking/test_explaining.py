"""Why a job waits: a table of worlds, each with what is to be said of it, in which order."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, get_args

import pytest

from rave_cli.pool.asking.explaining import JobReason, PoolWorld, ReasonCode, explain, look
from rave_cli.pool.jobs.job import ENDINGS, Began, Job, Postponed
from rave_cli.pool.jobs.store import MOST_COUNTED, JobStore, Scale
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.served import HoldUp

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOW = 1000.0
JOB = Job("0123456789ab", Work(("true",)), submitted=900.0)
IDLE = PoolWorld(NOW, served=True, draining=False, agents=2, running=0, before=0)
RESTS = replace(JOB, until=NOW + 30, why="it failed", attempt=1)
MEMORY = HoldUp("memory", "a machine may take 2048 MiB, and 900 MiB are available")
TEMPLATE = HoldUp("template", "the disk is full", "df -h")
DISK = HoldUp("disk", "300 MiB are left", "df -h")
MAKING = HoldUp("making", "a template is made")
QUEUE = HoldUp("queue", "the Redis server does not answer: refused")

TABLE: dict[str, tuple[Job, PoolWorld, list[ReasonCode]]] = {
    "nothing keeps it": (JOB, IDLE, ["at-once"]),
    "others came before": (JOB, replace(IDLE, before=3), ["turn"]),
    "as many run as may": (JOB, replace(IDLE, running=2, before=1), ["cap"]),
    "more run than may, since it was scaled": (JOB, replace(IDLE, running=5), ["cap"]),
    "no memory": (JOB, replace(IDLE, running=1, hold=MEMORY), ["memory"]),
    "no memory and the cap": (JOB, replace(IDLE, running=2, hold=MEMORY), ["cap", "memory"]),
    "it rests": (RESTS, IDLE, ["back-off"]),
    "it has rested": (replace(RESTS, until=NOW - 1), IDLE, ["at-once"]),
    "it rests and all are busy": (RESTS, replace(IDLE, running=2), ["back-off", "cap"]),
    "nobody serves": (JOB, replace(IDLE, served=False), ["not-served"]),
    "nobody serves, whatever else": (
        RESTS, replace(IDLE, served=False, running=9, hold=MEMORY), ["not-served", "back-off"],
    ),
    "drained": (JOB, replace(IDLE, draining=True, agents=0), ["draining"]),
    "drained, and nobody serves": (
        JOB, replace(IDLE, served=False, draining=True), ["not-served", "draining"],
    ),
    "scaled to none": (JOB, replace(IDLE, agents=0), ["no-agents"]),
    "no template": (JOB, replace(IDLE, hold=TEMPLATE), ["template"]),
    "a template is made": (JOB, replace(IDLE, hold=MAKING), ["template"]),
    "no template, and it rests": (RESTS, replace(IDLE, hold=TEMPLATE), ["template", "back-off"]),
    "the disk is full": (JOB, replace(IDLE, hold=DISK), ["disk"]),
    "Redis is away": (JOB, replace(IDLE, hold=QUEUE), ["queue"]),
    "nobody lends it its secret": (replace(JOB, lacking="a/b", until=NOW + 9), IDLE, ["secrets"]),
    "to be cancelled": (replace(JOB, cancelling=True), IDLE, ["cancelling"]),
    "to be cancelled, and nobody serves": (
        replace(JOB, cancelling=True), replace(IDLE, served=False), ["cancelling", "not-served"],
    ),
    "it runs": (replace(JOB, state="running", agent="a"), replace(IDLE, served=False), ["running"]),
    **{f"it is over: {ending}": (replace(JOB, state=ending), IDLE, ["over"]) for ending in ENDINGS},
}  # fmt: skip


@pytest.mark.parametrize("case", TABLE)
def test_a_job_waits_for_what_the_world_says(case: str) -> None:
    job, world, expected = TABLE[case]
    assert [reason.code for reason in explain(job, world)] == expected


def test_every_reason_is_in_the_table() -> None:
    assert {code for _, _, codes in TABLE.values() for code in codes} == set(get_args(ReasonCode))


@pytest.mark.parametrize("case", TABLE)
def test_every_reason_says_what_it_is_and_no_hint_destroys_anything(case: str) -> None:
    job, world, _ = TABLE[case]
    for reason in explain(job, world):
        assert isinstance(reason, JobReason)
        assert reason.text
        assert "delete" not in reason.hint


def test_the_figures_are_told() -> None:
    (rests,) = explain(RESTS, IDLE)
    assert "30 s" in rests.text
    assert "it failed" in rests.text
    (memory,) = explain(JOB, replace(IDLE, hold=MEMORY))
    assert "900 MiB" in memory.text


def test_the_world_is_looked_at(home: Path) -> None:
    with JobStore(home / "pool/jobs.sqlite") as store:
        first, second, third = (job.name for job in store.accept([Work(("true",))] * 3))
        store.record([(first, Began(1.0, 1, "a"))])
        world = look(store, store.load(third))
        assert (world.served, world.running, world.before, world.agents) == (False, 1, 1, 1)
        assert look(store, store.load(second)).before == 0
        store.set_scale(Scale(3, draining=True))
        world = look(store, store.load(third))
        assert (world.agents, world.draining) == (3, True)


def test_what_keeps_our_own_agents_keeps_no_agent_of_another_host() -> None:
    world = replace(IDLE, agents=0, shared=True)
    assert [reason.code for reason in explain(JOB, world)] == ["at-once"]
    full = replace(IDLE, running=9, hold=HoldUp("memory", "little"), shared=True)
    assert [reason.code for reason in explain(JOB, full)] == ["at-once"]


@pytest.fixture
def store(home: Path) -> Iterator[JobStore]:
    with JobStore(home / "pool/jobs.sqlite") as found:
        yield found


def tried(store: JobStore, jobs: list[Job], until: float) -> None:
    """Let jobs wait for another attempt."""
    store.record([(job.name, Postponed(1.0, 1, until, "it failed", 1, 0)) for job in jobs])


def test_what_came_before_is_counted_whether_fresh_or_tried(store: JobStore) -> None:
    jobs = store.accept([Work(("true",))] * 9)
    tried(store, jobs[:2], NOW - 1)
    tried(store, jobs[2:4], NOW + 1)
    tried(store, jobs[8:], NOW - 2)
    store.record([(jobs[4].name, Began(1.0, 1, "a"))])
    # Two rest, one runs, one came later.
    assert store.before(jobs[7], NOW) == 4
    assert store.before(jobs[0], NOW) == 0
    assert [store.before(jobs[7], at) for at in (NOW - 9, NOW + 9)] == [2, 6]


def test_beyond_a_number_it_says_that_there_are_more(store: JobStore) -> None:
    few, many = MOST_COUNTED - 1, MOST_COUNTED
    for before, said in ((few, f"{few} jobs"), (many, f"{many} or more jobs")):
        assert explain(JOB, replace(IDLE, before=before))[0].text == f"{said} came before it"
        (cap,) = explain(JOB, replace(IDLE, before=before, running=2))
        assert f"and {said.removesuffix(' jobs')} wait before it" in cap.text


def test_why_a_job_waits_is_found_in_as_many_steps_however_many_wait(store: JobStore) -> None:
    def steps(job: Job) -> int:
        """Return how many hundreds of steps SQLite takes."""
        found: list[int] = []

        def counts() -> int:
            found.append(1)
            return 0

        store._db.set_progress_handler(counts, 100)
        try:
            assert look(store, job).before == MOST_COUNTED
        finally:
            store._db.set_progress_handler(None, 0)
        return len(found)

    def more() -> int:
        """Let more wait, some tried and some at rest; return what the last of them costs."""
        jobs = store.accept([Work(("true",))] * 3 * MOST_COUNTED)
        tried(store, jobs[:MOST_COUNTED], 1.0)
        tried(store, jobs[MOST_COUNTED : MOST_COUNTED + 100], 1e12)
        return steps(jobs[-1])

    few, many = more(), more()
    assert many <= few + 1
