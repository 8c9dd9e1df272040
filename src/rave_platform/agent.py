"""An agent: does tasks of one kind, of which several instances may do some.

Usage: python -m rave_platform.agent SETTINGS.toml AGENT [INSTANCE]
"""

from __future__ import annotations

import asyncio
import logging
import re
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_platform import lifetime
from rave_platform.adapters import configuration, logs
from rave_platform.adapters import spans as span_stores
from rave_platform.adapters.agents import settings
from rave_platform.adapters.agents.figures import AgentFigures
from rave_platform.adapters.agents.ledger import SqliteLedger
from rave_platform.adapters.agents.queue import NatsTaskQueue
from rave_platform.adapters.agents.web import AgentWeb
from rave_platform.adapters.configuration import SPANS, SettingsError
from rave_platform.adapters.forge import settings as forges
from rave_platform.adapters.stream import NatsStream
from rave_platform.adapters.taskstreams import TASKS
from rave_platform.application.agents.beating import beat_forever
from rave_platform.application.agents.deciding import Deciding
from rave_platform.application.agents.ports import LOOK
from rave_platform.application.agents.steps import Steps
from rave_platform.application.agents.working import Working
from rave_platform.application.outbox import Outbox
from rave_platform.application.ports import StoreUnavailableError
from rave_platform.application.retention import prune_forever
from rave_platform.application.tracing import SpanKeeper, Tracer
from rave_platform.domain.tasks import AgentKind

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_platform.adapters.agents.settings import AgentSettings
    from rave_platform.application.agents.ports import Runner
    from rave_platform.application.forge import Forge
    from rave_platform.application.ports import SpanStore

LOG = logging.getLogger("rave_platform.agent")

INSTANCE = re.compile(r"[a-z0-9][a-z0-9-]{0,31}")


@dataclass(frozen=True)
class AgentParts:
    """Who an agent is, and what it works with."""

    agent: AgentKind
    instance: str
    forge: Forge
    runner: Runner


async def serve(
    found: AgentSettings, parts: AgentParts, ledger: SqliteLedger, kept: SpanStore,
    worker: ThreadPoolExecutor,
) -> None:  # fmt: skip
    """Serve until SIGTERM or SIGINT."""
    agent, instance, forge = parts.agent, parts.instance, parts.forge
    loop = asyncio.get_running_loop()

    def blocking(call: Callable[[], Any]) -> asyncio.Future[Any]:
        return loop.run_in_executor(worker, call)

    stream = NatsStream(
        configuration.stream_settings(found.nats, found.retention_days), TASKS, f"agent-{agent}"
    )
    queue = NatsTaskQueue(stream, agent, found.silent_seconds)
    spans = SpanKeeper(kept, blocking)
    tracer = Tracer(spans.keep)
    outbox = Outbox(ledger.outgoing, stream, blocking, tracer=tracer)
    figures = AgentFigures(agent)
    allowed = settings.limits(found)
    look = min(LOOK, found.silent_seconds / 3)
    steps = Steps(forge, parts.runner, allowed, hook=forges.hook(found.forge))
    working = Working(
        ledger, queue, steps, blocking, allowed, told=outbox.wake,
        kept=figures.kept, look=look, tracer=tracer,
    )  # fmt: skip
    parts_of_it = [
        outbox.run(), working.run(),
        Deciding(
            ledger, queue, forge, blocking, told=outbox.wake, decided=figures.decided,
            look=look, tracer=tracer,
        ).run(),
        beat_forever(
            queue, agent, instance, lambda: working.current,
            alive=lambda: lifetime.notify("WATCHDOG=1"), beaten=figures.beaten,
        ),
        prune_forever(ledger, blocking), spans.run(), prune_forever(kept, blocking),
    ]  # fmt: skip
    if agent in found.ports:
        web = AgentWeb(ledger, stream, blocking, figures)
        parts_of_it.append(web.serve(found.ports[agent]))
    LOG.info("working", extra={"source": f"{agent} {instance}"})
    await lifetime.work(parts_of_it)
    await spans.flush()
    await forge.close()
    await stream.close()


def main(words: list[str]) -> int:
    """Run it; 2 for what was asked, 1 for what is wrong."""
    place, agent, instance = (*words, "one")[:3] if len(words) in {2, 3} else ("", "", "")
    if agent not in set(AgentKind) or not INSTANCE.fullmatch(instance):
        sys.stderr.write(f"{__doc__}\nAGENT is one of {', '.join(AgentKind)}.\n")
        return 2
    logs.begin()
    # Each request would be a line.
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        found = settings.read(Path(place))
        name = f"{agent}-{instance}"
        parts = AgentParts(
            AgentKind(agent), instance, forges.forge(found.forge), settings.runner(found)
        )
        with (
            SqliteLedger(found.state / f"{name}.db", found.retention_days) as ledger,
            span_stores.kept(
                found.state / f"{name}.{SPANS}", f"agent {name}", found.retention_days
            ) as kept,
            ThreadPoolExecutor(1, "store") as worker,
        ):
            asyncio.run(serve(found, parts, ledger, kept, worker))
    except (SettingsError, StoreUnavailableError, OSError) as fault:
        LOG.error("cannot serve", extra={"why": str(fault)})  # noqa: TRY400 - no traceback
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
