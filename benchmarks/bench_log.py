"""What it costs PostgreSQL that its log is kept elsewhere: processor time of each transaction.

Usage: python -m benchmarks.bench_log [ROUNDS] [SECONDS]

Needs Debian's postgresql-15 on this host, and root. Three servers with the settings of a guest, in
turn: one of which nobody fetches the log; one whose log is fetched each 2.5 s as a guest sends
it (rave_guest/state/log.py), which is 96 times as often as by a schedule; and one with
`archive_mode` and a copy of each file. The figures are milliseconds of the server and of whoever
fetches for each transaction, which a busy host changes little, and transactions a second, which it
changes much.
"""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from benchmarks.measure import report, summary
from rave_guest.state import log, wire
from rave_guest.wire import postgres

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.queues import Queue

BIN = Path("/usr/lib/postgresql/15/bin")
# As in infra/debian/services/postgresql.
SETTINGS = (
    "shared_buffers=64MB", "max_connections=50", "work_mem=4MB", "jit=off", "wal_level=replica",
    "min_wal_size=32MB", "max_wal_size=256MB", "checkpoint_timeout=15min", "listen_addresses=",
    "max_slot_wal_keep_size=512MB", "autovacuum_max_workers=1",
)  # fmt: skip
EACH = 2.5  # seconds from one fetch to the next
LIMIT = 0.05


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


def transactions(place: Path, seconds: int, more: int | None = None) -> Run:
    """Run pgbench; what the process `more` takes meanwhile is counted, too."""
    as_nobody(BIN / "psql", "-h", place, "-U", "postgres", "-qc", "checkpoint", "postgres")
    before = spent(place, more)
    said = as_nobody(
        BIN / "pgbench", "-h", place, "-U", "postgres", "-c", 4, "-j", 2, "-T", seconds, "postgres"
    )
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


def fetched(place: Path, seconds: int) -> tuple[Run, int]:
    """The same while the log is fetched; also the bytes of it."""
    sizes: Queue[int] = multiprocessing.Queue()
    child = multiprocessing.Process(target=fetching, args=(place, sizes), daemon=True)
    child.start()
    sizes.get()
    found = transactions(place, seconds, child.pid)
    child.terminate()
    child.join()
    total = 0
    while not sizes.empty():
        total += sizes.get()
    return found, total


def main() -> int:
    """Measure, report, and judge."""
    rounds = int(sys.argv[1]) if len(sys.argv) > 1 else 7
    seconds = int(sys.argv[2]) if len(sys.argv) > 2 else 12
    rows: list[tuple[Run, Run, Run]] = []
    sizes: list[int] = []
    with tempfile.TemporaryDirectory(prefix="rave-bench-") as name, ExitStack() as stack:
        root = Path(name)
        root.chmod(0o755)
        (root / "spool").mkdir()
        shutil.chown(root / "spool", "nobody")
        plain = stack.enter_context(server(root / "plain"))
        slot = stack.enter_context(server(root / "slot"))
        command = f"archive_command='cp %p {root}/spool/%f'"
        archive = stack.enter_context(
            server(root / "archive", "archive_mode=on", "archive_timeout=240", f'"{command}"')
        )
        for _ in range(rounds + 1):
            first = transactions(plain, seconds)
            second, size = fetched(slot, seconds)
            rows.append((first, second, transactions(archive, seconds)))
            sizes.append(size)
    rows = rows[1:]  # the first round warms up
    costs = [second.cost / first.cost - 1 for first, second, _ in rows]
    figures: dict[str, Any] = {}
    for at, name in enumerate(("plain", "fetched", "archived")):
        figures[f"{name} a second"] = summary([row[at].rate for row in rows])
        figures[f"{name} milliseconds"] = summary([row[at].cost for row in rows])
    figures["fetched cost"] = summary(costs)
    figures["archived cost"] = summary([third.cost / one.cost - 1 for one, _, third in rows])
    figures["fetched bytes a second"] = summary([size / seconds for size in sizes[1:]])
    report("log", figures)
    return int(statistics.median(costs) > LIMIT)


if __name__ == "__main__":
    sys.exit(main())
