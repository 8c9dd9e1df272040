"""How many jobs a second the pool's API takes in durably, and how soon each is acknowledged.

    python -m benchmarks.bench_pool_api [SECONDS]

The API as `rave pool serve` has it, in a process of its own, over a new store on this disk (SQLite,
synchronous=FULL), asked over its socket by processes of this host; nobody takes the jobs.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rave_cli.pool.jobs.store import open_store

SECONDS = 5.0

# Seconds in which the submitters are loaded.
LOADED = 4.0

# Submitters at a time, and jobs in each submission.
WAYS = ((1, 1), (8, 1), (32, 1), (1, 100), (4, 100))

SERVER = """
import sys
from rave_cli.pool.api.events import JobFeed
from rave_cli.pool.serving.metrics import PoolMetrics
from rave_cli.pool.api.listening import listening
with listening(JobFeed(), PoolMetrics("demo")) as (endpoint,):
    print(endpoint, flush=True)
    sys.stdin.read()
"""


def submit(path: str, jobs: int, until: float) -> list[float]:
    """Submit again and again, over one connection; return the seconds that each took."""
    body = json.dumps({"jobs": [{"command": ["true"]}] * jobs}).encode()
    head = f"POST /v1/jobs HTTP/1.1\r\nHost: pool\r\nContent-Length: {len(body)}\r\n\r\n"
    asked, took = head.encode() + body, []
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream:
        stream.connect(path)
        answers = stream.makefile("rb")
        while time.monotonic() < until:
            began = time.perf_counter()
            stream.sendall(asked)
            status = answers.readline()
            if b" 201 " not in status:
                raise SystemExit(f"refused: {status!r} {answers.read(500)!r}")
            size = 0
            while (line := answers.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    size = int(line.split(b":")[1])
            answers.read(size)
            took.append(time.perf_counter() - began)
    return took


def measure(path: str, submitters: int, jobs: int, seconds: float) -> dict[str, float]:
    """Submit by so many processes; return jobs a second and the seconds of an answer."""
    argv = [sys.executable, "-m", "benchmarks.bench_pool_api", "--submitter", path, str(jobs)]
    # By then each has been loaded.
    began = time.monotonic() + LOADED
    until = began + seconds
    children = [
        subprocess.Popen([*argv, str(began), str(until)], stdout=subprocess.PIPE, text=True)
        for _ in range(submitters)
    ]
    took = sorted(one for child in children for one in json.loads(child.communicate()[0]))
    rate = len(took) * jobs / seconds
    return {
        "submitters": submitters, "together": jobs, "jobs_per_second": round(rate),
        "p50_ms": round(1e3 * took[len(took) // 2], 1),
        "p99_ms": round(1e3 * took[len(took) * 99 // 100], 1), "answers": len(took),
    }  # fmt: skip


def main(words: list[str]) -> None:
    """Measure each way, and print what was found."""
    if words[:1] == ["--submitter"]:
        path, jobs, began, until = words[1], int(words[2]), float(words[3]), float(words[4])
        time.sleep(max(0.0, began - time.monotonic()))
        print(json.dumps(submit(path, jobs, until)))
        return
    seconds = float(words[0]) if words else SECONDS
    with tempfile.TemporaryDirectory(prefix="rave-bench-") as home:
        for name in ("HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "XDG_STATE_HOME"):
            os.environ[name] = home
        argv = [sys.executable, "-c", SERVER]
        server = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        if server.stdout is None:
            raise SystemExit("it was given a pipe")
        path = server.stdout.readline().strip().removeprefix("unix:")
        load = Path("/proc/loadavg").read_text().split()[0]
        for submitters, jobs in WAYS:
            print(json.dumps(measure(path, submitters, jobs, seconds)), flush=True)
        rss = next(
            line.split()[1]
            for line in Path(f"/proc/{server.pid}/status").read_text().splitlines()
            if line.startswith("VmHWM")
        )
        server.communicate("")
        with open_store() as store:
            waiting = store.counts()["waiting"]
        print(json.dumps({"accepted": waiting, "peak_mib": int(rss) >> 10, "load_before": load}))


if __name__ == "__main__":
    main(sys.argv[1:])
