"""Who has which job now: a stream of Redis, and nothing in it that could not be made anew.

The rules and the reason of each: docs/explanation/the-pool.md.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

import redis

from rave_cli import shapes
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool import scripts
from rave_cli.pool.jobs import (
    NO_FACTS,
    AttemptFacts,
    Began,
    Ended,
    Postponed,
    Printed,
    Work,
    is_ending,
    work_document,
    work_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rave_cli.pool.jobs import Ending, Happening, Job

JOBS, GROUP, DELAYED, EPOCH = "rave:jobs", "agents", "rave:delayed", "rave:epoch"

# Seconds after which an agent that has said nothing is given up, and in which it says something.
LEASE = 30.0
BEAT = LEASE / 3

# How many agents may be lost with a job before it is taken for what loses them.
MOST_LOST = 3

# XAUTOCLAIM is of 6.2; that a script may write after it has asked for the time, and commands are
# replicated by their effects alone, is of 7.0.
OLDEST = (7, 0)

# Seconds for the server to answer.
ANSWERS = 5.0

# What came of an attempt: an ending, or that its agent gave it up for no fault of the job.
Outcome = Literal["success", "failure", "error", "timeout", "cancelled", "released"]

# What the server does not do now it may do later: it is gone, starting, full or has lost all.
Fault = redis.RedisError


@dataclass(frozen=True)
class Task:
    """An attempt at a job that is an agent's, as long as it holds `entry`."""

    name: str
    entry: str
    attempt: int
    failed: int
    lost: int
    work: Work


class Queue:
    """The queue as one process uses it. Every call may raise `Fault`. Threads may share it."""

    def __init__(self, client: redis.Redis, *, lease: float = LEASE) -> None:
        self._client = client
        self.lease = lease
        # Milliseconds after which an entry of which nobody has spoken is anybody's.
        self.idle = int(lease * 1000)
        self._cursor = "0-0"
        self._scripts = {
            name: client.register_script(scripts.whole(getattr(scripts, name)))
            for name in (
                "ENQUEUE", "BEGIN", "RENEW", "SAY", "SETTLE", "PROMOTE", "WITHDRAW", "LEAVE",
                "ABANDON",
            )
        }  # fmt: skip

    def _run(self, script: str, name: str, *words: str | bytes | float) -> Any:  # noqa: ANN401 - whatever the script returns
        return self._scripts[script]([JOBS, _hash(name), DELAYED], list(words))

    def _call(self, *words: str | int) -> Any:  # noqa: ANN401 - whatever Redis answers
        return self._client.execute_command(*words)  # type: ignore[no-untyped-call]

    # --- what the dispatcher does

    def prepare(self) -> str:
        """Make sure that there is a queue; return its epoch, which is another if it was lost.

        Raises:
            RaveError: HOST if the server is too old.
        """
        self._prepare_group()
        self._call("SET", EPOCH, secrets.token_hex(6), "NX")
        return str(self.epoch())

    def _prepare_group(self) -> None:
        # At 0: with $ whatever was added before is never read.
        try:
            self._call("XGROUP", "CREATE", JOBS, GROUP, "0", "MKSTREAM")
        except redis.ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise

    def abandon(self) -> None:
        """Give up every agent that there was: for a server that nobody else uses."""
        self._prepare_group()
        self._run("ABANDON", "", self.idle)

    def epoch(self) -> str | None:
        """Return what tells this queue from one that was lost; None if it is lost."""
        found = self._call("GET", EPOCH)
        return found.decode() if found is not None else None

    def enqueue(self, origin: str, jobs: Sequence[Job]) -> None:
        """Let agents take jobs; what the queue has already stays as it is."""
        pipeline = self._client.pipeline(transaction=False)
        for job in jobs:
            work = job.work
            words = (
                job.name, origin, json.dumps(work_document(work)), job.attempt, job.failed,
                job.lost, work.retries, "" if work.expires is None else work.expires,
            )  # fmt: skip
            self._scripts["ENQUEUE"]([JOBS, _hash(job.name), DELAYED], list(words), client=pipeline)
        pipeline.execute()

    def happenings(
        self, origin: str, after: str, *, wait: float
    ) -> tuple[list[tuple[str, Happening]], str]:
        """Return what happened to an origin's jobs since `after`, with the last one's place.

        `wait` is how many seconds to wait for the first.
        """
        read = ("XREAD", "COUNT", 500, "BLOCK", max(1, int(wait * 1000)), "STREAMS")
        found = self._call(*read, _told(origin), after)
        entries = found[0][1] if found else []
        last = entries[-1][0].decode() if entries else after
        return [_happening(fields) for _, fields in entries], last

    def forget(self, origin: str, upto: str, over: Iterable[str]) -> None:
        """Drop what was recorded: what happened so far, and jobs that are over."""
        milliseconds, number = upto.split("-")
        after = f"{milliseconds}-{int(number) + 1}"
        self._call("XTRIM", _told(origin), "MINID", after)
        hashes = [_hash(name) for name in over]
        if hashes:
            self._call("DEL", *hashes)

    def withdraw(self, name: str, ending: str, why: str) -> str:
        """End a job that nobody has; returns what becomes of it (scripts.WITHDRAW)."""
        return str(self._run("WITHDRAW", name, ending, why).decode())

    def promote(self, most: int = 100) -> int:
        """Let jobs wait again whose time has come; return how many."""
        return int(self._run("PROMOTE", "", most))

    def length(self) -> int:
        """Return how many jobs wait for an agent or have one."""
        return int(self._call("XLEN", JOBS))

    # --- what an agent does

    def take(self, agent: str, *, wait: float) -> Task | None:
        """Return a job for an agent: one whose agent was lost, else one that waits, for which
        `wait` seconds are given.
        """
        try:
            for entry, name in self._abandoned(agent) or self._waiting(agent, wait):
                return self._begun(agent, entry, name)
        except redis.ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._prepare_group()
        return None

    def _abandoned(self, agent: str) -> list[tuple[str, str]]:
        """Take over the entry of an agent that is gone; one at a time, for each is a job.

        A call looks at ten entries at most, and the next one goes on from there.
        """
        words = ("XAUTOCLAIM", JOBS, GROUP, agent, self.idle, self._cursor, "COUNT", 1)
        found = self._call(*words)
        self._cursor = found[0].decode()
        return _entries(found[1])

    def _waiting(self, agent: str, wait: float) -> list[tuple[str, str]]:
        # One: a second would be hidden from the others while this agent is busy.
        words = ("XREADGROUP", "GROUP", GROUP, agent, "COUNT", 1, "BLOCK", max(1, int(wait * 1000)))
        found = self._call(*words, "STREAMS", JOBS, ">")
        return _entries(found[0][1]) if found else []

    def _begun(self, agent: str, entry: str, name: str) -> Task | None:
        found = self._run("BEGIN", name, agent, entry, MOST_LOST)
        if not found:
            return None
        work = work_of(json.loads(found[0]))
        attempt, failed, lost = (int(word) for word in found[1:])
        return Task(name, entry, attempt, failed, lost, work)

    def renew(self, agent: str, task: Task) -> Literal["mine", "lost", "cancelling"]:
        """Say that an agent still works on its job."""
        found = self._run("RENEW", task.name, agent, task.entry)
        return "lost" if found == 0 else "cancelling" if found == 2 else "mine"

    def say(self, agent: str, task: Task, stream: int, data: bytes) -> bool:
        """Pass on output of a job; returns whether it is the agent's still."""
        words = (agent, task.entry, task.attempt, stream, data)
        return bool(self._run("SAY", task.name, *words))

    def settle(
        self,
        agent: str,
        task: Task,
        outcome: Outcome,
        *,
        exit_status: int | None = None,
        why: str = "",
        delay: float = 0.0,
        facts: AttemptFacts = NO_FACTS,
    ) -> bool:
        """Say what came of an attempt; the job ends, or is tried again `delay` seconds later.

        Returns whether it was the agent's still; if not, nothing happens.
        """
        status = "" if exit_status is None else exit_status
        seen = json.dumps(asdict(facts))
        words = (agent, task.entry, task.attempt, outcome, status, why, delay, MOST_LOST, seen)
        return bool(self._run("SETTLE", task.name, *words))

    def leave(self, agent: str) -> None:
        """Give up an agent's name."""
        self._run("LEAVE", "", agent)


def check_version(client: redis.Redis) -> None:
    """Refuse a server that is too old.

    Raises:
        RaveError: HOST.
    """
    found = str(client.info("server")["redis_version"])
    if tuple(int(part) for part in found.split(".")[:2]) < OLDEST:
        raise RaveError(
            f"the Redis server is of version {found}; the pool needs {'.'.join(map(str, OLDEST))}",
            hint="redis-server --version; Debian 12 has a newer one",
            exit_code=ExitCode.HOST,
        )


def _hash(name: str) -> str:
    return f"rave:job:{name}"


def _told(origin: str) -> str:
    return f"rave:happenings:{origin}"


def _entries(found: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - whatever Redis answers
    return [(entry.decode(), _table(fields).get(b"job", b"").decode()) for entry, fields in found]


def _table(fields: Any) -> dict[bytes, bytes]:  # noqa: ANN401 - whatever Redis answers
    """Return the fields of an entry, which the client's parser has made a table, or has not."""
    if isinstance(fields, dict):
        return fields
    return dict(zip(fields[::2], fields[1::2], strict=True))


def _happening(fields: Any) -> tuple[str, Happening]:  # noqa: ANN401 - whatever Redis answers
    raw = _table(fields)
    data = raw.pop(b"data", b"")
    said = {name.decode(): value.decode(errors="replace") for name, value in raw.items()}
    at, attempt = float(said["at"]), int(said["attempt"])
    what: Happening
    if said["what"] == "printed":
        what = Printed(attempt, int(said["stream"]), data)
    elif said["what"] == "began":
        what = Began(at, attempt, said["agent"])
    else:
        failed, lost, why = int(said["failed"]), int(said["lost"]), said["why"]
        if said["what"] == "postponed":
            what = Postponed(at, attempt, float(said["until"]), why, failed, lost)
        else:
            said_to_be = said["ending"]
            ending: Ending = said_to_be if is_ending(said_to_be) else "error"
            exit_status = int(said["exit"]) if said["exit"] else None
            facts = _facts(said.get("facts", ""))
            what = Ended(at, attempt, ending, exit_status, why, failed, lost, facts)
    return said["job"], what


def _facts(text: str) -> AttemptFacts:
    """Return what an agent saw; one of another version may have seen other things."""
    try:
        found: AttemptFacts = shapes.read(AttemptFacts, json.loads(text))
    except (ValueError, shapes.MisfitError):
        return NO_FACTS
    return found
