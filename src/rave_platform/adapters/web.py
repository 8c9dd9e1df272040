"""The dispatcher's HTTP: webhooks in, and how it is."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.routing import Route

from rave_platform.adapters import openapi
from rave_platform.adapters.metrics import CONTENT_TYPE
from rave_platform.application.intake import SourceIntake, WebhookAnswer
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.domain.signatures import WebhookRequest

if TYPE_CHECKING:
    from collections.abc import Mapping

    from starlette.requests import Request

    from rave_platform.adapters.metrics import DispatcherMetrics
    from rave_platform.application.ports import Blocking, EventStore, EventStream, StoreFigures

LOG = logging.getLogger(__name__)

# Seconds that a sender may take for a body.
BODY_WITHIN = 10.0
# Bytes that are read of a body whatever the answer will be: what nginx lets through. It tells its
# client 502 where it is answered, and the connection closed, while it is still handing on.
MOST_READ = 1 << 20

TOO_LARGE = WebhookAnswer(413, "too-large")
TOO_SLOW = WebhookAnswer(408, "too-slow")
UNKNOWN_SOURCE = WebhookAnswer(404, "unknown-source")


class _TooLargeError(Exception):
    pass


@dataclass(frozen=True)
class DispatcherWeb:
    """What answers requests."""

    intakes: Mapping[str, SourceIntake]
    store: EventStore
    stream: EventStream
    blocking: Blocking[StoreFigures]
    metrics: DispatcherMetrics
    body_limit: int  # bytes

    def app(self) -> Starlette:
        """Return the ASGI application."""
        return Starlette(
            routes=[
                # Counted by its source.
                Route("/webhooks/{source}", self.webhook, methods=["POST"]),
                *self.metrics.requests.watched(
                    [
                        Route("/healthz", self.health, methods=["GET"]),
                        Route("/metrics", self.figures, methods=["GET"]),
                        Route("/openapi.json", self.interface, methods=["GET"]),
                    ]
                ),
            ]
        )

    async def webhook(self, request: Request) -> Response:
        """Take in a webhook."""
        began = time.monotonic()
        name = str(request.path_params["source"])
        intake = self.intakes.get(name)
        # Only names of the settings become labels: others are without end.
        label = name if intake else "unknown"
        answer = await self._answer(intake, request)
        self.metrics.requests.told(f"webhooks/{label}", answer.status, time.monotonic() - began)
        if answer.status >= 400:
            self.metrics.refused.labels(label, answer.reason).inc()
        LOG.info(
            "webhook",
            extra={
                "source": label, "status": answer.status, "reason": answer.reason,
                "event_uuid": answer.event_uuid,
            },
        )  # fmt: skip
        return _response(answer)

    async def _answer(self, intake: SourceIntake | None, request: Request) -> WebhookAnswer:
        try:
            async with asyncio.timeout(BODY_WITHIN):
                body = await self._body(request)
        except _TooLargeError:
            return TOO_LARGE if intake else UNKNOWN_SOURCE
        except (TimeoutError, ClientDisconnect):
            return TOO_SLOW
        if intake is None:
            return UNKNOWN_SOURCE
        return await intake.receive(WebhookRequest(_headers(request), body))

    async def _body(self, request: Request) -> bytes:
        said = request.headers.get("content-length", "")
        if said.isdecimal() and int(said[:20]) > MOST_READ:
            raise _TooLargeError
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > MOST_READ:
                raise _TooLargeError
            parts.append(part)
            if size > self.body_limit:
                # It is refused in any case, and nobody keeps it meanwhile.
                parts.clear()
        if size > self.body_limit:
            raise _TooLargeError
        return b"".join(parts)

    async def health(self, _request: Request) -> Response:
        """Say how it is: well while webhooks can be stored, whether or not the stream is there."""
        try:
            found = await self.blocking(self.store.figures)
        except StoreUnavailableError:
            return _json(503, {"status": "cannot-store"})
        return _json(
            200,
            {
                "status": "ok",
                "stream": "connected" if self.stream.connection else "not-connected",
                "waiting": found.waiting,
                "dead": found.dead,
                "sources": {n: i.source.scheme is not None for n, i in self.intakes.items()},
            },
        )

    async def interface(self, _request: Request) -> Response:
        """Return what can be asked, as OpenAPI."""
        return _json(200, openapi.document())

    async def figures(self, _request: Request) -> Response:
        """Return the page for Prometheus."""
        try:
            found = await self.blocking(self.store.figures)
        except StoreUnavailableError:
            return Response("the store cannot be used\n", 503)
        page = self.metrics.page(found, connected=bool(self.stream.connection), now=time.time())
        return Response(page, media_type=CONTENT_TYPE)


def _headers(request: Request) -> dict[str, str]:
    """Return the headers; what comes twice is joined, as RFC 9110, 5.3 has it."""
    found: dict[str, str] = {}
    for raw_name, raw in request.headers.raw:
        name, value = raw_name.decode("latin-1").lower(), raw.decode("latin-1")
        found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _response(answer: WebhookAnswer) -> Response:
    document = {"status": answer.reason}
    if answer.event_uuid is not None:
        document["event_uuid"] = str(answer.event_uuid)
    response = _json(answer.status, document)
    if answer.retry_after is not None:
        response.headers["retry-after"] = str(answer.retry_after)
    return response


def _json(status: int, document: Mapping[str, object]) -> Response:
    return Response(json.dumps(document) + "\n", status, media_type="application/json")
