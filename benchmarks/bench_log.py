"""What it costs PostgreSQL that its log is kept elsewhere: processor time of each transaction.

Usage: python -m benchmarks.bench_log [ROUNDS] [SECONDS] [--archived]

Needs Debian's postgresql-15 on this host, and root. Servers with the settings of a guest: one of
which nobody fetches the log, and one whose log is fetched each 2.5 s as a guest sends it
(rave_guest/state/log.py), which is 96 times as often as by a schedule; with `--archived` also one
with `archive_mode` and a copy of each file. Each run does the same number of transactions after a
checkpoint and a vacuum, so that neither comes in between; runs follow each other in turn, every
second round the other way round. The figures are milliseconds of processors for each transaction,
of the server and of whoever fetches, and transactions a second, which a busy host changes much.

What is judged is the upper end of the interval that has the median of the paired ratios with 95 %
(order statistics: no assumption about how they are distributed), not the median alone.
"""

from __future__ import annotations

import hashlib
import json
import math
import multiprocessing
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.measure import report, summary
from rave_guest.state import log, wire
from rave_guest.wire import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.queues import Queue

BIN = Path("/usr/lib/postgresql/15/bin")
# As in infra/debian/services/postgresql, but that vacuum comes when it is told to.
SETTINGS = (
    "shared_buffers=64MB", "max_connections=50", "work_mem=4MB", "jit=off", "wal_level=replica",
    "min_wal_size=32MB", "max_wal_size=256MB", "checkpoint_timeout=15min", "listen_addresses=",
    "max_slot_wal_keep_size=512MB", "autovacuum=off",
)  # fmt: skip
EACH = 2.5  # seconds from one fetch to the next
LIMIT = 0.05
CERTAIN = 0.95


def as_nobody(*argv: object, cwd: Path | None = None) -> str:
    """Run a program as the servers' account, and return what it says."""
    done = subprocess.run(
        [str(word) for word in argv], user="nobody", group="nogroup", extra_groups=[], check=True,
        capture_output=True, text=True, cwd=cwd,
    )  # fmt: skip
    return done.stdout


@contextmanager
def server(place: Path, *settings: str) -> Iterator[Path]:
    """Run a server with the tables of pgbench; yields its place."""
    place.mkdir()
    shutil.chown(place, "nobody")
    data = place / "data"
    as_nobody(BIN / "initdb", "-D", data, "-U", "postgres", "-A", "trust", "-k", cwd=place)
    words = " ".join(f"-c {word}" for word in (*SETTINGS, *settings))
    control = (BIN / "pg_ctl", "-D", data, "-w", "-l", place / "log")
    as_nobody(*control, "-o", f"-k {place} {words}", "start", cwd=place)
    try:
        as_nobody(BIN / "pgbench", "-h", place, "-U", "postgres", "-i", "-q", "-s", 5, "postgres")
        yield place
    finally:
        as_nobody(*control, "-m", "fast", "stop", cwd=place)


@dataclass(frozen=True)
class Run:
    """A run of pgbench: transactions a second, and milliseconds of processors for each."""

    rate: float
    cost: float


CLIENTS = 4


def transactions(place: Path, each: int, more: int | None = None) -> Run:
    """Let each client of pgbench make so many transactions; what the process `more` takes meanwhile
    is counted, too.
    """
    psql = (BIN / "psql", "-h", place, "-U", "postgres", "-q")
    as_nobody(*psql, "-c", "vacuum", "-c", "checkpoint", "postgres")
    before = spent(place, more)
    argv = ("-n", "-c", CLIENTS, "-j", 2, "-t", each, "postgres")
    said = as_nobody(BIN / "pgbench", "-h", place, "-U", "postgres", *argv)
    # The last of the server's own processes are reaped a moment after pgbench has gone.
    time.sleep(0.5)
    took = spent(place, more) - before
    rate = re.search(r"tps = ([0-9.]+)", said)
    count = re.search(r"transactions actually processed: ([0-9]+)", said)
    assert rate is not None  # noqa: S101 - pgbench says so
    assert count is not None  # noqa: S101 - pgbench says so
    return Run(float(rate[1]), 1000 * took / int(count[1]))


def spent(place: Path, more: int | None) -> float:
    """Return the seconds of processors that a server's processes took, those that have ended, too;
    proc(5).
    """
    main = int((place / "data/postmaster.pid").read_text().split()[0])
    children = Path(f"/proc/{main}/task/{main}/children").read_text().split()
    total = 0
    # The first one last: it has the time of those that end meanwhile.
    for pid in (*map(int, children), *((more,) if more else ()), main):
        with suppress(FileNotFoundError, ProcessLookupError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15]))
    return total / os.sysconf("SC_CLK_TCK")


class Sink:
    """Takes what a guest sends, as the way to the host does, and keeps what is said of it."""

    def __init__(self) -> None:
        self.size, self.facts = 0, b""

    def write(self, data: bytes) -> int:
        """Take a record."""
        if b'"chain"' in data[:64]:
            self.facts = data.partition(b"\n")[2]
        self.size += len(data)
        return len(data)

    def flush(self) -> None:
        """Keep nothing back."""


def fetching(place: Path, sizes: Queue[int]) -> None:
    """Send the log as a guest does, until this process is ended."""
    os.nice(10)
    path = str(place / "data")
    wanted: dict[str, Any] = {"chain": "", "end": "", "tail": "", "until": 0, "allowed": 0}
    postgres.socket_of = lambda port: f"{place}/.s.PGSQL.{port}"
    while True:
        sink = Sink()
        with postgres.session(60) as ask:
            log.send(path, ask, wire.Writer(cast("Any", sink)), wanted, "1" * 32)
        facts = json.loads(sink.facts)
        end, timeline, size = log.position(facts["end"]), facts["timeline"], facts["segment"]
        last = b"".join(log.pieces(path, timeline, size, end - log.TAIL, end))
        tail = hashlib.sha256(last).hexdigest()
        wanted |= {"chain": facts["chain"], "end": facts["end"], "tail": tail}
        sizes.put(sink.size)
        time.sleep(EACH)


def fetched(place: Path, each: int) -> tuple[Run, int]:
    """The same while the log is fetched; also the bytes of it."""
    sizes: Queue[int] = multiprocessing.Queue()
    child = multiprocessing.Process(target=fetching, args=(place, sizes), daemon=True)
    child.start()
    sizes.get()
    found = transactions(place, each, child.pid)
    child.terminate()
    child.join()
    total = 0
    while not sizes.empty():
        total += sizes.get()
    return found, total


def interval(values: list[float]) -> tuple[float, float]:
    """Return the ends of what has the median with 95 %; with fewer than six values, their ends.

    Source: H. A. David, H. N. Nagaraja, "Order Statistics", 7.1.
    """
    ordered, count = sorted(values), len(values)
    below, rank = 0.0, 0
    while rank < count // 2:
        below += math.comb(count, rank) / 2**count
        if below > (1 - CERTAIN) / 2:
            break
        rank += 1
    at = max(rank - 1, 0)
    return ordered[at], ordered[count - 1 - at]


@dataclass
class Bench:
    """The servers, and what was measured of each."""

    plain: Path
    slot: Path
    archive: Path | None
    each: int = 500
    rows: list[dict[str, Run]] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)

    def round(self) -> None:
        """Measure each server once, every second time the other way round."""
        names = ["plain", "fetched", *(["archived"] if self.archive else [])]
        found: dict[str, Run] = {}
        for name in names if len(self.rows) % 2 else reversed(names):
            if name == "fetched":
                found[name], size = fetched(self.slot, self.each)
                self.sizes.append(size)
            else:
                place = self.archive if name == "archived" and self.archive else self.plain
                found[name] = transactions(place, self.each)
        self.rows.append(found)

    def figures(self) -> dict[str, Any]:
        """Return what was measured, by name."""
        figures: dict[str, Any] = {"transactions of a run": CLIENTS * self.each}
        for name in self.rows[0]:
            figures[f"{name} a second"] = summary([row[name].rate for row in self.rows])
            figures[f"{name} milliseconds"] = summary([row[name].cost for row in self.rows])
            if name != "plain":
                costs = [row[name].cost / row["plain"].cost - 1 for row in self.rows]
                low, high = interval(costs)
                figures[f"{name} cost"] = summary(costs) | {"median is between": [low, high]}
        figures["fetched bytes of a run"] = summary([float(size) for size in self.sizes])
        return figures


def main() -> int:
    """Measure, report, and judge."""
    words = [word for word in sys.argv[1:] if word != "--archived"]
    rounds = int(words[0]) if words else 20
    seconds = float(words[1]) if len(words) > 1 else 6.0
    with tempfile.TemporaryDirectory(prefix="rave-bench-") as name, ExitStack() as stack:
        root = Path(name)
        root.chmod(0o755)
        bench = Bench(
            stack.enter_context(server(root / "plain")),
            stack.enter_context(server(root / "slot")),
            stack.enter_context(_archiving(root)) if "--archived" in sys.argv else None,
        )
        bench.round()  # warms up, and says how many transactions there are in that many seconds
        bench.each = max(100, int(bench.rows[0]["plain"].rate * seconds / CLIENTS))
        bench.rows.clear()
        bench.sizes.clear()
        for _ in range(rounds):
            bench.round()
    figures = bench.figures()
    report("log", figures)
    return int(figures["fetched cost"]["median is between"][1] > LIMIT)


@contextmanager
def _archiving(root: Path) -> Iterator[Path]:
    (root / "spool").mkdir()
    shutil.chown(root / "spool", "nobody")
    command = f"archive_command='cp %p {root}/spool/%f'"
    settings = ("archive_mode=on", "archive_timeout=240", f'"{command}"')
    with server(root / "archive", *settings) as place:
        yield place


if __name__ == "__main__":
    sys.exit(main())
