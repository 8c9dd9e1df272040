"""What a machine asks, read strictly: lines of JSON, each with an id that its answer carries, too.

    {"v": 1, "id": "…", "ask": "terms"}                         what it may ask for
    {"v": 1, "id": "…", "ask": "give", "at": 0, "data": "…"}    a piece of an archive, in base64
    {"v": 1, "id": "…", "ask": "submit", "key": "…", "work": {…}, "given": {…} or null}
    {"v": 1, "id": "…", "ask": "show" or "cancel", "job": "…"}  one of its own, by its whole name
    {"v": 1, "id": "…", "ask": "output", "job": "…", "attempt": 1, "after": 0}

What is no such line gets no answer: nobody could tell whose it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.guests.terms import MOST_DISK, MOST_GIVEN, MOST_OUTPUT
from rave_cli.pool.jobs.work import MEMORIES, PROCESSORS, Work
from rave_cli.records import faults

if TYPE_CHECKING:
    from rave_cli.pool.guests.terms import GuestTerms
    from rave_cli.pool.jobs.work import JobInput

VERSION = 1

# Bytes of a piece, in base64, and what SQLite has for a number.
LONGEST_PIECE = 96 << 10
MOST_NUMBER = (1 << 63) - 1

JobName = Annotated[str, Field(pattern=r"^[0-9a-f]{12}$")]


class GuestAsked(BaseModel):
    """What is asked: nothing else."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    v: Literal[1]
    id: str = Field(pattern=r"^[0-9a-f]{16,64}$")


class TermsAsked(GuestAsked):
    """What a machine may ask for."""

    ask: Literal["terms"]


class PieceGiven(GuestAsked):
    """A piece of an archive; one at 0 begins it anew."""

    ask: Literal["give"]
    at: int = Field(ge=0, le=MOST_GIVEN)
    data: str = Field(max_length=LONGEST_PIECE)


class ArchiveNamed(BaseModel):
    """The archive that was given."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    sha256: str = Field(pattern="^[0-9a-f]{64}$")
    size: int = Field(ge=1, le=MOST_GIVEN)


class GuestWork(BaseModel):
    """A job that a machine asks for. What is not here it cannot ask for: secrets, places to reach,
    caches, artifacts.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    command: list[str] = []
    script: str = ""
    environment: list[Annotated[list[str], Field(min_length=2, max_length=2)]] = []
    timeout: float | None = Field(default=None, gt=0, allow_inf_nan=False)
    retries: int = Field(default=0, ge=0, le=3)
    most_output: int = Field(default=MOST_OUTPUT, ge=1 << 10, le=MOST_OUTPUT)
    most_disk: int = Field(default=MOST_DISK, ge=1 << 20, le=MOST_DISK)
    memory_mib: int | None = Field(default=None, json_schema_extra={"enum": [None, *MEMORIES]})
    cpus: int | None = Field(default=None, json_schema_extra={"enum": [None, *PROCESSORS]})
    traceparent: str = Field(default="", max_length=512)

    def within(self, terms: GuestTerms, given: JobInput | None) -> Work:
        """Return what is asked for.

        Raises:
            RaveError: USAGE if it is more than the terms have, or cannot be a job.
        """
        timeout = terms.timeout if self.timeout is None else self.timeout
        for what, asked, most in (
            ("seconds", timeout, terms.timeout),
            ("MiB of memory", self.memory_mib, terms.memory_mib),
            ("processors", self.cpus, terms.cpus),
        ):
            if asked is not None and (most is None or asked > most):
                allowed = "as the pool gives them" if most is None else f"{most:g} at most"
                raise RaveError(
                    f"a job of this machine may not have {asked:g} {what}: {allowed}",
                    hint="on the pool's host: rave pool guest add",
                    exit_code=ExitCode.USAGE,
                )
        return Work(
            command=tuple(self.command),
            script=self.script,
            environment=tuple((name, value) for name, value in self.environment),
            timeout=timeout,
            retries=self.retries,
            most_output=self.most_output,
            most_disk=self.most_disk,
            memory_mib=self.memory_mib,
            cpus=self.cpus,
            traceparent=self.traceparent,
            given=given,
        )


class SandboxAsked(GuestAsked):
    """A job; with a key that was used for the same before, that job."""

    ask: Literal["submit"]
    key: str = Field(pattern=r"^[\x21-\x7e]{1,128}$")
    work: GuestWork
    given: ArchiveNamed | None = None


class OwnJobAsked(GuestAsked):
    """A job of the machine's own."""

    ask: Literal["show", "cancel"]
    job: JobName


class PrintedAsked(GuestAsked):
    """What an attempt at one has printed after a piece."""

    ask: Literal["output"]
    job: JobName
    attempt: int = Field(ge=0, le=MOST_NUMBER)
    after: int = Field(default=0, ge=0, le=MOST_NUMBER)


Asked = TermsAsked | PieceGiven | SandboxAsked | OwnJobAsked | PrintedAsked

_READS: TypeAdapter[Asked] = TypeAdapter(Annotated[Asked, Field(discriminator="ask")])


class UnreadableError(Exception):
    """A line is no question; nobody can be told."""


class UnfitError(RaveError):
    """A line is a question, `id`, of which something is wrong."""

    def __init__(self, asker: str, message: str) -> None:
        super().__init__(message, exit_code=ExitCode.USAGE)
        self.id = asker


def read(line: bytes) -> Asked:
    """Return what a line asks.

    Raises:
        UnreadableError: it is no question.
        UnfitError: it is one that cannot be answered.
    """
    try:
        return _READS.validate_json(line)
    except (ValidationError, RecursionError, ValueError) as error:
        raise _unfit(line, error) from None


class _Named(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True, strict=True)

    v: int
    id: str = Field(pattern=r"^[0-9a-f]{16,64}$")


def _unfit(line: bytes, error: Exception) -> Exception:
    """Return what is to be raised for a line that is no good question."""
    try:
        named = _Named.model_validate_json(line)
    except (ValidationError, RecursionError, ValueError):
        return UnreadableError()
    if named.v != VERSION:
        return UnfitError(named.id, f"this pool speaks version {VERSION}")
    # Places and kinds of faults, in our own words: nothing of what was sent.
    said = faults(error)[:3] if isinstance(error, ValidationError) else ("it is no JSON",)
    return UnfitError(named.id, "; ".join(said)[:400])
