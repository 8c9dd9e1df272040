"""Secrets on a server that hosts share: names travel, and each host lends what it has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli.pool.agents.agent import Agent
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.queue.streams import LEFT, Queue

from .pools import LEASE

if TYPE_CHECKING:
    from .pools import Pool

pytestmark = pytest.mark.integration

READS = Work(("true",), secrets=("a/b", "c/d"))


def agent(pool: Pool, *lends: str, origin: str = "") -> Agent:
    """Return an agent of a host that lends these secrets to jobs of others."""
    queue = Queue(pool.broker.client, lease=LEASE, lends=frozenset(lends), origin=origin)
    return Agent(f"agent-{'-'.join(lends)}-{origin}", queue, pool.sandbox, pool.stopping)


def rests(pool: Pool, name: str) -> float:
    """Return the seconds for which a job rests, and let them pass."""
    client = pool.broker.client
    due = client.zscore("rave:delayed", name)
    assert due is not None
    seconds, microseconds = client.time()
    client.zadd("rave:delayed", {name: 0})
    pool.turn()
    return due - seconds - microseconds / 1e6


def test_a_host_that_lends_too_little_leaves_a_job_to_one_that_lends_it(pool: Pool) -> None:
    (name,) = pool.submit(READS)
    for lends in ((), ("a/b",), ("a/b", "e/f")):
        assert not agent(pool, *lends).turn(0.01)
        assert rests(pool, name) < 2.1
    job = pool.job(name)
    # That is no attempt, and nobody's fault.
    assert (job.state, job.attempt, job.failed, job.lost) == ("waiting", 0, 0, 0)
    assert job.lacking == "c/d"
    assert pool.sandbox.began == []
    assert agent(pool, "c/d", "a/b").turn(0.01)
    pool.until(lambda: pool.over([name]))
    job = pool.job(name)
    assert (job.state, job.attempt, job.lacking) == ("success", 1, "")


def test_its_own_host_lends_a_job_whatever_it_names(pool: Pool) -> None:
    (name,) = pool.submit(READS)
    assert not agent(pool, origin="another").turn(0.01)
    rests(pool, name)
    assert agent(pool, origin=pool.store.origin).turn(0.01)
    pool.until(lambda: pool.over([name]))


def test_where_nobody_lends_it_a_job_rests_longer_and_longer_and_is_told_once(pool: Pool) -> None:
    (name,) = pool.submit(READS)
    found = []
    for _ in range(9):
        assert not agent(pool).turn(0.01)
        found.append(rests(pool, name))
    # Half a second, twice as long each time, and no longer than that: less what we took to look.
    for took, most in zip(found, (0.5, 1, 2, 4, 8, 16, LEFT, LEFT, LEFT), strict=True):
        assert took <= most
    assert found[-1] > 16
    assert [job.lacking for job in pool.changes] == ["a/b, c/d"]
    # Whoever begins to serve, perhaps with more to lend, has it looked at now.
    assert not agent(pool).turn(0.01)
    assert pool.queue.offer() == 1
    assert rests(pool, name) <= 0
    assert agent(pool, "a/b", "c/d").turn(0.01)
    pool.until(lambda: pool.over([name]))
    assert pool.queue.offer() == 0


def test_what_is_passed_over_after_an_attempt_still_says_what_became_of_that(pool: Pool) -> None:
    (name,) = pool.submit(Work(("false",), secrets=("a/b",), retries=1))
    assert agent(pool, "a/b").turn(0.01)
    pool.until(lambda: pool.job(name).until is not None)
    rests(pool, name)
    assert not agent(pool).turn(0.01)
    pool.until(lambda: pool.job(name).lacking == "a/b")
    job = pool.job(name)
    assert (job.state, job.attempt, job.failed, job.facts.came) == ("waiting", 1, 1, "failure")
    # Half a second, which on a busy host has passed by itself.
    pool.until(lambda: agent(pool, "a/b").turn(0.01))
    pool.until(lambda: pool.over([name]))
    assert (pool.job(name).attempt, pool.job(name).state) == (2, "failure")
