"""How jobs lie in SQLite: the tables of each version, and a row as a job."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rave_cli import shapes
from rave_cli.pool.jobs import NO_FACTS, AttemptFacts, Job, work_document, work_of

if TYPE_CHECKING:
    from rave_cli.pool.jobs import Work

VERSION = 2

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
}

COLUMNS = (
    "name, work, submitted, state, attempt, failed, lost, agent, began, until, ended, exit_status,"
    " why, cancelling, facts"
)


def work_text(work: Work) -> str:
    """Return what a job does as its column has it."""
    return json.dumps(work_document(work))


def facts_text(facts: AttemptFacts) -> str:
    """Return what is known of a job's last attempt as its column has it."""
    return "" if facts == NO_FACTS else json.dumps(asdict(facts))


def _facts(text: str) -> AttemptFacts:
    found: AttemptFacts = shapes.read(AttemptFacts, json.loads(text)) if text else NO_FACTS
    return found


def job_of(row: tuple[Any, ...]) -> Job:
    """Return the job that a row of COLUMNS is."""
    found = dict(zip(COLUMNS.split(", "), row, strict=True))
    work = work_of(json.loads(found["work"]))
    facts = _facts(found["facts"])
    return Job(**found | {"work": work, "cancelling": bool(found["cancelling"]), "facts": facts})
