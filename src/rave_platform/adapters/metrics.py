"""What Prometheus reads: rate, errors and duration per end point, and what waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.routing import Route

from rave_platform.domain.handover import HandoverState, TakenIn

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from starlette.requests import Request
    from starlette.responses import Response

    from rave_platform.application.ports import StoreFigures
    from rave_platform.domain.handover import HandoverStep

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.5, 10.0)


class RequestMetrics:
    """Rate, errors and duration of a service's end points."""

    def __init__(self, service: str, registry: CollectorRegistry) -> None:
        self._requests = Counter(
            f"{service}_requests", "Requests by end point and status",
            ["endpoint", "status"], registry=registry,
        )  # fmt: skip
        self._seconds = Histogram(
            f"{service}_request_duration_seconds", "Time to an answer, by end point",
            ["endpoint"], buckets=SECONDS, registry=registry,
        )  # fmt: skip

    def told(self, endpoint: str, status: int, seconds: float) -> None:
        """Count a request that was answered."""
        self._requests.labels(endpoint, str(status)).inc()
        self._seconds.labels(endpoint).observe(seconds)

    def watched(self, routes: Iterable[Route]) -> list[Route]:
        """Return routes whose requests are counted, by the form of their path."""
        return [
            Route(one.path, self._around(one.path.strip("/"), one.endpoint), methods=one.methods)
            for one in routes
        ]

    def _around(
        self, endpoint: str, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def answered(request: Request) -> Response:
            began, status = time.monotonic(), 500
            try:
                found = await answer(request)
                status = found.status_code
                return found
            finally:
                self.told(endpoint, status, time.monotonic() - began)

        return answered


class DispatcherMetrics:
    """The figures of one dispatcher."""

    def __init__(self, sources: Iterable[str] = ()) -> None:
        self.registry = CollectorRegistry()
        self.requests = RequestMetrics("rave_dispatcher", self.registry)
        self.refused = Counter(
            "rave_dispatcher_refused", "Webhooks that were not accepted, by source and reason",
            ["source", "reason"], registry=self.registry,
        )  # fmt: skip
        # What is there from the beginning with 0 is seen to grow the first time, too.
        for source in sources:
            self.refused.labels(source, "not-stored")
        self.handed_over = Counter(
            "rave_dispatcher_handed_over", "Events that the stream answered to",
            ["answer"], registry=self.registry,
        )  # fmt: skip
        self.events = Gauge(
            "rave_dispatcher_events", "Events that the stream does not have",
            ["state"], registry=self.registry,
        )  # fmt: skip
        self.oldest = Gauge(
            "rave_dispatcher_oldest_waiting_seconds", "Age of the oldest event that waits",
            registry=self.registry,
        )  # fmt: skip
        self.connected = Gauge(
            "rave_dispatcher_stream_connected", "Whether the stream can be asked",
            registry=self.registry,
        )  # fmt: skip

    def told(self, step: HandoverStep) -> None:
        """Count an answer of the stream."""
        self.handed_over.labels("taken" if isinstance(step, TakenIn) else "turned-down").inc()

    def page(self, figures: StoreFigures, *, connected: bool, now: float) -> bytes:
        """Return the page of the moment."""
        self.events.labels(HandoverState.ACCEPTED).set(figures.waiting)
        self.events.labels(HandoverState.DEAD).set(figures.dead)
        oldest = figures.oldest_waiting
        self.oldest.set(0.0 if oldest is None else max(0.0, now - oldest))
        self.connected.set(connected)
        return generate_latest(self.registry)
