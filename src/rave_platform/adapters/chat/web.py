"""The bridge's HTTP, on loopback: how it is, and what the chat brings."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from rave_platform.adapters.metrics import CONTENT_TYPE
from rave_platform.application.ports import StoreUnavailableError, StreamUnavailableError

if TYPE_CHECKING:
    from starlette.requests import Request

    from rave_platform.adapters.chat.metrics import BridgeMetrics
    from rave_platform.application.chat.ports import ChatChannel, ConversationStore, QueueReader
    from rave_platform.application.ports import Blocking, EventStream


# Seconds that the stream has to say how far its readers are: figures of ours must not wait for it.
QUEUES_WITHIN = 2.0


@dataclass(frozen=True)
class BridgeWeb:
    """What answers requests."""

    store: ConversationStore
    channel: ChatChannel
    stream: EventStream
    reader: QueueReader
    blocking: Blocking[Any]
    metrics: BridgeMetrics

    def app(self) -> Starlette:
        """Return the ASGI application."""
        routes = [
            Route("/healthz", self.health, methods=["GET"]),
            Route("/metrics", self.figures, methods=["GET"]),
            *self.channel.routes(),
        ]
        return Starlette(routes=self.metrics.requests.watched(routes))

    async def health(self, _request: Request) -> Response:
        """Say how it is: well while what is heard can be kept, whether or not anybody is there."""
        try:
            found = await self.blocking(self.store.figures)
        except StoreUnavailableError:
            return _json(503, {"status": "cannot-store"})
        return _json(
            200,
            {
                "status": "ok",
                "chat": "connected" if self.channel.connected else "not-connected",
                "stream": "connected" if self.stream.connection else "not-connected",
                **asdict(found),
            },
        )

    async def figures(self, _request: Request) -> Response:
        """Return the page for Prometheus."""
        try:
            found = await self.blocking(self.store.figures)
        except StoreUnavailableError:
            return Response("the store cannot be used\n", 503)
        try:
            async with asyncio.timeout(QUEUES_WITHIN):
                self.metrics.read(await self.reader.queues())
        except (StreamUnavailableError, TimeoutError):
            self.metrics.read(())
        page = self.metrics.page(
            found, chat=self.channel.connected, stream=bool(self.stream.connection),
            now=time.time(),
        )  # fmt: skip
        return Response(page, media_type=CONTENT_TYPE)


def _json(status: int, document: dict[str, Any]) -> Response:
    return Response(json.dumps(document) + "\n", status, media_type="application/json")
