"""Runs what says how a project is built, and ends as it does.

Buildbot by itself would wait for all that hold its output, a server that was left running, too.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys

RUN = ".ci/run"
CHUNK = 1 << 16  # bytes
NOT_RUN = 126  # as shells end with it
SIGNALLED = 128


def main() -> None:
    """Pass on what it says until it ends."""
    said, saying = os.pipe()
    try:
        child = subprocess.Popen([f"./{RUN}"], stdout=saying, stderr=subprocess.STDOUT)
    except OSError as error:
        print(f"{RUN} cannot be executed: {error.strerror}", flush=True)  # noqa: T201
        sys.exit(NOT_RUN)
    os.close(saying)
    os.set_blocking(said, False)
    ended = os.pidfd_open(child.pid)
    waits = [said, ended]
    while ended in waits:
        ready = select.select(waits, [], [])[0]
        if said in ready and not _passed_on(said):
            waits.remove(said)
        elif ended in ready and said not in ready:
            waits.remove(ended)
    status = child.wait()
    sys.exit(status if status >= 0 else SIGNALLED - status)


def _passed_on(said: int) -> bool:
    """Pass on what there is; return whether there may be more."""
    data = os.read(said, CHUNK)
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
    return bool(data)
