"""Tells forges what becomes of their commits: pending, then success, failure or error.

What is to be told is what the ledger shows, so whatever is killed tells it afterwards; twice is the
same to a forge.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rave_cli.pool.sources.client import ForgeBusyError, ForgeError, ForgeRefusesError
from rave_cli.pool.sources.dialects import LONGEST_SAID, CommitReport
from rave_cli.pool.sources.waiting import backed_off

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.pool.sources.client import ForgeClient
    from rave_cli.pool.sources.ledger import DueReport, RevisionLedger
    from rave_cli.pool.sources.source import ForgeSource

log = logging.getLogger("rave.pool.sources")

# After which one state of one commit is not told any more; a forge that says no is asked thrice.
MOST_TRIES, MOST_REFUSALS = 15, 3


def report(ledger: RevisionLedger, client: ForgeClient, now: Callable[[], float]) -> int:
    """Tell the forge of a source what it is still to be told; return of how many commits.

    Raises:
        RaveError: HOST if the ledger cannot be read or written.
    """
    done = 0
    for due in ledger.reports(client.source.name, now()):
        try:
            client.tell(report_of(client.source, due))
        except ForgeBusyError as error:
            ledger.report_later(due.number, now() + error.wait)
            return done
        except ForgeError as error:
            most = MOST_REFUSALS if isinstance(error, ForgeRefusesError) else MOST_TRIES
            if due.tries + 1 < most:
                ledger.report_later(due.number, now() + backed_off(due.tries))
                continue
            log.warning(
                "source %s: its forge is not told of %s: %s",
                client.source.name, due.commit[:12], error.message,
            )  # fmt: skip
        ledger.reported(due.number, due.state)
        done += 1
    return done


def report_of(source: ForgeSource, due: DueReport) -> CommitReport:
    """Return what a forge is told. Nothing that a job printed is in it."""
    said = f"job {due.job}: {due.state}" if due.job else f"no job: {due.why}"
    link = source.link.replace("{job}", due.job) if source.link and due.job else ""
    return CommitReport(due.commit, due.state, said[:LONGEST_SAID], link, due.job)
