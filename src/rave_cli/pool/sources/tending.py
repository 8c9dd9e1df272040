"""Tends the sources while the pool is served: a thread for each, so that none waits for another's
forge. Without a source nothing is loaded that asks one.
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.pool.sources.ledger import open_ledger
from rave_cli.pool.sources.source import SourcesFile

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from rave_cli.pool.sources.keeper import SourceKeeper
    from rave_cli.pool.sources.source import ForgeSource

log = logging.getLogger("rave.pool.sources")

# Seconds between two looks at which sources there are, and for what is under way when the pool's
# server ends, before it is left.
LOOK = 0.5
ENDS = 5.0


@contextmanager
def tended() -> Iterator[None]:
    """Tend the sources meanwhile; whoever calls is the only one who serves the pool."""
    ends = threading.Event()
    thread = threading.Thread(target=_keep, args=(ends,), name="the pool's sources")
    thread.start()
    try:
        yield
    finally:
        ends.set()
        thread.join()


def _keep(ends: threading.Event) -> None:
    """Keep a thread for each source that there is."""
    _prune()
    file = SourcesFile()
    keepers: dict[str, SourceKeeper] = {}
    known: Mapping[str, ForgeSource] = {}
    while True:
        try:
            known = file.all()
        except RaveError as error:
            # Those of before are tended on.
            log.warning("%s", error.message)
        for name, one in list(keepers.items()):
            if known.get(name) != one.source:
                keepers.pop(name).end()
        _begin(keepers, known)
        if ends.wait(LOOK):
            break
    for one in keepers.values():
        one.end()
    until = time.monotonic() + ENDS
    for one in keepers.values():
        one.join(max(0.0, until - time.monotonic()))


def _begin(keepers: dict[str, SourceKeeper], known: Mapping[str, ForgeSource]) -> None:
    new = [source for name, source in known.items() if name not in keepers]
    if not new:
        return
    from rave_cli.pool.sources.keeper import SourceKeeper
    from rave_cli.pool.sources.keys import SourceSecrets

    keys = SourceSecrets()
    for source in new:
        keepers[source.name] = SourceKeeper(source, keys)


def _prune() -> None:
    try:
        with open_ledger() as ledger:
            ledger.prune_deliveries(time.time())
    except RaveError as error:
        log.warning("%s", error.message)
