"""A durable consumer of a stream in NATS JetStream, which messages are pulled from.

Why each wait asks the server for signs of life (idle heartbeats, ADR-37 of NATS' architecture): to
the client (nats-py 2.16) a consumer that has gone is one that has nothing, for ever.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING

from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig
from nats.js.errors import FetchTimeoutError

from rave_platform.adapters.taskstreams import away

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nats.aio.msg import Msg
    from nats.js.client import JetStreamContext

    from rave_platform.adapters.stream import NatsStream, StreamName

LOG = logging.getLogger(__name__)

# Seconds until it is looked again whether there is a connection.
AGAIN = 0.2
# Seconds without a word after which the server brings a message again.
SILENT = 30.0
# The part of a wait after which the server has to give a sign of life: it refuses half of one.
SIGN = 0.4
# Seconds for what the server has already said that it has.
MORE = 1.0


class DurableConsumer:
    """The server keeps it while we are away; who publishes sees to the connection.

    Args:
        stream: the connection.
        of: the stream that is read.
        name: what the server calls it; several of us may share one.
        subject: what is read.
        waits: seconds to wait for a message.
        silent: seconds without a word after which a message is brought again.
        prepare: called on each new connection first.
    """

    def __init__(
        self,
        stream: NatsStream,
        of: StreamName,
        name: str,
        subject: str,
        *,
        waits: float,
        silent: float = SILENT,
        prepare: Callable[[JetStreamContext], Awaitable[None]] | None = None,
    ) -> None:
        self._stream = stream
        self._of, self._name = of.name, name
        # One that is there, and reads something else, is changed by it.
        self._config = ConsumerConfig(
            durable_name=name, filter_subject=subject, ack_policy=AckPolicy.EXPLICIT,
            ack_wait=silent,
        )  # fmt: skip
        self._waits, self._prepare = waits, prepare
        self._bound: JetStreamContext.PullSubscription | None = None
        self._connection = 0

    async def pull(self, most: int = 1) -> list[Msg]:
        """Wait a moment for messages; return what came.

        Raises:
            StreamUnavailableError: if the stream cannot be asked.
        """
        if not self._stream.connection:
            # Whoever publishes says so already.
            await asyncio.sleep(AGAIN)
            return []
        try:
            bound = await self._binding()
        except (NatsError, OSError, TimeoutError) as fault:
            raise away(fault) from fault
        try:
            return await _messages(bound, most, self._waits)
        except FetchTimeoutError:
            return []
        except TimeoutError:
            # On a busy host its sign may have been late: asking anew does no harm.
            LOG.info("a consumer gave no sign of life", extra={"source": self._name})
            await self._leave()
            return []
        except (NatsError, OSError) as fault:
            await self._leave()
            raise away(fault) from fault

    async def _binding(self) -> JetStreamContext.PullSubscription:
        if self._bound is None or self._connection != self._stream.connection:
            jetstream, connection = self._stream.jetstream(), self._stream.connection
            if self._prepare is not None:
                await self._prepare(jetstream)
            await jetstream.add_consumer(self._of, self._config)
            self._bound = await jetstream.pull_subscribe_bind(self._name, self._of)
            self._connection = connection
        return self._bound

    async def _leave(self) -> None:
        """Have it made anew the next time, and nothing brought to where nobody listens."""
        bound, self._bound = self._bound, None
        if bound is not None:
            with suppress(NatsError, OSError):
                await bound.unsubscribe()


async def _messages(bound: JetStreamContext.PullSubscription, most: int, waits: float) -> list[Msg]:
    """Return the next message, and of what is behind it what is there already."""
    found = await bound.fetch(1, timeout=waits, heartbeat=waits * SIGN)
    more = min(most - 1, found[0].metadata.num_pending)
    if more > 0:
        with suppress(NatsError, OSError, TimeoutError):
            found += await bound.fetch(more, timeout=MORE)
    return found
