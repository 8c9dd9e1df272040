"""The store: what it accepted it has, and what it cannot do it says."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs import rows
from rave_cli.pool.jobs.job import NO_FACTS, Began, Ended, Printed
from rave_cli.pool.jobs.store import KEPT_DAYS, JobStore, Scale
from rave_cli.pool.jobs.submission import ReusedKeyError, Submission
from rave_cli.pool.jobs.work import Work
from rave_cli.records import NewerRecordError
from tests import kills

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

WORK = Work(("sh", "-c", "echo ä"), timeout=5, retries=2, most_output=77, expires=12.5)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path / "pool/jobs.sqlite") as found:
        yield found


def again(store: JobStore) -> JobStore:
    return JobStore(store.place)


def test_a_job_comes_back_as_it_was_given(store: JobStore) -> None:
    (job,) = store.accept([WORK])
    with again(store) as other:
        assert other.load(job.name) == job
        assert other.load(job.name[:11]) == job
        assert other.origin == store.origin


def test_what_is_accepted_is_on_the_disk_before_it_is_said(store: JobStore) -> None:
    words: list[str] = []
    store._db.set_trace_callback(words.append)
    store.accept([WORK])
    assert words[0] == "BEGIN IMMEDIATE"
    assert words[-1] == "COMMIT"
    # 2 is FULL: the log is synced with each commit (https://www.sqlite.org/pragma.html).
    assert store._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert store._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_what_another_process_writes_is_seen_whoever_opened_it_here_meanwhile(
    store: JobStore,
) -> None:
    # As the pool's API does, in a thread beside whoever serves.
    with again(store):
        pass
    words = (
        "import pathlib, sys; from rave_cli.pool.jobs import store, work\n"
        "with store.JobStore(pathlib.Path(sys.argv[1])) as mine:"
        " print(mine.accept([work.Work(('a',))])[0].name)"
    )
    argv = [sys.executable, "-c", words, str(store.place)]
    done = subprocess.run(argv, capture_output=True, text=True, check=True)
    assert [job.name for job in store.newest(10)] == [done.stdout.strip()]
    store.accept([WORK])
    with again(store) as other:
        assert len(other.newest(10)) == 2


def test_only_we_can_read_it(store: JobStore) -> None:
    store.accept([WORK])
    for file in store.place.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600, file
    assert stat.S_IMODE(store.place.parent.stat().st_mode) == 0o700


def test_all_jobs_are_accepted_or_none(store: JobStore) -> None:
    store.accept([WORK] * 2, most=3)
    with pytest.raises(RaveError) as refused:
        store.accept([WORK] * 2, most=3)
    assert refused.value.exit_code == ExitCode.NOT_READY
    assert "try again later" in str(refused.value.hint)
    assert len(store.newest(10)) == 2
    done = store.newest(1)[0].name
    store.record([(done, Ended(1, 1, "success", 0, "", 0, 0))])
    assert len(store.accept([WORK] * 2, most=3)) == 2


def test_many_submit_at_once(store: JobStore) -> None:
    def submit() -> None:
        with again(store) as mine:
            mine.accept([WORK])

    many = [threading.Thread(target=submit) for _ in range(200)]
    for one in many:
        one.start()
    for one in many:
        one.join()
    assert len({job.name for job in store.newest(1000)}) == 200


@pytest.mark.parametrize("after", range(12))
def test_a_submitter_is_killed_and_its_jobs_are_there_or_not(store: JobStore, after: int) -> None:
    child = os.fork()
    if child == 0:
        try:
            with again(store) as mine:
                steps = iter(range(after))

                def step(*_words: object) -> None:
                    if next(steps, None) is None:
                        os.kill(os.getpid(), signal.SIGKILL)

                mine._db.set_trace_callback(step)
                mine._db.set_progress_handler(step, 10)
                mine.accept([WORK] * 3)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    kills.count()
    assert len(store.newest(10)) in (0, 3)
    assert len(store.accept([WORK])) == 1


# Another process, which takes the log of the store away with it if it finds itself alone.
LOOKS = """
import sys
from pathlib import Path
from rave_cli.pool.jobs.store import JobStore
with JobStore(Path(sys.argv[1])) as store:
    print(len(store.newest(9)))
"""


def test_what_is_accepted_is_seen_by_others_though_the_store_was_opened_twice(
    store: JobStore,
) -> None:
    def seen() -> int:
        argv = [sys.executable, "-c", LOOKS, str(store.place)]
        return int(subprocess.run(argv, capture_output=True, check=True).stdout)

    store.accept([WORK])
    with again(store):
        pass
    assert seen() == 1
    store.accept([WORK])
    assert seen() == 2


def test_what_was_recorded_is_not_recorded_twice(store: JobStore) -> None:
    (job,) = store.accept([WORK])
    store.record([(job.name, Began(1, 1, "a")), (job.name, Printed(1, 1, b"one"))], "5-0")
    assert store.seen == "5-0"
    with again(store) as other:
        assert other.seen == "5-0"
        assert [piece.data for piece in other.output(other.load(job.name))] == [b"one"]
        other.queue_anew("first")
        assert other.seen == "0-0"
        other.record([], "6-0")
        other.queue_anew("first")
        assert other.seen == "6-0"


def test_output_is_of_an_attempt(store: JobStore) -> None:
    (job,) = store.accept([WORK])
    for attempt in (1, 2):
        store.record(
            [
                (job.name, Began(1, attempt, "a")),
                (job.name, Printed(attempt, 1, b"out%d" % attempt)),
                (job.name, Printed(attempt, 2, b"err")),
            ]
        )
    pieces = store.printed(job.name, 2)
    assert [(piece.stream, piece.data) for piece in pieces] == [(1, b"out2"), (2, b"err")]
    assert store.printed(job.name, 2, after=pieces[0].number) == pieces[1:]


def test_what_ended_long_ago_is_removed_with_its_output(store: JobStore) -> None:
    old, new = store.accept([WORK] * 2)
    day = 86400.0
    for job, at in ((old, 0.0), (new, 2 * day)):
        store.record(
            [
                (job.name, Printed(0, 1, b"x")),
                (job.name, Ended(at, 1, "success", 0, "", 0, 0)),
            ]
        )
    assert store.prune((KEPT_DAYS + 1) * day) == 1
    assert [job.name for job in store.newest(10)] == [new.name]
    assert store._db.execute("SELECT count(*) FROM output").fetchone() == (1,)


def test_a_job_is_found_by_its_beginning_if_that_is_one_jobs(store: JobStore) -> None:
    names = [job.name for job in store.accept([WORK] * 40)]
    twice = next(name[0] for name in names if sum(n[0] == name[0] for n in names) > 1)
    for wrong in ("", "zz", "%", twice, "0" * 13, "../x"):
        with pytest.raises(RaveError) as refused:
            store.load(wrong)
        assert refused.value.exit_code == ExitCode.USAGE


def test_what_is_over_is_not_cancelled(store: JobStore) -> None:
    (job,) = store.accept([WORK])
    assert store.cancel(job.name).cancelling
    assert [one.name for one in store.cancelling()] == [job.name]
    store.record([(job.name, Ended(1, 1, "success", 0, "", 0, 0))])
    assert store.cancel(job.name).state == "success"
    assert store.cancelling() == []


def test_what_waits_costs_no_more_the_more_waits(store: JobStore) -> None:
    asked: list[str] = []
    store._db.set_trace_callback(asked.append)
    store.cancelling()
    store.expired(0.0)
    store.unqueued(1)
    store.load(store.accept([WORK])[0].name)
    store._db.set_trace_callback(None)
    words = [one for one in asked if one.startswith("SELECT name")]
    plans = [store._db.execute(f"EXPLAIN QUERY PLAN {one}").fetchall() for one in words]
    indexes = [re.findall(r"INDEX (\w+)", plan[0][3]) for plan in plans]
    assert indexes == [
        ["jobs_cancelling"], ["jobs_expiring"], ["jobs_unqueued"], ["sqlite_autoindex_jobs_1"],
    ]  # fmt: skip
    assert not [plan for plan in plans if "TEMP B-TREE" in str(plan)]


def test_what_the_first_rave_with_a_pool_left_is_taken_over(tmp_path: Path) -> None:
    place = tmp_path / "pool/jobs.sqlite"
    place.parent.mkdir(mode=0o700)
    place.touch(0o600)
    old = sqlite3.connect(place)
    old.executescript(rows.SCHEMA)
    old.executescript(
        "INSERT INTO pool VALUES ('0123456789ab', 'first', '5-0');"
        "INSERT INTO jobs (name, work, submitted, state, attempt, failed, lost, agent, why,"
        ' cancelling, queued, ended) VALUES (\'aaaaaaaaaaaa\', \'{"command": ["true"],'
        ' "timeout": 600.0, "retries": 0, "most_output": 1048576, "expires": null}\','
        " 1.0, 'error', 4, 0, 4, 'a', 'x', 0, 1, 2.0);"
        "PRAGMA user_version = 1;"
    )
    old.close()
    with JobStore(place) as store:
        (job,) = store.newest(10)
        assert (job.name, job.state, job.facts) == ("aaaaaaaaaaaa", "error", NO_FACTS)
        assert (store.seen, store.scale) == ("5-0", Scale())
        assert store.proof(job.name) is None
        assert [one.name for one in store.dead(10)] == [job.name]
    with JobStore(place) as store:
        assert len(store.accept([WORK])) == 1


def test_what_is_asked_for_twice_with_one_key_is_one_job(store: JobStore) -> None:
    works = [WORK, replace(WORK, retries=3)]
    first = store.accept(works, owner="ci", key="k")
    with again(store) as other:
        assert other.accept(works, owner="ci", key="k") == first
    # Whoever says "in a minute" again says another moment.
    assert store.accept([replace(one, expires=9e9) for one in works], owner="ci", key="k") == first
    assert store.accept(works, owner="else", key="k")[0].name != first[0].name
    assert store.accept(works, owner="ci", key="K")[0].name != first[0].name
    with pytest.raises(ReusedKeyError) as refused:
        store.accept([WORK], owner="ci", key="k")
    assert refused.value.exit_code == ExitCode.USAGE
    assert len(store.newest(99)) == 6


def test_in_one_transaction_the_second_of_a_key_comes_to_the_first(store: JobStore) -> None:
    one, same, other, more = store.accept_each(
        [
            Submission((WORK,), "ci", "k"),
            Submission((WORK,), "ci", "k"),
            Submission((WORK, WORK), "ci", "k"),
            Submission((WORK,)),
        ]
    )
    assert one == same
    assert isinstance(other, ReusedKeyError)
    assert isinstance(more, list)
    assert len(store.newest(9)) == 2


def test_a_key_is_forgotten_before_its_jobs(store: JobStore) -> None:
    (job,) = store.accept([WORK], key="k")
    store.record([(job.name, Ended(time.time(), 1, "success", 0, "", 0, 0))])
    store.prune(time.time() + KEPT_DAYS * 86400)
    (other,) = store.accept([WORK], key="k")
    assert other.name != job.name


def test_what_was_given_up_is_listed_until_somebody_deals_with_it(store: JobStore) -> None:
    one, other, good = (job.name for job in store.accept([WORK] * 3))
    store.record(
        [
            (one, Ended(1, 4, "error", None, "x", 0, 4)),
            (other, Ended(1, 4, "error", None, "x", 0, 4)),
            (good, Ended(1, 1, "failure", 1, "", 1, 0)),
        ]
    )
    assert [job.name for job in store.dead(10)] == [other, one]
    store.drop([one])
    (again,) = store.retry(store.dead(10))
    assert store.dead(10) == []
    assert (again.state, again.attempt) == ("waiting", 0)
    # What was to expire has done so.
    assert again.work == replace(WORK, expires=None)
    assert store.counts() == {"error": 2, "failure": 1, "waiting": 1}
    assert store.oldest() == again


def test_how_many_agents_are_wanted_is_remembered(store: JobStore) -> None:
    assert store.scale == Scale(None, draining=False)
    store.set_scale(Scale(3, draining=True, standby=2))
    with again(store) as other:
        assert other.scale == Scale(3, draining=True, standby=2)
        other.set_scale(Scale(None))
    assert store.scale == Scale()


def test_one_of_a_newer_rave_is_left_alone(store: JobStore) -> None:
    store._db.execute("PRAGMA user_version = 99")
    before = store.place.read_bytes()
    with pytest.raises(NewerRecordError):
        again(store)
    assert store.place.read_bytes() == before


def test_a_damaged_one_is_named_and_left_alone(tmp_path: Path) -> None:
    place = tmp_path / "pool/jobs.sqlite"
    place.parent.mkdir(mode=0o700)
    place.write_bytes(b"no database" * 100)
    place.chmod(0o600)
    with pytest.raises(RaveError) as refused:
        JobStore(place)
    assert str(place) in refused.value.message
    assert place.read_bytes() == b"no database" * 100


def test_a_full_disk_is_said_and_nothing_is_half_accepted(store: JobStore) -> None:
    pages = store._db.execute("PRAGMA page_count").fetchone()[0]
    store._db.execute(f"PRAGMA max_page_count = {pages + 4}")
    with pytest.raises(RaveError) as refused:
        store.accept([WORK] * 2000)
    assert refused.value.exit_code == ExitCode.HOST
    assert "df -h" in str(refused.value.hint)
    assert store.newest(10) == []
    assert len(store.accept([WORK])) == 1


def test_somebody_elses_file_is_refused(tmp_path: Path) -> None:
    place = tmp_path / "pool/jobs.sqlite"
    place.parent.mkdir(mode=0o700)
    sqlite3.connect(place).close()
    place.chmod(0o666)
    with pytest.raises(RaveError):
        JobStore(place)


def test_what_others_write_and_close_is_seen_by_all_who_have_it_open(store: JobStore) -> None:
    # One more in this process: closing a descriptor of the file would drop the locks of both.
    with again(store) as other:
        code = (
            "import pathlib, sys; from rave_cli.pool.jobs.store import JobStore;"
            " from rave_cli.pool.jobs.work import Work;\n"
            "with JobStore(pathlib.Path(sys.argv[1])) as store: store.accept([Work(('true',))])"
        )
        subprocess.run([sys.executable, "-c", code, store.place], check=True)
        # Whoever closes last removes the log: with it goes what was written since.
        assert store.place.with_name("jobs.sqlite-wal").exists()
        other.accept([WORK])
        assert store.counts() == {"waiting": 2}
