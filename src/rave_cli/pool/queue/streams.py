"""Who has which job now: a stream of Redis, and nothing in it that could not be made anew.

The rules and the reason of each: docs/explanation/the-pool.md.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import redis

from rave_cli import shapes
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.job import (
    NO_FACTS,
    AttemptFacts,
    Began,
    Ended,
    Postponed,
    Printed,
    is_ending,
)
from rave_cli.pool.jobs.work import Work, work_document, work_of
from rave_cli.pool.queue import scripts

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rave_cli.pool.jobs.job import Ending, Happening, Job

JOBS, GROUP, DELAYED, EPOCH = "rave:jobs", "agents", "rave:delayed", "rave:epoch"

# Seconds after which an agent that has said nothing is given up, and in which it says something.
LEASE = 30.0
BEAT = LEASE / 3

# How many agents may be lost with a job before it is taken for what loses them.
MOST_LOST = 3

# Seconds for which the owner of a store counts as there, and for which a job rests that needs it.
PRESENT = 20
RESTS = 5.0

# Seconds for which a job rests at most that no host which took it lends a secret that it reads.
LEFT = 30.0

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
    """An attempt at a job that is an agent's, as long as it holds `entry`; `origin` is the store
    that it comes from.
    """

    name: str
    entry: str
    attempt: int
    failed: int
    lost: int
    work: Work
    origin: str = ""
    owner: str = ""


class Queue:
    """The queue as one process uses it. Every call may raise `Fault`. Threads may share it.

    Its agents take jobs of the store `origin` whatever secrets those read, and of others if they
    read none but those that it `lends`; None is any.
    """

    def __init__(
        self,
        client: redis.Redis,
        *,
        lease: float = LEASE,
        lends: frozenset[str] | None = None,
        origin: str = "",
    ) -> None:
        self._client = client
        self._lends = "*" if lends is None else json.dumps(sorted(lends))
        self._own = origin
        self.lease = lease
        # Milliseconds after which an entry of which nobody has spoken is anybody's.
        self.idle = int(lease * 1000)
        self._cursor = "0-0"
        self._rung = "0-0"
        self._scripts = {
            name: client.register_script(scripts.whole(getattr(scripts, name)))
            for name in (
                "ENQUEUE", "BEGIN", "RENEW", "SAY", "SETTLE", "PROMOTE", "WITHDRAW", "LEAVE",
                "ABANDON", "HAND_OVER", "PRESENT", "OFFER",
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

    def abandon(self, origin: str = "") -> None:
        """Give up every agent that there was, and whoever served a store: for a server that nobody
        else uses.
        """
        self._prepare_group()
        self._call("DEL", f"rave:owner:{origin}")
        self._run("ABANDON", "", self.idle)

    def epoch(self) -> str | None:
        """Return what tells this queue from one that was lost; None if it is lost."""
        found = self._call("GET", EPOCH)
        return found.decode() if found is not None else None

    def enqueue(self, origin: str, jobs: Sequence[Job]) -> None:
        """Let agents take jobs; what the queue has already stays as it is."""
        # In one call: what is written down is synced once, and a word for each job is soon packed.
        if jobs:
            self._run("ENQUEUE", "", *(_waiting_job(origin, job) for job in jobs))

    def present(self, origin: str, who: str) -> bool:
        """Say that the owner of a store is there; return whether no other says so, too."""
        return bool(self._run("PRESENT", "", origin, who, PRESENT))

    def happenings(
        self, origin: str, after: str, *, wait: float
    ) -> tuple[list[tuple[str, Happening]], str]:
        """Return what happened to an origin's jobs since `after`, with the last one's place.

        `wait` is how many seconds to wait for the first, unless somebody rouses who waits.
        """
        read = ("XREAD", "COUNT", 500, *_block(wait), "STREAMS")
        found = dict(self._call(*read, _told(origin), _bell(origin), after, self._rung) or ())
        if rung := found.get(_bell(origin).encode()):
            self._rung = rung[-1][0].decode()
        entries = found.get(_told(origin).encode(), [])
        last = entries[-1][0].decode() if entries else after
        return [_happening(fields) for _, fields in entries], last

    def rouse(self, origin: str) -> None:
        """Let whoever waits for what happens to an origin's jobs wait no longer."""
        self._call("XADD", _bell(origin), "MAXLEN", 1, "*", "rung", 1)

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
        words = ("XREADGROUP", "GROUP", GROUP, agent, "COUNT", 1, *_block(wait))
        found = self._call(*words, "STREAMS", JOBS, ">")
        return _entries(found[0][1]) if found else []

    def _begun(self, agent: str, entry: str, name: str) -> Task | None:
        words = (agent, entry, MOST_LOST, RESTS, self._lends, self._own, LEFT)
        found = self._run("BEGIN", name, *words)
        if not found:
            return None
        document = json.loads(found[0])
        # An older rave, which may have put it there, says of nobody whose it is.
        owner = str(document.pop("owner", ""))
        attempt, failed, lost = (int(word) for word in found[1:4])
        origin = found[4].decode()
        return Task(name, entry, attempt, failed, lost, work_of(document), origin, owner)

    def renew(self, agent: str, task: Task) -> Literal["mine", "lost", "cancelling"]:
        """Say that an agent still works on its job."""
        found = self._run("RENEW", task.name, agent, task.entry)
        return "lost" if found == 0 else "cancelling" if found == 2 else "mine"

    def say(self, agent: str, task: Task, stream: int, data: bytes, number: int) -> bool:
        """Pass on output of a job, the first piece of an attempt as number 1; returns whether the
        job is the agent's still.
        """
        words = (agent, task.entry, task.attempt, stream, data, number)
        return bool(self._run("SAY", task.name, *words))

    def hand_over(self, agent: str, task: Task, key: str, data: bytes, keep: int) -> bool:
        """Put a piece of a file under a key, for so many seconds; returns as `say`."""
        words = (agent, task.entry, task.attempt, key, data, keep)
        return bool(self._run("HAND_OVER", task.name, *words))

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
        seen = json.dumps(shapes.plain(facts))
        words = (agent, task.entry, task.attempt, outcome, status, why, delay, MOST_LOST, seen)
        return bool(self._run("SETTLE", task.name, *words))

    def offer(self, most: int = 10_000) -> int:
        """Let jobs be looked at anew that no host has lent a secret so far, where one begins to
        serve; return how many.
        """
        return int(self._run("OFFER", "", most))

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


def _waiting_job(origin: str, job: Job) -> str:
    """Return a job as ENQUEUE takes it."""
    work = job.work
    # Whoever takes it hangs what it does on the job's own span.
    document = work_document(work) | {"traceparent": job.context.header, "owner": job.owner}
    expires = "" if work.expires is None else repr(work.expires)
    needed = str(int(bool(work.given or work.artifacts)))
    counts = (str(number) for number in (job.attempt, job.failed, job.lost, work.retries))
    secrets_read = json.dumps(work.secrets) if work.secrets else ""
    return json.dumps(
        [job.name, origin, json.dumps(document), *counts, expires, needed, secrets_read]
    )


def _block(wait: float) -> tuple[str | int, ...]:
    """Return the words that let a server wait, which looks at its clock ten times a second."""
    return ("BLOCK", max(1, int(wait * 1000))) if wait > 0 else ()


def _hash(name: str) -> str:
    return f"rave:job:{name}"


def _told(origin: str) -> str:
    return f"rave:happenings:{origin}"


def _bell(origin: str) -> str:
    return f"rave:bell:{origin}"


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
        facts = _facts(said.get("facts", ""))
        if said["what"] == "postponed":
            lacking, due = said.get("lacking", ""), float(said["until"])
            what = Postponed(at, attempt, due, why, failed, lost, facts, lacking)
        else:
            said_to_be = said["ending"]
            ending: Ending = said_to_be if is_ending(said_to_be) else "error"
            exit_status = int(said["exit"]) if said["exit"] else None
            what = Ended(at, attempt, ending, exit_status, why, failed, lost, facts)
    return said["job"], what


_NONE = shapes.plain(NO_FACTS)


def _facts(text: str) -> AttemptFacts:
    """Return what an agent saw; an older one has seen less, a newer one perhaps other things."""
    try:
        found: AttemptFacts = shapes.read(AttemptFacts, _NONE | json.loads(text))
    except (ValueError, TypeError, shapes.MisfitError):
        return NO_FACTS
    return found
