"""What the webhook dispatcher costs: time to an acknowledgement, how many a second, and memory.

Usage: python -m benchmarks.bench_dispatcher [SECONDS] [KEPT]

Starts a nats-server and a dispatcher of its own. `steady` are webhooks at 20 a second, each sent
when its time has come, whether or not the last was answered; `most` are 16 senders that each send
the next as soon as the last is answered. Both are measured with an empty store and again with KEPT
events in it (100,000); `filling` is the rate at which those were stored, by tenths, 64 to a
transaction. The senders run on the same host and take part of it.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
from tests.integration.platform.services import platform
from tests.unit.platform.deliveries import body, delivery, signed

from benchmarks.measure import report, summary
from rave_platform.adapters.store import SqliteEvents
from rave_platform.domain.handover import TakenIn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.platform.services import Platform

RATE = 20
SENDERS = 16


async def post(client: httpx.AsyncClient, number: int) -> float:
    """Send one webhook; return the seconds to its acknowledgement."""
    content = body(number)
    began = time.perf_counter()
    answer = await client.post("/webhooks/forge", content=content, headers=signed(content))
    if answer.status_code != 202:
        raise RuntimeError(f"{answer.status_code} {answer.text}")
    return time.perf_counter() - began


async def steady(client: httpx.AsyncClient, numbers: Iterator[int], seconds: float) -> list[float]:
    """Send at RATE."""
    began, sent = time.perf_counter(), []
    for at in range(int(seconds * RATE)):
        await asyncio.sleep(max(0.0, began + at / RATE - time.perf_counter()))
        sent.append(asyncio.create_task(post(client, next(numbers))))
    return list(await asyncio.gather(*sent))


async def most(client: httpx.AsyncClient, numbers: Iterator[int], seconds: float) -> float:
    """Send as much as is answered; return how many a second."""
    until = time.perf_counter() + seconds

    async def one() -> int:
        sent = 0
        while time.perf_counter() < until:
            await post(client, next(numbers))
            sent += 1
        return sent

    began = time.perf_counter()
    sent = sum(await asyncio.gather(*(one() for _ in range(SENDERS))))
    return sent / (time.perf_counter() - began)


async def measure(found: Platform, numbers: Iterator[int], seconds: float) -> dict[str, Any]:
    """Measure both."""
    async with httpx.AsyncClient(base_url=found.url, timeout=60) as client:
        await steady(client, numbers, 1.0)
        times = sorted(await steady(client, numbers, seconds))
        rate = await most(client, numbers, seconds)
    p99 = times[int(len(times) * 0.99)]
    return {"steady": {**summary(times), "p99": round(p99, 4)}, "most_per_second": round(rate)}


def fill(place: Path, kept: int) -> list[int]:
    """Store events as the dispatcher does, handed over already; return the rates by tenths."""
    rates = []
    with SqliteEvents(place, 7) as store:
        for tenth in range(10):
            began, numbers = (
                time.perf_counter(),
                range(tenth * kept // 10, (tenth + 1) * kept // 10),
            )
            for first in range(numbers.start, numbers.stop, 64):
                some = range(first, min(first + 64, numbers.stop))
                store.add([delivery(10**9 + number) for number in some], time.time())
                store.record([(event.number, TakenIn(1)) for event in store.due(64)])
            rates.append(round(len(numbers) / (time.perf_counter() - began)))
    return rates


def peak(found: Platform) -> float:
    """Return the most memory that the dispatcher has had, in MiB."""
    status = Path(f"/proc/{found.dispatcher.pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("VmHWM:")]
    return round(int(line.split()[1]) / 1024, 1)


def main(duration: str = "30", many: str = "100000") -> int:
    """Measure and print."""
    seconds, kept = float(duration), int(many)
    with tempfile.TemporaryDirectory(prefix="rave-dispatcher-") as place:
        found, numbers = platform(Path(place)), count()
        try:
            found.nats.start()
            found.dispatcher.start()
            empty = asyncio.run(measure(found, numbers, seconds))
            found.settle()
            found.dispatcher.end()
            filling = fill(Path(place) / "events.db", kept)
            found.dispatcher.start()
            full = asyncio.run(measure(found, numbers, seconds))
            found.settle()
            memory = peak(found)
        finally:
            for process in (found.dispatcher, found.nats):
                if process.process is not None:
                    process.end()
    figures = {"empty": empty, "kept": kept, "full": full, "filling_per_second": filling}
    report("dispatcher", {**figures, "peak_mib": memory})
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
