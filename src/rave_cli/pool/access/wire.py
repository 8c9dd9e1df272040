"""What goes over the pool's API: what is asked, as models that refuse what they do not know, and
what is answered, as the pool's own values.

Whoever asks leaves out what it does not know of in an answer, so that a newer pool can say more.
"""

from __future__ import annotations

import base64
from functools import cache
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter

from rave_cli import shapes

# What follows is read when the program runs.
from rave_cli.pool.asking.explaining import JobReason  # noqa: TC001
from rave_cli.pool.jobs.job import Job, JobState  # noqa: TC001
from rave_cli.pool.jobs.store import Piece
from rave_cli.pool.jobs.work import MEMORIES, PROCESSORS, JobInput, Work

# Of what is asked and answered; what is only added changes nothing.
PREFIX = "/v1"

MEDIA_TYPE = "application/json"
PROBLEM = "application/problem+json"
# Of a signed statement: DSSE's own, https://github.com/secure-systems-lab/dsse/blob/master/envelope.md
ENVELOPE = "application/vnd.dsse.envelope.v1+json"

# draft-ietf-httpapi-idempotency-key-header: a string of Structured Fields.
IDEMPOTENCY_KEY = "Idempotency-Key"

# Bytes of what is asked, jobs in one submission, and jobs of a list.
MOST_BODY = 1 << 20
MOST_TOGETHER = 100
MOST_LISTED = 1000

# What SQLite has for a number.
MOST_NUMBER = (1 << 63) - 1

JobName = Annotated[str, Field(max_length=64)]
JobNames = Annotated[list[JobName], Field(min_length=1, max_length=MOST_LISTED)]
Seconds = Annotated[float, Field(gt=0, le=7 * 86400, allow_inf_nan=False)]


class PoolQuestion(BaseModel):
    """What is asked: nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class GivenAsked(PoolQuestion):
    """What a job is given: an archive that was sent before."""

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=0, le=MOST_NUMBER)
    origin: str = Field(max_length=1024)


class WorkAsked(PoolQuestion):
    """A job that is asked for; bounds and defaults are those of `rave pool submit`."""

    command: tuple[str, ...] = ()
    script: str = ""
    environment: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    given: GivenAsked | None = None
    artifacts: tuple[str, ...] = ()
    timeout: Seconds = 600.0
    retries: int = Field(default=0, ge=0, le=100)
    expires: float | None = Field(default=None, ge=0, allow_inf_nan=False)
    most_output: int = Field(default=1 << 20, ge=1 << 10, le=16384 << 10)
    most_artifacts: int = Field(default=64 << 20, ge=1 << 20, le=65536 << 20)
    most_disk: int = Field(default=8 << 30, ge=1 << 20, le=1 << 40)
    memory_mib: int | None = Field(default=None, json_schema_extra={"enum": [None, *MEMORIES]})
    cpus: int | None = Field(default=None, json_schema_extra={"enum": [None, *PROCESSORS]})
    cache: str = Field(default="", max_length=128)
    keeps_cache: bool = True
    allow: tuple[str, ...] = ()
    traceparent: str = Field(default="", max_length=512)

    def work(self) -> Work:
        """Return what is asked for.

        Raises:
            RaveError: USAGE if it cannot be a job.
        """
        given = None if self.given is None else JobInput(**self.given.model_dump())
        return Work(**self.model_dump() | {"given": given})


class SubmitAsked(PoolQuestion):
    """Jobs that are taken in all together or not at all."""

    jobs: Annotated[list[WorkAsked], Field(min_length=1, max_length=MOST_TOGETHER)]


class JobAsked(PoolQuestion):
    """A job; the beginning of its name will do."""

    job: JobName


class OutputAsked(JobAsked):
    """What an attempt at a job has printed after a piece."""

    attempt: int = Field(ge=0, le=MOST_NUMBER)
    after: int = Field(default=0, ge=0, le=MOST_NUMBER)


class ListAsked(PoolQuestion):
    """Jobs, the newest first: those in one of these states, if any are named, and only what was
    submitted before a job, if one is.
    """

    state: list[JobState] = []
    most: int = Field(default=50, ge=1, le=MOST_LISTED)
    before: JobName = ""


class NamesAsked(PoolQuestion):
    """Several jobs."""

    jobs: JobNames


class RetryAsked(PoolQuestion):
    """Jobs that are over, or, without any, those that were given up."""

    jobs: JobNames | None = None


class ScaleAsked(PoolQuestion):
    """How many jobs may run at a time; none is as many as whoever serves was told."""

    agents: int | None = Field(default=None, ge=0, le=64)


class StandbyAsked(PoolQuestion):
    """How many machines are to wait for jobs to come."""

    machines: int = Field(ge=0, le=64)


class DrainAsked(PoolQuestion):
    """Whether jobs may begin."""

    draining: bool


class NothingAsked(PoolQuestion):
    """Nothing but the question."""


class RetriedJob(BaseModel):
    """A job that is tried again, and the new one."""

    job: Job
    again: Job


class PieceTold(BaseModel):
    """A piece of output; later ones have higher numbers."""

    number: int
    stream: Literal[1, 2]
    data: str = Field(description="base64")

    @classmethod
    def of(cls, piece: Piece) -> dict[str, Any]:
        """Return a piece as it goes over."""
        data = base64.b64encode(piece.data).decode()
        return {"number": piece.number, "stream": piece.stream, "data": data}

    def piece(self) -> Piece:
        """Return the piece.

        Raises:
            ValueError: if it is none.
        """
        return Piece(self.number, self.stream, base64.b64decode(self.data, validate=True))


class Explained(BaseModel):
    """A job, and why it waits: what must be dealt with first before the rest."""

    job: Job
    reasons: tuple[JobReason, ...]


class Told(BaseModel):
    """A message of a stream of events: a job that is another than before, or a piece of output."""

    job: Job | None = None
    piece: PieceTold | None = None


class Problem(BaseModel):
    """What went wrong (RFC 9457): the exit code that `rave` ends with, what helps, and, if it is
    worth asking again, after how many seconds.
    """

    title: str
    status: int
    exit_code: int
    hint: str | None = None
    retry_after: int | None = None


@cache
def adapter(kind: Any) -> TypeAdapter[Any]:  # noqa: ANN401 - types as values
    """Return what reads values of a type out of JSON."""
    return TypeAdapter(kind)


def asked_of(work: Work) -> dict[str, Any]:
    """Return how a job is asked for."""
    document: dict[str, Any] = shapes.plain(work)
    return document
