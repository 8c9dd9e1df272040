"""Keeps the logs of one machine within bounds. A program of its own: see logs.py, which starts it.

QEMU writes what it and its guest have to say into named pipes, and this moves it into files. A file
that is full becomes the older part, and the older part before it is dropped; how much was dropped
in all stands beside it. It ends when nobody holds the pipes any more. It imports next to nothing,
since each running machine has one.

Usage: logkeeper.py (PIPE LOG BYTES)...
"""

from __future__ import annotations

import os
import select
import sys
import time
from contextlib import suppress

CHUNK = 1 << 16

# Seconds in which QEMU opens its ends of the pipes.
OPENS = 30.0


class Log:
    """One pipe and its file, which holds at most `most` bytes; so does its older part."""

    def __init__(self, pipe: str, path: str, most: int) -> None:
        # Without waiting for a writer.
        self.fd = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        folder, _, name = pipe.rpartition("/")
        # The end that we were born with, if it is one.
        self.handed = int(name) if folder == "/proc/self/fd" else None
        self.path = path
        self.most = most
        self.older = 0
        self.dropped = 0
        self.written_to = False
        self.file = self._create()
        # A machine that is resumed goes on where its log was.
        self.size = os.fstat(self.file).st_size

    def take(self) -> bool:
        """Move what is in the pipe to the file; returns whether anybody may still write."""
        try:
            data = os.read(self.fd, CHUNK)
        except BlockingIOError:
            self.written_to = True
            return True
        if data:
            self.written_to = True
            self._keep(data)
        return bool(data) or not self.written_to

    def close(self) -> None:
        """Let go of the pipe, by which others see that its log is whole."""
        os.close(self.fd)
        if self.handed is not None:
            os.close(self.handed)

    def _keep(self, data: bytes) -> None:
        while data:
            if self.size >= self.most:
                self._rotate()
            part = data[: self.most - self.size]
            try:
                done = os.write(self.file, part)
            except OSError:
                # A full disk must stop neither the guest nor this.
                self._drop(len(part))
                done = len(part)
            else:
                self.size += done
            data = data[done:]

    def _rotate(self) -> None:
        self._drop(self.older)
        self.older, self.size = self.size, 0
        os.close(self.file)
        with suppress(OSError):
            os.replace(self.path, f"{self.path}.1")  # noqa: PTH105 - pathlib costs 4 MiB
        self.file = self._create()

    def _drop(self, count: int) -> None:
        if not count:
            return
        self.dropped += count
        with suppress(OSError):
            fd = os.open(f"{self.path}.dropped", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            os.write(fd, b"%d\n" % self.dropped)
            os.close(fd)

    def _create(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            return os.open(self.path, flags, 0o600)
        except OSError:
            # The machine was deleted, or its disk is gone: read on, so that nobody has to wait.
            return os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)


def keep(logs: list[Log]) -> None:
    """Keep logs until nobody can write to any of them."""
    poll = select.poll()
    for log in logs:
        poll.register(log.fd, select.POLLIN)
    opened_by = time.monotonic() + OPENS
    while logs:
        # Nobody tells when a pipe is opened for writing.
        waiting = not all(log.written_to for log in logs)
        found = dict(poll.poll(20 if waiting else None))
        for log in list(logs):
            # Whoever hung up has been there, however short that was.
            log.written_to |= bool(found.get(log.fd, 0) & select.POLLHUP)
            if log.take() and (log.written_to or time.monotonic() < opened_by):
                continue
            poll.unregister(log.fd)
            logs.remove(log)
            log.close()
            # QEMU holds all of its ends as long as it lives: it has ended, or whoever was to start
            # it has, and nobody else is coming.
            opened_by = 0.0


def main(words: list[str]) -> None:
    """Read the arguments and keep the logs."""
    keep([Log(words[n], words[n + 1], int(words[n + 2])) for n in range(0, len(words), 3)])


if __name__ == "__main__":
    main(sys.argv[1:])
