"""A stream of NATS JetStream: published with an acknowledgement, known again by the message's id.

Why there is no reconnecting by the client: between two connections the stream may have lost what it
had acknowledged (a power cut), and the store must hear of that before anything new takes its place.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import nats
from nats.errors import Error as NatsError
from nats.errors import MaxPayloadError
from nats.js.api import DiscardPolicy, StorageType, StreamConfig
from nats.js.errors import APIError, NotFoundError

from rave_platform.application.ports import StreamIdentity, StreamUnavailableError
from rave_platform.domain.handover import TakenIn, TurnedDown
from rave_platform.domain.tracing import HEADER

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.client import JetStreamContext

    from rave_platform.application.ports import OutgoingEvent

# How long the stream knows a message again: longer than this service is ever down for a restart.
KNOWN = timedelta(hours=2)
# Seconds to wait for a connection, and for an acknowledgement.
CONNECTING = 3
ACKNOWLEDGED = 5.0

# JetStream's codes for what no repetition would change (nats-server, server/errors.json).
NEVER = {10054}  # message size exceeds maximum allowed
# A message has this subject already.
TAKEN = 10071
# And for what has nothing to do with the message: the stream or the server is full or not ready.
NOT_NOW = {10023, 10039, 10047, 10077, 10120, 10122}


@dataclass(frozen=True)
class StreamName:
    """What a stream is called, and which subjects it holds."""

    name: str
    subjects: str


EVENTS = StreamName("RAVE_EVENTS", "rave.events.>")


@dataclass(frozen=True)
class StreamSettings:
    """Where the stream is, and what it keeps."""

    url: str
    user: str = ""
    password: str = field(default="", repr=False)
    max_age: timedelta = timedelta(days=7)
    max_bytes: int = 256 * 1024 * 1024


class NatsStream:
    """One stream; connects when asked. `service` is what the server calls the connection."""

    def __init__(
        self, settings: StreamSettings, stream: StreamName = EVENTS, service: str = "dispatcher"
    ) -> None:
        self._settings = settings
        self._stream = stream
        self._service = service
        self._client: Client | None = None
        self._jetstream: JetStreamContext | None = None
        self._connections = 0

    @property
    def connection(self) -> int:
        """Counts connections; 0 while there is none."""
        return self._connections if self._client and self._client.is_connected else 0

    async def connect(self) -> StreamIdentity:
        """Connect if need be, and make the stream if there is none.

        Raises:
            StreamUnavailableError: if it cannot be reached.
        """
        try:
            if not self.connection:
                await self._open()
            assert self._jetstream is not None  # noqa: S101 - opened above
            return await self._ensure(self._jetstream)
        except (NatsError, OSError, TimeoutError) as fault:
            raise StreamUnavailableError(f"NATS: {type(fault).__name__}") from fault

    async def close(self) -> None:
        """Close the connection, if there is one."""
        if self._client is not None and not self._client.is_closed:
            await self._client.close()

    def jetstream(self) -> JetStreamContext:
        """Return what reads from it.

        Raises:
            StreamUnavailableError: if it is not connected.
        """
        if not self.connection or self._jetstream is None:
            raise StreamUnavailableError("NATS: not connected")
        return self._jetstream

    async def publish(self, event: OutgoingEvent) -> TakenIn | TurnedDown:
        """Publish an event and return the stream's answer.

        Raises:
            StreamUnavailableError: if there is none.
        """
        headers = {"Nats-Msg-Id": event.message_id}
        if event.alone:
            # Told again by its subject, too, however long ago it was.
            headers["Nats-Expected-Last-Subject-Sequence"] = "0"
        if event.traceparent:
            headers[HEADER] = event.traceparent
        jetstream = self.jetstream()
        try:
            taken = await jetstream.publish(
                event.subject, event.data, timeout=ACKNOWLEDGED, stream=self._stream.name,
                headers=headers,
            )  # fmt: skip
        except MaxPayloadError:
            return TurnedDown("larger than the server takes", forever=True)
        except APIError as fault:
            if event.alone and fault.err_code == TAKEN:
                return await self._place(event.subject)
            if fault.err_code in NOT_NOW or (fault.code or 500) >= 500:
                raise StreamUnavailableError(f"NATS: {fault.description}") from fault
            return TurnedDown(str(fault.description), forever=fault.err_code in NEVER)
        except (NatsError, OSError, TimeoutError) as fault:
            raise StreamUnavailableError(f"NATS: {type(fault).__name__}") from fault
        return TakenIn(taken.seq)

    async def _place(self, subject: str) -> TakenIn:
        """Return where a message is that has its subject alone."""
        try:
            found = await self.jetstream().get_last_msg(self._stream.name, subject)
        except (NatsError, OSError, TimeoutError) as fault:
            raise StreamUnavailableError(f"NATS: {type(fault).__name__}") from fault
        return TakenIn(found.seq or 0)

    async def _open(self) -> None:
        await self.close()
        self._client = await nats.connect(
            self._settings.url,
            name=f"rave-{self._service}",
            user=self._settings.user or None,
            password=self._settings.password or None,
            allow_reconnect=False,
            # Otherwise it tries for two minutes, every two seconds, before anybody hears of it.
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=CONNECTING,
            ping_interval=10,
            max_outstanding_pings=2,
            error_cb=_ignore,
        )
        self._jetstream = self._client.jetstream(timeout=ACKNOWLEDGED)
        self._connections += 1

    async def _ensure(self, jetstream: JetStreamContext) -> StreamIdentity:
        """Return which stream it is; its description is a name that it was given when made."""
        try:
            found = await jetstream.stream_info(self._stream.name)
        except NotFoundError:
            found = await jetstream.add_stream(self._config(secrets.token_hex(8)))
        wanted = self._config(found.config.description or "")
        if any(
            getattr(found.config, name) != getattr(wanted, name)
            for name in ("subjects", "max_age", "max_bytes", "duplicate_window", "discard")
        ):
            found = await jetstream.update_stream(wanted)
        return StreamIdentity(found.config.description or "", found.state.last_seq)

    def _config(self, description: str) -> StreamConfig:
        return StreamConfig(
            name=self._stream.name,
            description=description,
            subjects=[self._stream.subjects],
            storage=StorageType.FILE,
            # A stream that is full takes nothing new: what waits in it is not ours to drop.
            discard=DiscardPolicy.NEW,
            max_age=self._settings.max_age.total_seconds(),
            max_bytes=self._settings.max_bytes,
            duplicate_window=KNOWN.total_seconds(),
        )


async def _ignore(_fault: Exception) -> None:
    """Who publishes hears of it."""
