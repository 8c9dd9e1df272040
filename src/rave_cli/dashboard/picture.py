"""What the dashboard shows of a pool: asked for in pages, never in whole lists, and made into rows
by pure functions over what was answered and the time.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, get_args

from rave_cli.pool.jobs.job import JobState
from rave_cli.text import cell
from rave_cli.views.pool import asked_for, duration, job_line, job_lines, took

if TYPE_CHECKING:
    from rave_cli.pool.access.pool import PoolAccess
    from rave_cli.pool.asking.standing import PoolStanding
    from rave_cli.pool.jobs.job import Job

# Jobs of a page, and dead letters that are shown.
PAGE = 100
MOST_DEAD = 200

# Characters of a cell, and of a line: a command may be 64 KiB.
LONGEST_CELL = 240
LONGEST_LINE = 2000

STATES: tuple[str, ...] = get_args(JobState)


@dataclass(frozen=True)
class JobFilter:
    """Which jobs somebody wants to see: in one of these states, and with all of these words in
    their name, agent or command.
    """

    states: tuple[str, ...] = ()
    words: tuple[str, ...] = ()

    @classmethod
    def of(cls, said: str) -> JobFilter:
        """Return what was typed: words that are states, and others."""
        words = said.lower().split()
        states = tuple(dict.fromkeys(word for word in words if word in STATES))
        return cls(states, tuple(word for word in words if word not in STATES))

    def takes(self, job: Job) -> bool:
        """Return whether a job has the words; its state was asked for."""
        said = f"{job.name} {job.agent} {asked_for(job)}".lower()
        return all(word in said for word in self.words)


@dataclass(frozen=True)
class PoolPicture:
    """A pool as it was answered for.

    Attributes:
        at: seconds since the epoch.
        standing: how it stands.
        jobs: a page of them; the first, where no states are asked for, begins with what runs.
        after: the last of the page, if there are older ones; else empty.
        dead: the newest of those that were given up, if they were asked for.
    """

    at: float
    standing: PoolStanding
    jobs: tuple[Job, ...]
    after: str
    dead: tuple[Job, ...] = ()


def look(
    pool: PoolAccess, states: tuple[str, ...] = (), before: str = "", *, dead: bool = True
) -> PoolPicture:
    """Return a pool as it is now.

    Args:
        pool: is asked.
        states: of the jobs of the page; none for all.
        before: the page is of jobs that were submitted before this one; empty for the newest.
        dead: whether dead letters are asked for.

    Raises:
        RaveError: as the pool does.
    """
    standing = pool.standing()
    page = pool.newest(PAGE + 1, states, before=before)
    after = page[PAGE - 1].name if len(page) > PAGE else ""
    first = () if before or states else standing.running
    runs = {job.name for job in first}
    jobs = (*first, *(job for job in page[:PAGE] if job.name not in runs))
    given_up = tuple(pool.dead()[:MOST_DEAD]) if dead and standing.dead else ()
    return PoolPicture(time.time(), standing, jobs, after, given_up)


# --- rows ----------------------------------------------------------------------------------------

JOBS = ("job", "state", "age", "took", "try", "command")
AGENTS = ("agent", "job", "for", "try", "command")
DEAD = ("job", "ended", "why", "command")
EVENTS = ("time", "job", "what", "command")


def job_row(job: Job, now: float) -> tuple[str, ...]:
    """Return what JOBS heads."""
    state = "cancelling" if job.cancelling and not job.over else job.state
    took_so_far = took(job, now)
    return _cells(
        job.name, state, duration(now - job.submitted), took_so_far, str(job.attempt or ""),
        asked_for(job),
    )  # fmt: skip


def agent_row(job: Job, now: float) -> tuple[str, ...]:
    """Return what AGENTS heads, of an agent with a job."""
    since = duration(now - (job.began or now))
    return _cells(job.agent, job.name, since, str(job.attempt), asked_for(job))


def dead_row(job: Job, now: float) -> tuple[str, ...]:
    """Return what DEAD heads."""
    return _cells(job.name, f"{duration(now - (job.ended or now))} ago", job.why, asked_for(job))


def event_row(job: Job, heard: float) -> tuple[str, ...]:
    """Return what EVENTS heads, of a job that was another than before."""
    said = job_line(job).removeprefix(f"{job.name} ")
    return _cells(time.strftime("%H:%M:%S", time.localtime(heard)), job.name, said, asked_for(job))


def _cells(*cells: str) -> tuple[str, ...]:
    return tuple(short(one) for one in cells)


def short(said: str, longest: int = LONGEST_CELL) -> str:
    """Return text as a clean cell of a table, cut where it is longer than anybody reads."""
    # Most of it is cut off before it is looked through, which is done for each row.
    found = cell(said[: longest * 4])
    return found if len(found) <= longest else f"{found[: longest - 1]}…"


# --- lines ---------------------------------------------------------------------------------------


def head_line(picture: PoolPicture, now: float) -> str:
    """Return how the pool stands, in one line."""
    standing = picture.standing
    said = [f"{standing.counts.get('running', 0):,} running", _waiting(standing, now)]
    if standing.said is not None:
        said.insert(0, f"{standing.said.working} of {_agents(standing)} agents at work")
    if standing.wanted.standby:
        said.append(f"{standing.wanted.standby} standing by")
    if standing.dead:
        said.append(f"{standing.dead:,} dead")
    return " · ".join(said)


def trouble(picture: PoolPicture) -> str:
    """Return what keeps jobs from beginning, and what helps; nothing if nothing does."""
    standing = picture.standing
    if not standing.served:
        return "nobody serves the pool: jobs wait until somebody does   (rave pool serve)"
    if standing.wanted.draining:
        return "the pool is drained: no job begins   (rave pool drain --end)"
    if _agents(standing) == 0 and standing.said is not None:
        return "the pool is scaled to no agents   (rave pool scale N)"
    hold = standing.said.hold if standing.said is not None else None
    if hold is None or not hold.code:
        return ""
    return f"no job begins: {hold.why}" + (f"   ({hold.hint})" if hold.hint else "")


def told_of(job: Job, now: float) -> list[str]:
    """Return all that is known of a job."""
    lines = (one if isinstance(one, str) else "".join(one) for one in job_lines(job, now))
    return [short(one, LONGEST_LINE) for one in lines]


def queue_lines(picture: PoolPicture, now: float) -> list[str]:
    """Return what there is to say of the queue and of who serves."""
    standing, said = picture.standing, picture.standing.said
    counts = standing.counts
    lines = [f"{state:<10}{counts[state]:>10,}" for state in STATES if state in counts]
    if standing.oldest is not None:
        oldest = standing.oldest
        lines += ["", f"oldest    {oldest.name} waits for {duration(now - oldest.submitted)}"]
    if said is not None:
        lines += [
            "",
            f"served    by process {said.pid} for {duration(now - said.since)}",
            f"machines  {said.profile} on {said.base}, {said.need_mib} MiB each",
        ]
    return lines


def _waiting(standing: PoolStanding, now: float) -> str:
    said = f"{standing.counts.get('waiting', 0):,} waiting"
    if standing.oldest is None:
        return said
    return f"{said}, the oldest for {duration(now - standing.oldest.submitted)}"


def _agents(standing: PoolStanding) -> int:
    said = standing.said
    return standing.wanted.agents or 0 if said is None else said.agents
