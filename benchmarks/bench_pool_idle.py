"""What a pool takes that has nothing to do: memory, and processor.

    python -m benchmarks.bench_pool_idle [SECONDS] [URL]

`rave pool serve` with both doors open (its socket, and TLS), its redis-server, two agents, no job;
only that no template is made, which needs an image. With URL, on a Redis server that others share.
Memory is what the processes have in the page table, shared pages by halves (Pss); processor is what
they took in so many seconds, after as many in which they came to rest.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECONDS = 10.0

SERVER = """
import sys
from rave_cli import app
from rave_cli.flows import templates
templates.get = lambda *_words, **_named: None
app.main(["pool", "serve", "--profile", "demo", "--base", "debian", *sys.argv[1:]])
"""


def main(seconds: float, url: str | None) -> None:
    """Measure, and print what was found."""
    with tempfile.TemporaryDirectory(prefix="rave-idle-") as home:
        for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            os.environ[name] = home
        words = ["--listen", "127.0.0.1:0", *(["--redis", url] if url else [])]
        with (Path(home) / "log").open("wb") as log:
            server = subprocess.Popen(
                [sys.executable, "-c", SERVER, *words], stdout=log, stderr=log
            )
        while "serving the pool" not in (Path(home) / "log").read_text():
            if server.poll() is not None:
                raise SystemExit((Path(home) / "log").read_text())
            time.sleep(0.1)
        time.sleep(seconds)
        there = {"serve": server.pid} | ({} if url else {"redis-server": _child(server.pid)})
        before = {name: _ticks(pid) for name, pid in there.items()}
        time.sleep(seconds)
        tick = os.sysconf("SC_CLK_TCK")
        for name, pid in there.items():
            took = (_ticks(pid) - before[name]) / tick
            pss, rss = (round(_kib(pid, what) / 1024, 1) for what in ("Pss", "Rss"))
            percent = round(100 * took / seconds, 2)
            found = {"process": name, "pss_mib": pss, "rss_mib": rss, "processor_percent": percent}
            print(json.dumps(found), flush=True)
        server.terminate()
        server.wait()


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def _kib(pid: int, what: str) -> int:
    """Return the KiB of a process: Pss, or Rss, which counts shared pages in full."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{what}:"))


def _ticks(pid: int) -> int:
    words = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])


if __name__ == "__main__":
    main(float(sys.argv[1]) if sys.argv[1:] else SECONDS, sys.argv[2] if sys.argv[2:] else None)
