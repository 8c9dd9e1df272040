"""Pages of kits as people use them: age asks for the passphrase on a terminal alone."""

from __future__ import annotations

import os
import pty
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

LAST = "-----END AGE ENCRYPTED FILE-----\n"


def armored(page: str) -> str:
    """Return what is between the lines of dashes, and those."""
    return page[page.index("-----BEGIN") : page.index(LAST) + len(LAST)]


def opened(text: str, passphrase: str, place: Path) -> tuple[int, bytes]:
    """Let age open it, in files at `place`; return its exit code, and what came out."""
    place.write_text(text)
    out = place.with_suffix(".out")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvp("age", ["age", "--decrypt", "--output", str(out), str(place)])  # noqa: S606
    said = b""
    while b"passphrase" not in said.lower():
        said += os.read(terminal, 1000)
    os.write(terminal, passphrase.encode() + b"\n")
    # A terminal whose other side is gone.
    with suppress(OSError):
        while os.read(terminal, 1000):
            pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    return os.waitstatus_to_exitcode(status), out.read_bytes() if out.exists() else b""
