"""Runs programs for a while: nothing of them is left when they are no longer wanted."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Bytes of a program's output that are kept: the last.
MOST_KEPT = 256 * 1024
# What every program of ours sees, and nothing else of what we see.
BARE: dict[str, str] = {"PATH": "/usr/local/bin:/usr/bin:/bin", "LANG": "C.UTF-8"}


class CommandError(Exception):
    """A program could not be started: which, and why."""


@dataclass(frozen=True)
class CommandEnd:
    """How a program ended, and what it said."""

    code: int
    out: bytes
    err: bytes


async def run(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    given: bytes = b"",
    most: int = MOST_KEPT,
) -> CommandEnd:
    """Run a program in a process group of its own, which ends with it, or when we are cancelled.

    Raises:
        CommandError: if it cannot be started.
    """
    try:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=cwd, env=dict(env), stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, start_new_session=True,
        )  # fmt: skip
    except (OSError, ValueError) as fault:
        raise CommandError(f"{argv[0]} cannot be started: {fault}") from fault
    try:
        assert process.stdin is not None  # noqa: S101 - asked for above
        assert process.stdout is not None  # noqa: S101
        assert process.stderr is not None  # noqa: S101
        out, err, _ = await asyncio.gather(
            _last(process.stdout, most), _last(process.stderr, MOST_KEPT),
            _give(process.stdin, given),
        )  # fmt: skip
        return CommandEnd(await process.wait(), out, err)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        await process.wait()


async def _give(stdin: asyncio.StreamWriter, given: bytes) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):
        stdin.write(given)
        await stdin.drain()
    stdin.close()


async def _last(stream: asyncio.StreamReader, most: int) -> bytes:
    kept = b""
    while data := await stream.read(65536):
        kept = (kept + data)[-most:]
    return kept
