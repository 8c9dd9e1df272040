"""An agent's HTTP, on loopback: how it is, and its figures.

Two pages for programs of this machine. A framework and its server would be a quarter of an idle
agent's memory.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_platform.adapters.agents.figures import CONTENT_TYPE
from rave_platform.application.ports import StoreUnavailableError

if TYPE_CHECKING:
    from rave_platform.adapters.agents.figures import AgentFigures
    from rave_platform.adapters.agents.ledger import SqliteLedger
    from rave_platform.application.ports import Blocking, EventStream

LOOPBACK = "127.0.0.1"
# Seconds that a question may take to come; and bytes of it.
PATIENCE = 5.0
MOST = 8192
REASONS = {200: "OK", 404: "Not Found", 405: "Method Not Allowed", 503: "Service Unavailable"}


@dataclass(frozen=True)
class Page:
    """What is answered."""

    status: int
    body: bytes
    kind: str = "application/json"


@dataclass(frozen=True)
class AgentWeb:
    """What answers requests: one each, and then the connection ends."""

    ledger: SqliteLedger
    stream: EventStream
    blocking: Blocking[Any]
    figures: AgentFigures

    async def serve(self, port: int) -> None:
        """Answer, until cancelled."""
        server = await asyncio.start_server(self._answer, LOOPBACK, port, limit=MOST)
        async with server:
            await server.serve_forever()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        # Gone, too slow or too long: it asks again.
        with contextlib.suppress(OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
            try:
                asked = await asyncio.wait_for(_question(reader), PATIENCE)
                page = await self.page(*asked)
                writer.write(_written(page))
                await asyncio.wait_for(writer.drain(), PATIENCE)
            finally:
                writer.close()

    async def page(self, method: str, path: str) -> Page:
        """Return the answer to a question."""
        pages = {"/healthz": self._health, "/metrics": self._figures}
        if path not in pages:
            return _json(404, {"error": "there is /healthz and /metrics"})
        if method not in {"GET", "HEAD"}:
            return _json(405, {"error": "it can be read alone"})
        try:
            waiting, unfinished = await self.blocking(self.ledger.figures)
        except StoreUnavailableError:
            return _json(503, {"status": "cannot-store"})
        return pages[path](waiting, unfinished)

    def _health(self, waiting: int, unfinished: int) -> Page:
        """Say how it is: well while it can keep how far it has come, whoever else is there."""
        stream = "connected" if self.stream.connection else "not-connected"
        told = {"status": "ok", "stream": stream, "waiting": waiting, "unfinished": unfinished}
        return _json(200, told)

    def _figures(self, waiting: int, unfinished: int) -> Page:
        page = self.figures.page(
            stream=bool(self.stream.connection), waiting=waiting, unfinished=unfinished
        )
        return Page(200, page, CONTENT_TYPE)


async def _question(reader: asyncio.StreamReader) -> tuple[str, str]:
    """Return the method and path of a request, which is read to its end.

    Raises:
        ValueError: it is none, or too long.
        asyncio.IncompleteReadError: it ends before.
    """
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.LimitOverrunError as fault:
        raise ValueError("it is too long") from fault
    method, path, _ = head.split(b"\r\n", 1)[0].decode("ascii").split(" ")
    return method, path.partition("?")[0]


def _written(page: Page) -> bytes:
    return (
        f"HTTP/1.1 {page.status} {REASONS[page.status]}\r\nContent-Type: {page.kind}\r\n"
        f"Content-Length: {len(page.body)}\r\nConnection: close\r\n\r\n"
    ).encode() + page.body


def _json(status: int, document: dict[str, Any]) -> Page:
    return Page(status, json.dumps(document).encode() + b"\n")
