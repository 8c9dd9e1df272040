"""Keeps what jobs are to be given, as it comes."""

from __future__ import annotations

import asyncio
import logging
import os
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.files import inputs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from rave_cli.pool.jobs.work import JobInput

log = logging.getLogger("rave.pool.api")

# Archives that come at a time, and seconds for each.
MOST_AT_A_TIME = 4
WITHIN = 600.0

_coming = 0


async def keep_body(body: AsyncIterator[bytes]) -> JobInput:
    """Keep a tar archive that comes in pieces, as `--input -` does.

    Raises:
        RaveError: USAGE if it is none or too large; NOT_READY if too many come, or it does not come
            to its end; HOST if it cannot be kept.
    """
    global _coming  # noqa: PLW0603 - of the process: it is its disk and its memory
    if _coming >= MOST_AT_A_TIME:
        raise _later("too many archives are being sent")
    _coming += 1
    try:
        return await _kept(body)
    finally:
        _coming -= 1


async def _kept(body: AsyncIterator[bytes]) -> JobInput:
    source, sink = os.pipe2(os.O_CLOEXEC)
    keeping = asyncio.create_task(asyncio.to_thread(_keep, source))
    ended = True
    try:
        async with asyncio.timeout(WITHIN):
            async for piece in body:
                # A pipe takes it only as fast as it is kept.
                await asyncio.to_thread(_write, sink, piece)
    except BrokenPipeError:
        log.debug("what was sent is refused")
    except (TimeoutError, ClientDisconnect):
        ended = False
    finally:
        os.close(sink)
    kept = await keeping
    if not ended:
        raise _later("the archive did not come to its end")
    return kept


def _keep(source: int) -> JobInput:
    try:
        return inputs.keep_stream(source)
    finally:
        os.close(source)


def _write(sink: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(sink, view) :]


def _later(why: str) -> RaveError:
    return RaveError(why, hint="try again later", exit_code=ExitCode.NOT_READY)
