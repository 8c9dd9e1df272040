"""The way for hooks of forges into the API: no token opens it, a signature over the bytes does.

Little is read, for a short time, of few at once; and of whoever cannot sign, fewer still.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from rave_cli.pool.access.wire import MEDIA_TYPE
from rave_cli.pool.api.limits import RateLimit
from rave_cli.pool.sources.hooks import MOST_BODY, REFUSED, HookAnswer
from rave_platform.domain.signatures import WebhookRequest

if TYPE_CHECKING:
    from starlette.requests import Request

    from rave_cli.pool.sources.hooks import HookIntake

# Seconds for a body, and hooks whose bodies are read at once: each may take MOST_BODY of memory.
BODY_WITHIN = 10.0
AT_ONCE = 8
# Hooks that wait for that; more are told to come again, which costs them nothing.
MOST_WAITING = 512

# Refusals of one address that are answered as such.
GUESSES_PER_SECOND, GUESSES_AT_ONCE = 1.0, 60

TOO_LARGE = HookAnswer(413, "too-large")
TOO_SLOW = HookAnswer(408, "too-slow")
TOO_MANY = HookAnswer(429, "too-many", 5)


@dataclass
class HookDoor:
    """Answers hooks. For one loop."""

    intake: HookIntake
    guesses: RateLimit = field(
        default_factory=lambda: RateLimit(GUESSES_PER_SECOND, GUESSES_AT_ONCE)
    )
    _reading: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(AT_ONCE))
    _waiting: int = 0

    async def answer(self, request: Request) -> Response:
        """Answer a hook.

        Raises:
            RaveError: HOST if it cannot be kept: whoever sent it will send it again, or is polled.
        """
        if self._waiting >= MOST_WAITING:
            return _response(TOO_MANY)
        self._waiting += 1
        try:
            async with self._reading:
                found = await self._taken(request)
        finally:
            self._waiting -= 1
        if found is REFUSED:
            wait = self.guesses.take(request.client.host if request.client else "")
            found = HookAnswer(429, "too-many", wait) if wait else found
        return _response(found)

    def close(self) -> None:
        """Let what was begun come to its end."""
        self.intake.close()

    async def _taken(self, request: Request) -> HookAnswer:
        try:
            async with asyncio.timeout(BODY_WITHIN):
                body = await _body(request)
        except (TimeoutError, ClientDisconnect):
            return TOO_SLOW
        if body is None:
            return TOO_LARGE
        name = str(request.path_params["source"])
        return await self.intake.take(name, WebhookRequest(_headers(request), body))


async def _body(request: Request) -> bytes | None:
    """Return the body as it came; None if it is too large."""
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > MOST_BODY:
        return None
    parts, size = [], 0
    async for part in request.stream():
        size += len(part)
        if size > MOST_BODY:
            return None
        parts.append(part)
    return b"".join(parts)


def _headers(request: Request) -> dict[str, str]:
    """Return the headers; what comes twice is joined (RFC 9110, 5.3)."""
    found: dict[str, str] = {}
    for raw_name, raw in request.headers.raw:
        name, value = raw_name.decode("latin-1").lower(), raw.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _response(answer: HookAnswer) -> Response:
    headers = {"Retry-After": str(answer.wait)} if answer.wait else {}
    content = json.dumps({"status": answer.said})
    return Response(content, answer.status, headers=headers, media_type=MEDIA_TYPE)
