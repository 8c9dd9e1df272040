"""How jobs lie in SQLite: the tables of each version, and a row as a job."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from rave_cli import shapes
from rave_cli.pool.jobs.job import NO_FACTS, AttemptFacts, Job
from rave_cli.pool.jobs.work import work_document, work_of

if TYPE_CHECKING:
    from rave_cli.pool.jobs.work import Work

VERSION = 8

SCHEMA = """
CREATE TABLE pool (origin TEXT NOT NULL, epoch TEXT NOT NULL, seen TEXT NOT NULL);
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT NOT NULL UNIQUE, work TEXT NOT NULL,
  submitted REAL NOT NULL, state TEXT NOT NULL, attempt INTEGER NOT NULL, failed INTEGER NOT NULL,
  lost INTEGER NOT NULL, agent TEXT NOT NULL, began REAL, until REAL, ended REAL,
  exit_status INTEGER, why TEXT NOT NULL, cancelling INTEGER NOT NULL,
  expires REAL, queued INTEGER NOT NULL
);
CREATE INDEX jobs_open ON jobs (number) WHERE ended IS NULL;
CREATE INDEX jobs_unqueued ON jobs (number) WHERE ended IS NULL AND queued = 0;
CREATE INDEX jobs_cancelling ON jobs (number) WHERE ended IS NULL AND cancelling = 1;
CREATE INDEX jobs_expiring ON jobs (expires) WHERE ended IS NULL AND expires IS NOT NULL;
CREATE INDEX jobs_ended ON jobs (ended) WHERE ended IS NOT NULL;
CREATE TABLE output (
  number INTEGER PRIMARY KEY, job TEXT NOT NULL REFERENCES jobs (name) ON DELETE CASCADE,
  attempt INTEGER NOT NULL, stream INTEGER NOT NULL, data BLOB NOT NULL
);
CREATE INDEX output_of ON output (job, attempt, number);
"""

# What makes the next version of each that was ever released.
UPGRADES = {
    1: """
ALTER TABLE jobs ADD COLUMN facts TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN dropped INTEGER NOT NULL DEFAULT 0;
ALTER TABLE pool ADD COLUMN agents INTEGER;
ALTER TABLE pool ADD COLUMN draining INTEGER NOT NULL DEFAULT 0;
CREATE INDEX jobs_dead ON jobs (number) WHERE state = 'error' AND dropped = 0;
CREATE TABLE proofs (
  job TEXT NOT NULL PRIMARY KEY REFERENCES jobs (name) ON DELETE CASCADE, envelope BLOB NOT NULL
);
""",
    2: """
ALTER TABLE pool ADD COLUMN standby INTEGER NOT NULL DEFAULT 0;
""",
    # How many there are of each: counting them takes as long as there are many.
    3: """
CREATE TABLE tally (what TEXT PRIMARY KEY, jobs INTEGER NOT NULL) WITHOUT ROWID;
INSERT INTO tally SELECT state, count(*) FROM jobs GROUP BY state;
INSERT INTO tally SELECT 'dead', count(*) FROM jobs WHERE state = 'error' AND dropped = 0;
CREATE TRIGGER jobs_added AFTER INSERT ON jobs BEGIN
  INSERT INTO tally VALUES (new.state, 1) ON CONFLICT (what) DO UPDATE SET jobs = jobs + 1;
  UPDATE tally SET jobs = jobs + 1
    WHERE what = 'dead' AND new.state = 'error' AND new.dropped = 0;
END;
CREATE TRIGGER jobs_moved AFTER UPDATE OF state, dropped ON jobs
  WHEN old.state <> new.state OR old.dropped <> new.dropped BEGIN
  UPDATE tally SET jobs = jobs - 1 WHERE what = old.state;
  INSERT INTO tally VALUES (new.state, 1) ON CONFLICT (what) DO UPDATE SET jobs = jobs + 1;
  UPDATE tally SET jobs = jobs + (new.state = 'error' AND new.dropped = 0)
    - (old.state = 'error' AND old.dropped = 0) WHERE what = 'dead';
END;
CREATE TRIGGER jobs_removed AFTER DELETE ON jobs BEGIN
  UPDATE tally SET jobs = jobs - 1
    WHERE what = old.state OR what = 'dead' AND old.state = 'error' AND old.dropped = 0;
END;
CREATE INDEX jobs_running ON jobs (number) WHERE state = 'running';
CREATE INDEX jobs_fresh ON jobs (number) WHERE state = 'waiting' AND until IS NULL;
CREATE INDEX jobs_again ON jobs (until) WHERE state = 'waiting' AND until IS NOT NULL;
""",
    4: """
ALTER TABLE jobs ADD COLUMN trace TEXT NOT NULL DEFAULT '';
ALTER TABLE jobs ADD COLUMN enqueued REAL;
ALTER TABLE jobs ADD COLUMN recorded REAL;
UPDATE jobs SET trace = lower(hex(randomblob(16)));
CREATE TABLE attempts (
  job TEXT NOT NULL REFERENCES jobs (name) ON DELETE CASCADE, attempt INTEGER NOT NULL,
  agent TEXT NOT NULL, began REAL NOT NULL, ended REAL, came TEXT NOT NULL DEFAULT '',
  phases TEXT NOT NULL DEFAULT '[]', PRIMARY KEY (job, attempt)
) WITHOUT ROWID;
CREATE TABLE due (
  number INTEGER PRIMARY KEY AUTOINCREMENT,
  job TEXT NOT NULL UNIQUE REFERENCES jobs (name) ON DELETE CASCADE
);
""",
    # What forges tell of (pool/sources/ledger.py).
    5: """
CREATE TABLE revisions (
  number INTEGER PRIMARY KEY AUTOINCREMENT, source TEXT NOT NULL, kind TEXT NOT NULL,
  name TEXT NOT NULL, commit_id TEXT NOT NULL, target TEXT NOT NULL, fork INTEGER NOT NULL,
  told_by TEXT NOT NULL, seen REAL NOT NULL, state TEXT NOT NULL, tries INTEGER NOT NULL,
  due REAL NOT NULL, why TEXT NOT NULL, job TEXT, reported TEXT NOT NULL,
  report_tries INTEGER NOT NULL, report_due REAL NOT NULL,
  UNIQUE (source, kind, name, commit_id)
);
CREATE INDEX revisions_waiting ON revisions (source, due) WHERE state = 'waiting';
CREATE INDEX revisions_job ON revisions (job) WHERE job IS NOT NULL;
CREATE TABLE deliveries (
  source TEXT NOT NULL, identity TEXT NOT NULL, came REAL NOT NULL, PRIMARY KEY (source, identity)
) WITHOUT ROWID;
CREATE TABLE polls (
  source TEXT PRIMARY KEY, due REAL NOT NULL, tries INTEGER NOT NULL, done REAL, why TEXT NOT NULL
) WITHOUT ROWID;
CREATE TABLE pages (
  source TEXT NOT NULL, address TEXT NOT NULL, etag TEXT NOT NULL, following TEXT NOT NULL,
  PRIMARY KEY (source, address)
) WITHOUT ROWID;
""",
    6: """
ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT '';
CREATE TABLE submissions (
  owner TEXT NOT NULL, key TEXT NOT NULL, digest TEXT NOT NULL, jobs TEXT NOT NULL,
  at REAL NOT NULL, PRIMARY KEY (owner, key)
);
""",
    7: """
ALTER TABLE jobs ADD COLUMN lacking TEXT NOT NULL DEFAULT '';
""",
}

COLUMNS = (
    "name, work, submitted, state, attempt, failed, lost, agent, began, until, ended, exit_status,"
    " why, cancelling, facts, trace, owner, lacking"
)


_NONE = shapes.plain(NO_FACTS)


def work_text(work: Work) -> str:
    """Return what a job does as its column has it."""
    return json.dumps(work_document(work))


def facts_text(facts: AttemptFacts) -> str:
    """Return what is known of a job's last attempt as its column has it."""
    return "" if facts == NO_FACTS else json.dumps(shapes.plain(facts))


def _facts(text: str) -> AttemptFacts:
    """Return what is known of an attempt; an older rave knew less."""
    found: AttemptFacts = shapes.read(AttemptFacts, _NONE | (json.loads(text) if text else {}))
    return found


def job_of(row: tuple[Any, ...]) -> Job:
    """Return the job that a row of COLUMNS is."""
    found = dict(zip(COLUMNS.split(", "), row, strict=True))
    work = work_of(json.loads(found["work"]))
    facts = _facts(found["facts"])
    return Job(**found | {"work": work, "cancelling": bool(found["cancelling"]), "facts": facts})
