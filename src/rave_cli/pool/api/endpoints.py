"""What the API answers: a table, of which the routes and the OpenAPI document are made.

Each question is answered by what the command of that name does.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.pool.access.wire import (
    DrainAsked,
    Explained,
    JobAsked,
    ListAsked,
    NamesAsked,
    NothingAsked,
    OutputAsked,
    PieceTold,
    PoolQuestion,
    RetriedJob,
    RetryAsked,
    ScaleAsked,
    StandbyAsked,
)
from rave_cli.pool.asking.standing import PoolStanding
from rave_cli.pool.jobs.job import Job
from rave_cli.pool.jobs.spans import JobTrace
from rave_cli.pool.jobs.store import Scale

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.pool.access.local import LocalPool
    from rave_cli.pool.api.tokens import Role


@dataclass(frozen=True)
class ApiEndpoint:
    """A question, and what answers it in the store's thread.

    Attributes:
        method: of HTTP.
        path: below the version; what is in braces is a member of `asked`.
        verb: of `rave pool`, for the audit log and OpenAPI.
        summary: what it does.
        role: who may ask.
        asked: what is asked; what is not in the path is in the query of a GET, else in the body.
        told: the type of the answer.
        answer: returns it.
        own: who may ask it of a job of their own; None if that is nothing else.
    """

    method: str
    path: str
    verb: str
    summary: str
    role: Role
    asked: type[PoolQuestion]
    told: Any
    answer: Callable[[LocalPool, Any], Any]
    own: Role | None = None

    @property
    def acts(self) -> bool:
        """Whether it changes something."""
        return self.method != "GET"


def _list(pool: LocalPool, asked: ListAsked) -> list[Job]:
    return pool.newest(asked.most, asked.state, before=asked.before)


def _output(pool: LocalPool, asked: OutputAsked) -> list[dict[str, Any]]:
    name = pool.load(asked.job).name
    return [PieceTold.of(piece) for piece in pool.store.printed(name, asked.attempt, asked.after)]


def _explain(pool: LocalPool, asked: JobAsked) -> dict[str, Any]:
    job, reasons = pool.explain(asked.job)
    return {"job": job, "reasons": reasons}


def _drop(pool: LocalPool, asked: NamesAsked) -> list[Job]:
    pool.drop(asked.jobs)
    return pool.dead()


def _retry(pool: LocalPool, asked: RetryAsked) -> list[dict[str, Job]]:
    return [{"job": job, "again": again} for job, again in pool.retry(asked.jobs)]


ENDPOINTS = (
    ApiEndpoint(
        "GET", "/jobs", "list", "List jobs, the newest first", "viewer",
        ListAsked, list[Job], _list,
    ),
    ApiEndpoint(
        "GET", "/jobs/{job}", "show", "Show a job", "viewer",
        JobAsked, Job, lambda pool, asked: pool.load(asked.job),
    ),
    ApiEndpoint(
        "GET", "/jobs/{job}/output", "logs", "Return what an attempt printed after a piece",
        "viewer", OutputAsked, list[PieceTold], _output,
    ),
    ApiEndpoint(
        "GET", "/jobs/{job}/reasons", "explain", "Say why a job waits", "viewer",
        JobAsked, Explained, _explain,
    ),
    ApiEndpoint(
        "GET", "/jobs/{job}/trace", "trace", "Say where the time of a job went", "viewer",
        JobAsked, JobTrace, lambda pool, asked: pool.trace(asked.job),
    ),
    ApiEndpoint(
        "POST", "/jobs/{job}/cancel", "cancel", "Cancel a job", "operator",
        JobAsked, Job, lambda pool, asked: pool.cancel(asked.job), own="submitter",
    ),
    ApiEndpoint(
        "POST", "/retries", "retry", "Submit again what jobs asked for that are over", "submitter",
        RetryAsked, list[RetriedJob], _retry,
    ),
    ApiEndpoint(
        "GET", "/dead", "dead", "List the jobs that were given up", "viewer",
        NothingAsked, list[Job], lambda pool, _asked: pool.dead(),
    ),
    ApiEndpoint(
        "POST", "/dead/drop", "dead --drop", "Do not list these any more", "operator",
        NamesAsked, list[Job], _drop,
    ),
    ApiEndpoint(
        "GET", "/standing", "status", "Say how the pool stands", "viewer",
        NothingAsked, PoolStanding, lambda pool, _asked: pool.standing(),
    ),
    ApiEndpoint(
        "PUT", "/scale", "scale", "Let so many jobs run at a time", "operator",
        ScaleAsked, Scale, lambda pool, asked: pool.scale(asked.agents),
    ),
    ApiEndpoint(
        "PUT", "/standby", "scale --standby", "Keep so many machines for jobs to come", "operator",
        StandbyAsked, Scale, lambda pool, asked: pool.stand_by(asked.machines),
    ),
    ApiEndpoint(
        "PUT", "/drain", "drain", "Let no job begin, or again", "operator",
        DrainAsked, Scale, lambda pool, asked: pool.drain(asked.draining),
    ),
)  # fmt: skip
