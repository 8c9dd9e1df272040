"""HTTP for whoever asks in time: a connection on which nobody does is closed.

Uvicorn bounds the time between two questions of a connection, and not that of the first, nor of one
that comes a letter at a time: some hundred of those, and nobody else would be answered.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from uvicorn.protocols.http.h11_impl import H11Protocol

if TYPE_CHECKING:
    import asyncio

    import h11

# Seconds until the head of a question is there.
HEAD_WITHIN = 10.0


class PunctualProtocol(H11Protocol):
    """Uvicorn's, which gives up whoever does not ask."""

    _late: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for the first question."""
        super().connection_made(transport)
        self._expect()

    def on_response_complete(self) -> None:
        """Wait for the next one."""
        super().on_response_complete()
        self._expect()

    def handle_websocket_upgrade(self, event: h11.Request) -> None:
        """Leave it to those who serve streams: they ask whether somebody is there."""
        self._leave()
        super().handle_websocket_upgrade(event)

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no more."""
        self._leave()
        super().connection_lost(exc)

    def _expect(self) -> None:
        self._leave()
        self._late = self.loop.call_later(HEAD_WITHIN, self._give_up)

    def _leave(self) -> None:
        if self._late is not None:
            self._late.cancel()
            self._late = None

    def _give_up(self) -> None:
        if self.cycle is None or self.cycle.response_complete:
            self.transport.close()
