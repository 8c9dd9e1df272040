"""The three standard streams: usable from the start, and nothing to complain about at the end.

What cannot be written to stderr stops nothing, since nobody could be told. What cannot be written
to stdout is a fault, unless its reader has left.
"""

from __future__ import annotations

import io
import os
import sys
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import TextIO


class ReaderLeftError(Exception):
    """Nobody reads our standard output any more."""


class _Unfailing(io.TextIOWrapper):
    """A stderr for everybody who writes to it: libraries, too, do not fail because of it."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            return super().write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            super().flush()


def prepare() -> None:
    """Make sure that there are three standard streams and that each takes any text.

    A closed one becomes /dev/null: else the next file that is opened would take its place.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdin = sys.stdin or _opened(0, "r")
    sys.stdout = sys.stdout or _opened(1, "w")
    sys.stderr = sys.stderr or _opened(2, "w")
    # Whoever runs us within his own program may have put something else there.
    with suppress(AttributeError):
        sys.stdout.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    if type(sys.stderr) is io.TextIOWrapper:
        buffer = open(sys.stderr.fileno(), "wb", closefd=False)  # noqa: SIM115 - for good
        sys.stderr = _Unfailing(
            buffer, sys.stderr.encoding, "backslashreplace", line_buffering=True
        )


def put(shown: str) -> None:
    """Write to standard output, at once.

    Raises:
        ReaderLeftError: nobody reads it.
        RaveError: HOST if it cannot be written.
    """
    with printing():
        sys.stdout.write(shown)
        sys.stdout.flush()


def say(shown: str) -> None:
    """Write a line to stderr, if that can be written."""
    with suppress(OSError, ValueError):
        sys.stderr.write(shown + "\n")
        sys.stderr.flush()


@contextmanager
def printing() -> Iterator[None]:
    """Turn what goes wrong with standard output into what it means.

    Raises:
        ReaderLeftError: nobody reads it.
        RaveError: HOST if it cannot be written.
    """
    try:
        yield
    except BrokenPipeError as error:
        _discard(sys.stdout)
        raise ReaderLeftError from error
    except OSError as error:
        _discard(sys.stdout)
        raise RaveError(
            f"the result cannot be written to standard output: {error.strerror}",
            hint="run it again with an output that can be written",
            exit_code=ExitCode.HOST,
        ) from error


def finish() -> None:
    """Write what is left, so that nothing can fail once nobody could say so.

    Raises:
        RaveError: HOST if standard output cannot be written.
    """
    try:
        sys.stderr.flush()
    except (OSError, ValueError):
        _discard(sys.stderr)
    with suppress(ReaderLeftError):
        put("")


def _opened(number: int, mode: str) -> TextIO:
    return open(number, mode, encoding="utf-8", closefd=False)  # type: ignore[return-value]


def _discard(stream: TextIO) -> None:
    """Let what a stream still holds go nowhere."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)
        stream.flush()
