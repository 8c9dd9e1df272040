"""Keeps one source: takes in, asks, makes jobs and tells, in a thread of its own."""

from __future__ import annotations

import logging
import threading
import time
from functools import partial
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.pool.sources.client import asking
from rave_cli.pool.sources.feeding import feed_if_due
from rave_cli.pool.sources.ledger import open_ledger
from rave_cli.pool.sources.making import fetched, make_jobs
from rave_cli.pool.sources.polling import poll_if_due
from rave_cli.pool.sources.reporting import report

if TYPE_CHECKING:
    from rave_cli.pool.jobs.work import JobInput
    from rave_cli.pool.sources.keys import SourceSecrets
    from rave_cli.pool.sources.ledger import RevisionLedger
    from rave_cli.pool.sources.revision import Revision
    from rave_cli.pool.sources.source import ForgeSource

log = logging.getLogger("rave.pool.sources")

# Seconds between two looks at the ledger, and after a fault of this host.
LOOK = 1.0
AFTER_FAULT = 30.0


class SourceKeeper:
    """A source with its thread, which runs until it is ended."""

    def __init__(self, source: ForgeSource, keys: SourceSecrets) -> None:
        self.source, self._keys = source, keys
        self._ends = threading.Event()
        # Git may take minutes with a forge that says nothing; whoever ends the pool does not wait.
        self._thread = threading.Thread(target=self._run, name=f"source {source.name}", daemon=True)
        self._thread.start()

    def end(self) -> None:
        """Let it end when it has done what it does now."""
        self._ends.set()

    def join(self, seconds: float) -> None:
        """Wait for that, for so many seconds at most."""
        self._thread.join(seconds)

    def _run(self) -> None:
        while not self._ends.is_set():
            try:
                with open_ledger() as ledger:
                    self._tend(ledger)
            except RaveError as error:
                log.warning("source %s is not tended: %s", self.source.name, error.message)
                self._ends.wait(AFTER_FAULT)
            except Exception:
                log.exception("tending source %s has a fault", self.source.name)
                self._ends.wait(AFTER_FAULT)

    def _tend(self, ledger: RevisionLedger) -> None:
        fed = 0.0
        token = self._keys.token(self.source)
        if self.source.token and not token:
            log.warning("source %s: there is no secret %s", self.source.name, self.source.token)
        with asking(self.source, token) as client:
            # With another token it is another client.
            while not self._ends.is_set() and token == self._keys.token(self.source):
                fed = feed_if_due(ledger, self.source, fed, time.time)
                poll_if_due(ledger, client, time.time)
                make_jobs(ledger, self.source, partial(self._fetch, token=token), time.time)
                if token:
                    report(ledger, client, time.time)
                self._ends.wait(LOOK)

    def _fetch(self, source: ForgeSource, revision: Revision, *, token: str) -> JobInput:
        return fetched(source, revision, token)
