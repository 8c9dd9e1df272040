"""The database of Pagure, which may have to recover when the forge starts."""

from __future__ import annotations

import sys
import time

from sqlalchemy import create_engine
from sqlalchemy.exc import OperationalError

# Seconds: whoever was killed recovers within a few; on a busy host of an emulated machine in more.
PATIENCE = 120.0
PAUSE = 1.0


def wait(url: str) -> None:
    """Return as soon as it accepts connections: to load all of Pagure anew takes longer, under
    emulation by minutes, and by then it may be away again.

    Raises:
        OperationalError: it accepts none for too long.
    """
    engine = create_engine(url)
    until, told = time.monotonic() + PATIENCE, False
    while True:
        try:
            engine.connect().close()
        except OperationalError as fault:
            if time.monotonic() > until:
                raise
            if not told:
                sys.stderr.write(f"waiting for the database: {str(fault.orig).strip()}\n")
            told = True
            time.sleep(PAUSE)
        else:
            engine.dispose()
            return
