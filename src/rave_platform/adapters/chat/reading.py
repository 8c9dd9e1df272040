"""What the bridge reads of a stream: by one consumer, which NATS keeps while the bridge is away."""

from __future__ import annotations

from functools import partial

from rave_platform.adapters.pulling import DurableConsumer

durable = partial(DurableConsumer, name="chat-bridge")
