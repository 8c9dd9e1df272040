"""The contract of the queue, with a real Redis."""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.agents.agent import LEFT_OUT, Agent
from rave_cli.pool.jobs.job import ENDINGS
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.queue import streams as queues
from tests.waiting import NEVER

if TYPE_CHECKING:
    from rave_cli.pool.agents.agent import Attempt
    from rave_cli.pool.queue.streams import Task

    from .pools import Pool

pytestmark = pytest.mark.integration

SOON = 0.02


def test_a_job_is_run_and_its_end_is_in_the_store(pool: Pool) -> None:
    (name,) = pool.submit(Work(("sh", "-c", "echo out; exit 3")))
    assert pool.job(name).state == "waiting"
    assert pool.agent().turn(SOON)
    pool.turn()
    job = pool.job(name)
    assert (job.state, job.exit_status, job.attempt) == ("failure", 3, 1)
    assert b"".join(p.data for p in pool.store.printed(name, 1)) == b"out\n"
    assert pool.queue.length() == 0
    assert pool.broker.client.keys("rave:job:*") == []


def test_what_waited_before_there_was_a_group_is_taken(pool: Pool) -> None:
    pool.broker.client.xadd("rave:jobs", {"job": "of-another-day"})
    pool.broker.client.xadd("rave:jobs", {"what": "is this"})
    (name,) = pool.submit(Work(("true",)))
    agent = pool.agent()
    while not agent.turn(SOON):
        pass
    pool.turn()
    assert pool.job(name).state == "success"


def test_an_agent_holds_one_job_and_leaves_the_others_to_the_others(pool: Pool) -> None:
    pool.submit(*[Work(("true",))] * 3)
    taken = [pool.queue.take(f"agent-{n}", wait=SOON) for n in range(4)]
    assert [task is not None for task in taken] == [True, True, True, False]
    assert len({task.name for task in taken if task}) == 3


def test_whoever_waits_for_what_happens_can_be_roused_even_before_they_wait(pool: Pool) -> None:
    origin = pool.store.origin
    pool.queue.rouse("another-origin")
    threading.Timer(0.1, lambda: pool.queue.rouse(origin)).start()
    assert pool.queue.happenings(origin, "0-0", wait=NEVER) == ([], "0-0")
    pool.queue.rouse(origin)
    pool.queue.rouse(origin)
    assert pool.queue.happenings(origin, "0-0", wait=NEVER) == ([], "0-0")
    assert pool.queue.happenings(origin, "0-0", wait=SOON) == ([], "0-0"), "once for all rings"


def test_adding_what_the_queue_has_changes_nothing(pool: Pool) -> None:
    pool.submit(Work(("true",)))
    for _ in range(3):
        pool.store.queue_anew("another")
        pool.dispatcher = pool.new_dispatcher()
        pool.turn()
    assert pool.queue.length() == 1


def test_whoever_says_that_it_works_has_its_job_from_then_on(pool: Pool) -> None:
    pool.submit(Work(("true",)))
    task = pool.queue.take("slow", wait=SOON)
    assert task is not None
    time.sleep(0.1)
    said = time.monotonic()
    assert pool.queue.renew("slow", task) == "mine"
    (held,) = pool.broker.client.xpending_range("rave:jobs", "agents", "-", "+", 1)
    assert int(held["time_since_delivered"]) <= (time.monotonic() - said) * 1000 + 1
    # Not another delivery: those are what lost agents are counted by.
    assert held["times_delivered"] == 1
    assert pool.queue.take("other", wait=SOON) is None


def test_a_zombie_neither_renews_nor_prints_nor_ends_what_another_has(pool: Pool) -> None:
    (name,) = pool.submit(Work(("true",)))
    zombie = pool.queue.take("zombie", wait=SOON)
    heir = pool.after_all().take("heir", wait=SOON)
    assert zombie is not None
    assert heir is not None
    assert (zombie.attempt, heir.attempt, heir.lost) == (1, 2, 1)
    assert pool.queue.renew("zombie", zombie) == "lost"
    assert not pool.queue.say("zombie", zombie, 1, b"late", 1)
    assert not pool.queue.settle("zombie", zombie, "success", exit_status=0)
    assert pool.queue.settle("heir", heir, "failure", exit_status=1)
    assert not pool.queue.settle("heir", heir, "success", exit_status=0)
    pool.turn()
    assert (pool.job(name).state, pool.job(name).exit_status) == ("failure", 1)


def test_an_agent_that_comes_back_under_its_name_ends_only_its_last_attempt(pool: Pool) -> None:
    pool.submit(Work(("true",)))
    before = pool.queue.take("same", wait=SOON)
    after = pool.after_all().take("same", wait=SOON)
    assert before is not None
    assert after is not None
    assert not pool.queue.settle("same", before, "failure", exit_status=1)
    assert pool.queue.settle("same", after, "success", exit_status=0)


def test_a_job_that_loses_its_agents_ends_as_an_error_and_others_flow(pool: Pool) -> None:
    poison, good = pool.submit(Work(("true",)), Work(("true",)))
    assert pool.queue.take("victim", wait=SOON) is not None
    for number in range(queues.MOST_LOST):
        task = pool.after_all().take(f"victim-{number}", wait=SOON)
        assert task is not None
        assert task.name == poison
    agent = pool.heir()
    while not agent.turn(SOON):
        pass
    pool.turn()
    assert pool.job(good).state == "success"
    job = pool.job(poison)
    assert (job.state, job.attempt, job.lost) == ("error", 4, 4)
    assert "lost 4 times" in job.why


def test_failures_and_losses_are_counted_apart(pool: Pool) -> None:
    (name,) = pool.submit(Work(("true",), retries=1))
    lost = pool.queue.take("lost", wait=SOON)
    assert lost is not None
    task = pool.after_all().take("agent", wait=SOON)
    assert task is not None
    pool.queue.settle("agent", task, "failure", exit_status=1)
    pool.turn()
    job = pool.job(name)
    assert (job.state, job.failed, job.lost) == ("waiting", 1, 1)
    pool.turn()
    task = pool.queue.take("agent", wait=SOON)
    assert task is not None
    assert (task.attempt, task.failed, task.lost) == (3, 1, 1)
    pool.queue.settle("agent", task, "failure", exit_status=1)
    pool.turn()
    assert pool.job(name).state == "failure"


def test_a_job_that_failed_waits_before_it_is_tried_again(pool: Pool) -> None:
    (name,) = pool.submit(Work(("false",), retries=5))
    task = pool.queue.take("agent", wait=SOON)
    assert task is not None
    pool.queue.settle("agent", task, "failure", exit_status=1, delay=1000)
    pool.turn()
    assert pool.queue.take("agent", wait=SOON) is None
    job = pool.job(name)
    assert job.until is not None
    assert 900 < job.until - time.time() < 1000
    pool.broker.client.zadd("rave:delayed", {name: 0})
    pool.turn()
    assert pool.queue.take("agent", wait=SOON) is not None


def test_delays_are_spread_from_none_to_twice_the_last_and_end_somewhere() -> None:
    from rave_cli.pool.agents.agent import MOST_DELAY, delay

    many = [delay(3) for _ in range(400)]
    assert 0 <= min(many) < 2
    assert 14 < max(many) <= 16
    assert max(delay(50) for _ in range(100)) <= MOST_DELAY


@pytest.mark.parametrize("where", ["waiting", "delayed"])
def test_what_nobody_has_is_cancelled_at_once(pool: Pool, where: str) -> None:
    (name,) = pool.submit(Work(("true",), retries=1))
    if where == "delayed":
        task = pool.queue.take("agent", wait=SOON)
        assert task is not None
        pool.queue.settle("agent", task, "failure", delay=60)
    pool.store.cancel(name)
    pool.turn()
    pool.turn()
    assert pool.job(name).state == "cancelled"
    assert pool.queue.take("agent", wait=SOON) is None
    assert pool.broker.client.keys("rave:job:*") == []
    assert pool.broker.client.zcard("rave:delayed") == 0


def test_what_runs_is_cancelled_by_ending_it(pool: Pool) -> None:
    (name,) = pool.submit(Work(("sleep", "60")))
    worker = threading.Thread(target=pool.agent().turn)
    worker.start()
    pool.until(lambda: pool.job(name).state == "running")
    pool.store.cancel(name)
    pool.until(lambda: pool.job(name).over)
    worker.join()
    assert pool.job(name).state == "cancelled"


def test_what_takes_too_long_is_ended(pool: Pool) -> None:
    (name,) = pool.submit(Work(("sleep", "60"), timeout=0.2))
    pool.agent().turn()
    pool.turn()
    job = pool.job(name)
    assert (job.state, job.exit_status) == ("timeout", None)
    assert "0.2 s" in job.why


def test_a_machine_that_hangs_while_it_starts_is_a_job_that_took_too_long(pool: Pool) -> None:
    class Hanging:
        def prepare(self) -> None:
            """It looks as if one could begin."""

        def run(self, _task: Task, attempt: Attempt) -> int:
            ended = threading.Event()
            with attempt.ended_by(ended.set):
                ended.wait()
            raise RaveError("QEMU was ended", exit_code=ExitCode.NOT_READY)

    (name,) = pool.submit(Work(("true",), timeout=0.2))
    Agent("agent", pool.queue, Hanging(), pool.stopping).turn()
    pool.turn()
    job = pool.job(name)
    assert (job.state, job.facts.came, job.facts.starting) == ("timeout", "timeout", None)
    assert [phase.name for phase in job.facts.phases] == ["restore"]
    assert "0.2 s" in job.why


def test_what_an_agent_saw_of_an_attempt_is_kept_with_the_job(pool: Pool) -> None:
    (name,) = pool.submit(Work(("sh", "-c", "echo out; echo out")))
    pool.agent().turn(SOON)
    pool.turn()
    facts = pool.job(name).facts
    assert (facts.image, facts.template, facts.printed) == ("1" * 64, "2" * 64, (8, 0))
    assert facts.starting is not None
    assert facts.ran is not None


def test_what_nobody_takes_in_time_is_skipped(pool: Pool) -> None:
    late, soon = pool.submit(
        Work(("true",), expires=time.time() - 1), Work(("true",), expires=time.time() + 60)
    )
    pool.turn()
    assert pool.job(late).state == "skipped"
    assert pool.agent().turn(SOON)
    pool.turn()
    assert pool.job(soon).state == "success"


def test_an_agent_that_stops_gives_its_job_back_and_nothing_is_counted(pool: Pool) -> None:
    (name,) = pool.submit(Work(("sleep", "60")))
    agent = pool.agent()
    worker = threading.Thread(target=agent.turn)
    worker.start()
    pool.until(lambda: pool.job(name).state == "running")
    pool.stopping.set()
    worker.join()
    agent.leave()
    pool.turn()
    job = pool.job(name)
    assert (job.state, job.failed, job.lost) == ("waiting", 0, 0)
    assert pool.broker.client.xinfo_consumers("rave:jobs", "agents") == []
    assert pool.queue.take("beside", wait=SOON) is None
    pool.broker.client.zadd("rave:delayed", {name: 0})
    pool.turn()
    assert pool.queue.take("next", wait=SOON) is not None


def test_a_name_is_not_given_up_with_a_job(pool: Pool) -> None:
    pool.submit(Work(("true",)))
    assert pool.queue.take("busy", wait=SOON) is not None
    pool.queue.leave("busy")
    assert pool.after_all().take("heir", wait=SOON) is not None


def test_whoever_is_alone_does_not_wait_for_leases_of_the_dead(pool: Pool) -> None:
    names = pool.submit(*[Work(("true",))] * 3)
    for number in range(2):
        assert pool.queue.take(f"dead-{number}", wait=SOON) is not None
    pool.queue.abandon()
    consumers = pool.broker.client.xinfo_consumers("rave:jobs", "agents")
    assert [(one["name"], one["pending"]) for one in consumers] == [(b"nobody", 2)]
    pool.finish(names)
    assert [pool.job(name).state for name in names] == ["success"] * 3
    pool.queue.abandon()
    pool.queue.abandon()
    assert pool.broker.client.xinfo_consumers("rave:jobs", "agents") == []


def test_a_sandbox_that_fails_is_an_error_after_so_many_tries(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rave_cli.pool.agents.agent.FIRST_DELAY", 0.0)
    (name,) = pool.submit(Work(("/there/is/no/such/program",), retries=0))
    tries = 0
    while not pool.job(name).over:
        tries += pool.agent().turn(SOON)
        pool.turn()
    job = pool.job(name)
    assert (job.state, tries) == ("error", queues.MOST_LOST + 1)
    assert "No such file" in job.why


def test_output_beyond_its_bound_is_left_out(pool: Pool) -> None:
    work = Work(("sh", "-c", "yes | head -c 300000"), most_output=100_000)
    (name,) = pool.submit(work)
    pool.agent().turn()
    pool.turn()
    data = b"".join(piece.data for piece in pool.store.printed(name, 1))
    assert data == (b"y\n" * 50_000) + LEFT_OUT


def test_two_pools_share_a_server_and_each_hears_of_its_own(pool: Pool, home: object) -> None:
    from rave_cli.pool.jobs.store import JobStore

    from .pools import Pool as Other

    place = pool.store.place.parents[1] / "other/jobs.sqlite"
    with JobStore(place) as store:
        other = Other(store, pool.broker, pool.queue, pool.stopping, pool.key)
        (mine,), (theirs,) = pool.submit(Work(("true",))), other.submit(Work(("false",)))
        agent = pool.agent()
        assert agent.turn(SOON)
        assert agent.turn(SOON)
        pool.turn()
        other.turn()
        assert (pool.job(mine).state, other.job(theirs).state) == ("success", "failure")


def test_every_way_to_end_was_seen() -> None:
    """Each is in a test above by its name."""
    from pathlib import Path

    text = Path(__file__).read_text()
    assert [ending for ending in ENDINGS if f'"{ending}"' not in text] == []
