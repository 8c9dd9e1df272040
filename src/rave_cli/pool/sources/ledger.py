"""The ledger of the sources: which revisions are known, what became of each, and who was told.

It lies in the file of the jobs, so that a revision and its job are one transaction: whatever is
killed, whenever, a revision has one job in the end. What a forge is still to be told is not kept
but seen: a job that is another than what was reported.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rave_cli.pool.jobs.bell import ring
from rave_cli.pool.jobs.database import jobs_file
from rave_cli.pool.jobs.job import Job, is_ending
from rave_cli.pool.jobs.store import MOST_OPEN, JobStore
from rave_cli.pool.jobs.submission import Submission
from rave_cli.pool.sources.revision import Revision

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rave_cli.pool.jobs.work import Work

# How a revision was heard of.
TellerKind = Literal["hook", "poll", "dispatcher"]

# waiting: to become a job; made: it has one; seen: it was there before the source was; failed: it
# cannot be fetched.
RevisionState = Literal["waiting", "made", "seen", "failed"]

# Whether a delivery told something new.
Taken = Literal["new", "known", "duplicate"]

# What a forge is told of a commit.
CommitState = Literal["pending", "success", "failure", "error"]

# Days that a delivery is known again: a recorded one must not count again while its secret is in
# use, and secrets are rotated each year.
KNOWN_DAYS = 400

_COLUMNS = (
    "number, source, kind, name, commit_id, target, fork, told_by, seen, state, tries, why, job"
)


@dataclass(frozen=True)
class KnownRevision:
    """A revision of a source, and what became of it.

    Attributes:
        number: its place among all.
        source: name of the source.
        revision: what was heard of.
        told_by: how.
        seen: when, in seconds since the epoch.
        state: what became of it.
        tries: how often it could not be made a job.
        why: what there is to say of that.
        job: the name of its job; empty for none.
    """

    number: int
    source: str
    revision: Revision
    told_by: TellerKind
    seen: float
    state: RevisionState
    tries: int
    why: str
    job: str


@dataclass(frozen=True)
class DueReport:
    """What a forge is to be told of a commit: the state of its job, which may be none."""

    number: int
    commit: str
    state: CommitState
    job: str
    why: str
    tries: int


@dataclass(frozen=True)
class PollState:
    """When a source is polled next, how often that failed since it went well last, and why."""

    due: float = 0.0
    tries: int = 0
    done: float | None = None
    why: str = ""


@dataclass(frozen=True)
class KnownPage:
    """A page of a forge's answer as it was last: its tag, and the page after it."""

    address: str
    etag: str
    following: str


class RevisionLedger(JobStore):
    """The open ledger; a context that closes it. For one thread."""

    def take(
        self, source: str, identity: str, found: Revision, told_by: TellerKind, now: float
    ) -> Taken:
        """Take in a delivery, durably; once, however often it comes."""
        with self._writing():
            new = self._db.execute(
                "INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?)", (source, identity, now)
            ).rowcount
            if not new:
                return "duplicate"
            return "new" if self._insert(source, found, told_by, "waiting", now) else "known"

    def polled(
        self,
        source: str,
        found: Iterable[Revision],
        pages: Iterable[KnownPage],
        now: float,
        due: float,
    ) -> int:
        """Take in what a forge has; return how many revisions nobody had told of.

        What is there at the first poll was there before the source was, and is not built.
        """
        with self._writing():
            state: RevisionState = "waiting" if self.poll(source).done is not None else "seen"
            new = sum(self._insert(source, one, "poll", state, now) for one in found)
            self._db.executemany(
                "INSERT OR REPLACE INTO pages VALUES (?, ?, ?, ?)",
                [(source, one.address, one.etag, one.following) for one in pages],
            )
            self._set_poll(source, PollState(due, 0, now))
        return new if state == "waiting" else 0

    def poll(self, source: str) -> PollState:
        """Return when a source is polled next."""
        rows = self._rows("SELECT due, tries, done, why FROM polls WHERE source = ?", (source,))
        return PollState(*rows[0]) if rows else PollState()

    def poll_later(self, source: str, due: float, why: str, *, failed: bool) -> None:
        """Note that a poll came to nothing, and when the next one is."""
        with self._writing():
            before = self.poll(source)
            after = PollState(due, before.tries + failed, before.done, why)
            self._set_poll(source, after)

    def pages(self, source: str) -> dict[str, KnownPage]:
        """Return the pages that are known, by their addresses."""
        rows = self._rows("SELECT address, etag, following FROM pages WHERE source = ?", (source,))
        return {str(row[0]): KnownPage(*row) for row in rows}

    def waiting(self, source: str, now: float) -> list[KnownRevision]:
        """Return revisions that are to become jobs now, the oldest first."""
        return self._known(
            "WHERE source = ? AND state = 'waiting' AND due <= ? ORDER BY number LIMIT 20",
            (source, now),
        )

    def make(self, number: int, work: Work, owner: str) -> Job | None:
        """Make a revision a job of somebody, in one transaction; None if it has become one
        meanwhile.

        Raises:
            RaveError: NOT_READY if the pool is full.
        """
        with self._writing():
            if self._state(number) != "waiting":
                return None
            (job,) = self._accept(Submission((work,), owner), MOST_OPEN)
            self._db.execute(
                "UPDATE revisions SET state = 'made', job = ?, why = '' WHERE number = ?",
                (job.name, number),
            )
        ring()
        return job

    def make_later(self, number: int, due: float, why: str, *, failed: bool) -> None:
        """Note that a revision could not become a job, and when that is tried again."""
        with self._writing():
            self._db.execute(
                "UPDATE revisions SET due = ?, why = ?, tries = tries + ? WHERE number = ?"
                " AND state = 'waiting'",
                (due, why, int(failed), number),
            )

    def give_up(self, number: int, why: str) -> None:
        """Note that a revision becomes no job."""
        with self._writing():
            self._db.execute(
                "UPDATE revisions SET state = 'failed', why = ? WHERE number = ?"
                " AND state = 'waiting'",
                (why, number),
            )

    def reports(self, source: str, now: float) -> list[DueReport]:
        """Return what a forge is still to be told, the oldest first."""
        rows = self._rows(
            "SELECT r.number, r.commit_id, r.state, r.job, coalesce(j.state, ''),"
            " coalesce(j.why, r.why), r.report_tries FROM revisions r"
            " LEFT JOIN jobs j ON j.name = r.job"
            " WHERE r.source = ? AND r.report_due <= ? AND r.reported <> CASE"
            "  WHEN r.state = 'failed' THEN 'error'"
            "  WHEN r.state <> 'made' OR j.name IS NULL THEN r.reported"
            "  WHEN j.ended IS NULL THEN 'pending'"
            "  WHEN j.state IN ('success', 'failure') THEN j.state"
            "  WHEN j.state = 'timeout' THEN 'failure' ELSE 'error' END"
            " ORDER BY r.number LIMIT 20",
            (source, now),
        )
        return [
            DueReport(number, commit, commit_state(state, job_state), job or "", why, tries)
            for number, commit, state, job, job_state, why, tries in rows
        ]

    def reported(self, number: int, state: CommitState) -> None:
        """Note that a forge was told."""
        with self._writing():
            self._db.execute(
                "UPDATE revisions SET reported = ?, report_tries = 0, report_due = 0"
                " WHERE number = ?",
                (state, number),
            )

    def report_later(self, number: int, due: float) -> None:
        """Note that a forge could not be told, and when that is tried again."""
        with self._writing():
            self._db.execute(
                "UPDATE revisions SET report_due = ?, report_tries = report_tries + 1"
                " WHERE number = ?",
                (due, number),
            )

    def revisions(self, source: str, most: int) -> list[KnownRevision]:
        """Return revisions of a source, the newest first."""
        return self._known("WHERE source = ? ORDER BY number DESC LIMIT ?", (source, most))

    def unknown(self, source: str, identities: Sequence[str]) -> list[str]:
        """Return those of some deliveries that were not taken in."""
        known = {
            str(row[0])
            for one in identities
            for row in self._rows(
                "SELECT identity FROM deliveries WHERE source = ? AND identity = ?", (source, one)
            )
        }
        return [one for one in identities if one not in known]

    def ignore(self, source: str, identity: str, now: float) -> None:
        """Note that a delivery tells of nothing that is built."""
        with self._writing():
            self._db.execute(
                "INSERT OR IGNORE INTO deliveries VALUES (?, ?, ?)", (source, identity, now)
            )

    def poll_at_once(self, source: str) -> None:
        """Let a source be polled now, whatever its interval."""
        with self._writing():
            self._db.execute("UPDATE polls SET due = 0 WHERE source = ?", (source,))

    def forget(self, source: str) -> None:
        """Forget a source, but for its deliveries: what was recorded must not count again."""
        with self._writing():
            for words in (
                "DELETE FROM revisions WHERE source = ?",
                "DELETE FROM polls WHERE source = ?",
                "DELETE FROM pages WHERE source = ?",
            ):
                self._db.execute(words, (source,))

    def prune_deliveries(self, now: float) -> None:
        """Remove deliveries that came KNOWN_DAYS ago."""
        with self._writing():
            self._db.execute("DELETE FROM deliveries WHERE came < ?", (now - KNOWN_DAYS * 86400,))

    # --- rows

    def _insert(
        self, source: str, found: Revision, told_by: TellerKind, state: RevisionState, now: float
    ) -> int:
        return self._db.execute(
            "INSERT OR IGNORE INTO revisions (source, kind, name, commit_id, target, fork, told_by,"
            " seen, state, tries, due, why, reported, report_tries, report_due)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, 0, 0, '', '', 0, 0)",
            (
                source, found.kind, found.name, found.commit, found.target, int(found.fork),
                told_by, now, state,
            ),
        ).rowcount  # fmt: skip

    def _set_poll(self, source: str, state: PollState) -> None:
        self._db.execute(
            "INSERT OR REPLACE INTO polls VALUES (?, ?, ?, ?, ?)",
            (source, state.due, state.tries, state.done, state.why),
        )

    def _state(self, number: int) -> str:
        rows = self._rows("SELECT state FROM revisions WHERE number = ?", (number,))
        return str(rows[0][0]) if rows else ""

    def _known(self, where: str, values: Sequence[object]) -> list[KnownRevision]:
        rows = self._rows(f"SELECT {_COLUMNS} FROM revisions {where}", values)  # noqa: S608 - our own words
        return [
            KnownRevision(
                number, source, Revision(kind, name, commit, target, bool(fork)),
                told_by, seen, state, tries, why, job or "",
            )
            for number, source, kind, name, commit, target, fork, told_by, seen, state, tries, why,
            job in rows
        ]  # fmt: skip


def commit_state(state: str, job: str) -> CommitState:
    """Return what a forge is told of a revision: by its state and its job's."""
    if state != "failed" and not is_ending(job):
        return "pending"
    if job == "timeout":
        return "failure"
    return job if job in ("success", "failure") else "error"  # type: ignore[return-value]


def open_ledger() -> RevisionLedger:
    """Open the ledger of whoever calls.

    Raises:
        RaveError: as opening the store.
    """
    return RevisionLedger(jobs_file())
