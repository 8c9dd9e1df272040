"""Makes revisions jobs: each is fetched by this host's git, and laid out where its job runs."""

from __future__ import annotations

import base64
import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.files import inputs
from rave_cli.pool.jobs.submission import source_owner
from rave_cli.pool.sources.waiting import backed_off

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.pool.jobs.work import JobInput, Work
    from rave_cli.pool.sources.ledger import KnownRevision, RevisionLedger
    from rave_cli.pool.sources.revision import Revision
    from rave_cli.pool.sources.source import ForgeSource

    Fetch = Callable[[ForgeSource, Revision], JobInput]

log = logging.getLogger("rave.pool.sources")

# How often a commit that cannot be fetched is tried, which takes an hour or so.
MOST_TRIES = 12

# Seconds until a full pool is asked again.
FULL_FOR = 5.0


def make_jobs(
    ledger: RevisionLedger, source: ForgeSource, fetch: Fetch, now: Callable[[], float]
) -> int:
    """Make jobs of the revisions of a source that wait; return how many.

    Raises:
        RaveError: HOST if the ledger cannot be read or written.
    """
    made = 0
    for known in ledger.waiting(source.name, now()):
        if not source.wants(known.revision):
            ledger.give_up(known.number, "the source does not build it any more")
            continue
        try:
            work = work_for(source, known.revision, fetch(source, known.revision))
        except RaveError as error:
            _try_later(ledger, known, error, now())
            continue
        try:
            job = ledger.make(known.number, work, source_owner(source.name))
        except RaveError as error:
            if error.exit_code is not ExitCode.NOT_READY:
                raise
            ledger.make_later(known.number, now() + FULL_FOR, error.message, failed=False)
            return made
        if job is not None:
            log.info("source %s: %s is job %s", source.name, known.revision.shown, job.name)
            made += 1
    return made


def work_for(source: ForgeSource, revision: Revision, given: JobInput | None) -> Work:
    """Return what the job of a revision does: what its source says, with the commit laid out.

    What the forge said is in variables alone. The commit of a fork is anybody's: it reads no
    secret, reaches nothing, and leaves nothing in a cache.
    """
    work = source.work
    told = {
        "FORGE_SOURCE": source.name,
        "FORGE_EVENT": revision.kind,
        "FORGE_NAME": revision.name,
        "FORGE_COMMIT": revision.commit,
        "FORGE_TARGET": revision.target,
        "FORGE_FORK": str(int(revision.fork)),
    }
    own = tuple(pair for pair in work.environment if pair[0] not in told)
    return replace(
        work,
        environment=(*own, *told.items()),
        secrets=() if revision.fork else work.secrets,
        allow=() if revision.fork else work.allow,
        # Else whoever forks decides what the next job of the source runs.
        keeps_cache=work.keeps_cache and not revision.fork,
        given=given,
    )


def fetched(source: ForgeSource, revision: Revision, token: str) -> JobInput:
    """Return the commit of a revision, kept.

    Raises:
        RaveError: as keeping a commit does.
    """
    return inputs.keep_commit(
        source.fetched_from, revision.commit, authorization=authorization(source, token)
    )


def authorization(source: ForgeSource, token: str) -> str:
    """Return how git shows a token to the forge; empty without one, or where it fetches elsewhere.

    GitLab, GitHub and Gitea take one as the password of whatever name.
    """
    if not token or not source.fetched_from.startswith(f"{source.url}/"):
        return ""
    return "Basic " + base64.b64encode(f"oauth2:{token}".encode()).decode()


def _try_later(ledger: RevisionLedger, known: KnownRevision, error: RaveError, now: float) -> None:
    why = "; ".join((error.message, *error.detail[-1:]))[:512]
    if known.tries + 1 >= MOST_TRIES:
        log.warning("source %s: %s is given up: %s", known.source, known.revision.shown, why)
        ledger.give_up(known.number, why)
        return
    ledger.make_later(known.number, now + backed_off(known.tries), why, failed=True)
