"""What Prometheus reads of the bridge: rate, errors and duration per command, and what waits."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from rave_platform.adapters.metrics import RequestMetrics
from rave_platform.domain.handover import TakenIn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_platform.application.chat.ports import ChatFigures, QueueFigures
    from rave_platform.domain.chat.conversation import ChatDeed, HeardMessage
    from rave_platform.domain.handover import HandoverStep

SECONDS = (0.025, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
# Commands whose time is taken at once; of more, the oldest are not.
MOST_TIMED = 1000


class BridgeMetrics:
    """The figures of one bridge."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._heard: dict[str, tuple[str, float]] = {}
        self.registry = CollectorRegistry()
        self.requests = RequestMetrics("rave_bridge", self.registry)
        self.commands = Counter(
            "rave_bridge_commands", "Commands by what was commanded and what it came to",
            ["command", "result"], registry=self.registry,
        )  # fmt: skip
        self.seconds = Histogram(
            "rave_bridge_answer_duration_seconds",
            "Time from a command's being heard to its answer's being in the chat",
            ["command"], buckets=SECONDS, registry=self.registry,
        )  # fmt: skip
        self.deeds = Counter(
            "rave_bridge_deeds", "What was done in the chat",
            ["kind", "result"], registry=self.registry,
        )  # fmt: skip
        self.waiting = Gauge(
            "rave_bridge_waiting", "What is not done: to be decided, said, or handed over",
            ["what"], registry=self.registry,
        )  # fmt: skip
        self.dead = Gauge(
            "rave_bridge_dead", "What the chat or the stream does not take",
            ["what"], registry=self.registry,
        )  # fmt: skip
        self.oldest = Gauge(
            "rave_bridge_oldest_undecided_seconds", "Age of the oldest that is to be decided",
            registry=self.registry,
        )  # fmt: skip
        self.oldest_waiting = Gauge(
            "rave_bridge_oldest_waiting_seconds",
            "Age of what the oldest comes of that is to be said, or handed over",
            ["what"], registry=self.registry,
        )  # fmt: skip
        self.queues = Gauge(
            "rave_bridge_consumer_messages",
            "Of what readers of the stream of tasks have to read: pending, unacknowledged,"
            " redelivered",
            ["consumer", "state"], registry=self.registry,
        )  # fmt: skip
        self.connected = Gauge(
            "rave_bridge_connected", "Whether the chat and the stream answer",
            ["to"], registry=self.registry,
        )  # fmt: skip

    def heard(self, messages: Sequence[HeardMessage]) -> None:
        """Take the time of what was heard."""
        for message in messages:
            while len(self._heard) >= MOST_TIMED:
                del self._heard[next(iter(self._heard))]
            self._heard[message.event_id] = ("", self._monotonic())

    def decided(self, heard: HeardMessage, command: str, result: str) -> None:
        """Count a command."""
        self.commands.labels(command, result).inc()
        if heard.event_id in self._heard:
            self._heard[heard.event_id] = (command, self._heard[heard.event_id][1])

    def done(self, deed: ChatDeed, step: HandoverStep) -> None:
        """Count what was done, and how long it took if it was an answer."""
        self.deeds.labels(deed.kind, "done" if isinstance(step, TakenIn) else "refused").inc()
        command, since = self._heard.pop(deed.to, ("", 0.0))
        if command:
            self.seconds.labels(command).observe(self._monotonic() - since)

    def read(self, found: Sequence[QueueFigures]) -> None:
        """Take in how far the readers of the stream are; what is not known is not told."""
        self.queues.clear()
        for one in found:
            self.queues.labels(one.consumer, "pending").set(one.pending)
            self.queues.labels(one.consumer, "unacknowledged").set(one.unacknowledged)
            self.queues.labels(one.consumer, "redelivered").set(one.redelivered)

    def page(self, found: ChatFigures, *, chat: bool, stream: bool, now: float) -> bytes:
        """Return the page of the moment."""
        for what, waiting in (
            ("decision", found.undecided), ("answer", found.deeds), ("stream", found.waiting),
        ):  # fmt: skip
            self.waiting.labels(what).set(waiting)
        self.dead.labels("answer").set(found.dead_deeds)
        self.dead.labels("stream").set(found.dead)
        self.oldest.set(_age(found.oldest, now))
        self.oldest_waiting.labels("answer").set(_age(found.oldest_deed, now))
        self.oldest_waiting.labels("stream").set(_age(found.oldest_waiting, now))
        self.connected.labels("chat").set(chat)
        self.connected.labels("stream").set(stream)
        return generate_latest(self.registry)


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)
