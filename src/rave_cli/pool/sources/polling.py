"""Asks forges what hooks did not tell: every hook can be missed."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from rave_cli.pool.sources.client import MOST_PATIENCE, ForgeBusyError, ForgeError
from rave_cli.pool.sources.waiting import backed_off, spread

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.pool.sources.client import ForgeClient
    from rave_cli.pool.sources.ledger import RevisionLedger

log = logging.getLogger("rave.pool.sources")


def poll(ledger: RevisionLedger, client: ForgeClient, now: Callable[[], float]) -> int:
    """Ask the forge of a source what it has; return how many revisions nobody had told of. They
    become jobs, but for those of the first poll.

    Raises:
        ForgeError: as ForgeClient.heads; when it is asked again is noted then.
        RaveError: HOST if the ledger cannot be read or written.
    """
    source = client.source
    before = ledger.poll(source.name)
    try:
        found, pages = client.heads(ledger.pages(source.name))
    except ForgeError as error:
        busy = isinstance(error, ForgeBusyError)
        wait = error.wait if isinstance(error, ForgeBusyError) else backed_off(before.tries)
        ledger.poll_later(source.name, now() + wait, error.message, failed=not busy)
        raise
    wanted = [one for one in found if source.wants(one)]
    new = ledger.polled(source.name, wanted, pages, now(), now() + spread(source.every))
    if new:
        log.info("source %s: %d revisions that no hook told of", source.name, new)
    return new


def poll_if_due(ledger: RevisionLedger, client: ForgeClient, now: Callable[[], float]) -> None:
    """Ask the forge of a source if it is time. That it cannot be asked is noted, and no fault.

    Raises:
        RaveError: HOST if the ledger cannot be read or written.
    """
    source, before = client.source, ledger.poll(client.source.name)
    # Beyond that it was noted by a clock that has been set back since.
    most = max(MOST_PATIENCE, 2 * source.every)
    if not source.every or now() < before.due <= now() + most:
        return
    try:
        poll(ledger, client, now)
    except ForgeError as error:
        if before.why != error.message:
            log.warning("source %s is not polled: %s", source.name, error.message)
