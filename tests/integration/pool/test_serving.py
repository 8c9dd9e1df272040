"""`rave pool` as it is used, in processes of its own; only machines are processes of this host."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import unix_connect

from rave_cli.errors import ExitCode
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.served import api_socket, served
from rave_cli.transcript import signing_key
from rave_cli.transcript.dsse import parse_envelope
from tests.unit.pool.serving.collectors import collecting
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

# Serves with a sandbox of this host instead of a machine, and without a template.
SERVER = """
from rave_cli import app
from rave_cli.flows import templates
from rave_cli.pool.agents import room, sandbox
from tests.integration.pool.pools import ProcessSandbox
templates.get = lambda *_words, **_named: None
sandbox.MachineSandbox = lambda *_words, **_named: ProcessSandbox()
# What a machine needs is asked of QEMU, once for each home.
room.need_mib = sandbox.need_mib = lambda *_words: 256
app.main(["pool", "serve", "--profile", "demo", "--base", "debian", "--memory", "256",
          "--metrics", __import__("os").environ["HOME"] + "/pool.prom"])
"""


class Server:
    """A process that serves the pool."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.start()

    def start(self) -> None:
        """Start it, and wait until it serves."""
        with self.log.open("ab") as log:
            self.child = subprocess.Popen([sys.executable, "-c", SERVER], stdout=log, stderr=log)
        until(lambda: self.child.poll() is not None or "serving" in self.log.read_text())
        assert served(), self.log.read_text()

    def end(self, number: int) -> int:
        """End it with a signal; return its exit code."""
        self.child.send_signal(number)
        code = self.child.wait(timeout=CEILING)
        self.log.write_text("")
        return code


@pytest.fixture
def server(home: Path) -> Iterator[Server]:
    found = Server(home / "server.log")
    yield found
    if found.child.poll() is None:
        found.end(signal.SIGKILL)


def rave(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "rave_cli", "pool", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=CEILING, check=False)


def redis_servers() -> list[str]:
    """Return the command lines of the redis-servers of this test's home."""
    mine = os.environ["XDG_RUNTIME_DIR"]
    argv = ["pgrep", "-af", "redis-server"]
    found = subprocess.run(argv, capture_output=True, text=True, check=False)
    return [line for line in found.stdout.splitlines() if mine in line]


def test_a_job_is_run_followed_and_shown(server: Server) -> None:
    done = rave("run", "--", "sh", "-c", "echo out; exit 7")
    assert (done.returncode, done.stdout) == (7, "out\n")
    (job,) = json.loads(rave("list", "--json").stdout)
    assert (job["state"], job["exitStatus"], job["attempt"]) == ("failure", 7, 1)
    assert rave("logs", job["job"][:4]).stdout == "out\n"
    done = rave("run", "--json", "--", "echo", "kept")
    assert json.loads(done.stdout)["stdout"] == "kept\n"
    assert "exit status 7" in server.log.read_text()
    assert "cicd_worker_count" in (Path.home() / "pool.prom").read_text()
    assert "exit status  7" in rave("show", job["job"]).stdout


def test_a_jobs_trace_reaches_the_collector_once_it_is_there(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting() as collector:
        port = int(collector.url.rpartition(":")[2])
    # Nobody listens there yet: jobs end all the same.
    monkeypatch.setenv("RAVE_OTLP_ENDPOINT", collector.url)
    monkeypatch.setenv("TRACEPARENT", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01")
    server = Server(home / "server.log")
    try:
        assert rave("run", "--", "true").returncode == 0
        (job,) = json.loads(rave("list", "--json").stdout)
        told = json.loads(rave("trace", job["job"], "--json").stdout)
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        with collecting(port) as collector:
            server.start()
            until(lambda: len(collector.spans) > 0)
    finally:
        server.end(signal.SIGTERM)
    assert collector.faults == []
    assert {span.trace_id.hex() for span in collector.spans} == {told["trace"]}
    assert [span.span_id.hex() for span in collector.spans] == [one["id"] for one in told["spans"]]
    names = [one["name"] for one in told["spans"]]
    assert names == ["RUN", "submit", "queue", "attempt", "restore", "command", "result"]
    shown = rave("trace", job["job"]).stdout.splitlines()
    assert shown[0] == f"job {job['job']} success, trace 4bf92f3577b34da6a3ce929d0e0e4736"
    assert [line.split()[2] for line in shown[2:]] == ["job", *names[1:]]


def test_what_has_no_exit_status_is_an_error_that_says_why(server: Server) -> None:
    done = rave("run", "--timeout", "0.2", "--json", "--", "sleep", "60")
    assert done.returncode == ExitCode.NOT_READY
    document = json.loads(done.stdout)
    assert (document["state"], document["stdout"]) == ("timeout", "")
    assert "ended as timeout: it took longer than 0.2 s" in document["error"]


def test_a_running_job_is_cancelled(server: Server) -> None:
    name = rave("submit", "--", "sleep", "60").stdout.strip()
    until(lambda: f"{name} running" in server.log.read_text())
    assert rave("cancel", name).returncode == 0
    done = rave("logs", name, "--follow")
    assert done.returncode == 0
    assert json.loads(rave("show", name, "--json").stdout)["state"] == "cancelled"


def test_a_drained_pool_lets_what_runs_come_to_its_end_and_nothing_begin(server: Server) -> None:
    name = rave("submit", "--", "sleep", "1").stdout.strip()
    until(lambda: f"{name} running" in server.log.read_text())
    assert "no job runs, and none begins" in rave("drain").stdout
    with open_store() as store:
        assert store.load(name).state == "success"
        (waits,) = store.accept([Work(("echo", "x"))])
        assert "draining" in rave("explain", waits.name).stdout
        assert store.load(waits.name).state == "waiting"
        status = json.loads(rave("status", "--json").stdout)
        assert (status["draining"], status["server"]["working"]) == (True, 0)
        assert status["oldestWaiting"]["job"] == waits.name
        assert rave("drain", "--end").returncode == 0
        until(lambda: store.load(waits.name).over)
        assert rave("scale", "5").returncode == 0
        many = store.accept([Work(("sleep", "60"))] * 6)
        until(lambda: len(store.running()) == 5)
        last = next(job for job in many if store.load(job.name).state == "waiting")
        until(lambda: "cap" in rave("explain", last.name).stdout)
        lines = rave("status").stdout
        assert "5 jobs at a time" in lines
        assert "5 running" in lines


def test_a_job_is_proven_and_tried_again(server: Server, home: Path) -> None:
    name = rave("submit", "--", "sh", "-c", "echo out; exit 3").stdout.strip()
    rave("logs", "--follow", name)
    key = str(signing_key().public_file)
    saved = home / "proof.json"
    done = rave("verify", name[:6], "--key", key, "--save", str(saved))
    assert done.returncode == 0, done.stderr
    assert f"job {name} is proven: failure" in done.stdout
    statement = json.loads(parse_envelope(saved.read_bytes()).payload)
    assert statement["predicate"]["exitStatus"] == 3
    assert rave("verify", name).returncode == ExitCode.USAGE
    with open_store() as store:
        store._db.execute("UPDATE jobs SET exit_status = 0, state = 'success'")
        refused = rave("verify", name, "--key", key, "--json")
        assert refused.returncode == ExitCode.VERIFICATION
        assert "mismatch" in json.loads(refused.stdout)["error"]
        (again,) = json.loads(rave("retry", name, "--json").stdout)
        assert again["again"] == name
        until(lambda: store.load(again["job"]).over)
        assert store.load(again["job"]).exit_status == 3
    assert rave("dead").stdout == ""


def test_one_process_serves_a_pool(server: Server) -> None:
    done = rave("serve", "--profile", "demo", "--base", "debian")
    assert done.returncode == ExitCode.HOST
    assert "served already" in done.stderr


def test_where_nobody_serves_a_job_waits_and_nobody_waits_for_it(home: Path) -> None:
    submitted = rave("submit", "--", "true")
    assert submitted.returncode == 0
    assert "nobody serves" in submitted.stderr
    assert rave("run", "--", "true").returncode == ExitCode.NOT_READY
    followed = rave("logs", "--follow", submitted.stdout.strip())
    assert followed.returncode == ExitCode.NOT_READY
    assert len(json.loads(rave("list", "--json").stdout)) == 1


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_in_order_and_what_ran_waits_again(server: Server, number: int) -> None:
    name = rave("submit", "--", "sleep", "60").stdout.strip()
    until(lambda: f"{name} running" in server.log.read_text())
    assert server.end(number) == 128 + number
    assert redis_servers() == []
    with open_store() as store:
        job = store.load(name)
        assert (job.state, job.attempt, job.failed, job.lost) == ("waiting", 1, 0, 0)


def test_a_kill_ends_its_server_too_and_the_next_goes_on(server: Server) -> None:
    with open_store() as store:
        jobs = store.accept([Work(("sh", "-c", "sleep 0.2; echo x"))] * 6)
        until(lambda: "running" in server.log.read_text())
        assert server.end(signal.SIGKILL) == -signal.SIGKILL
        until(lambda: not redis_servers())
        server.start()
        until(lambda: all(store.load(job.name).over for job in jobs))
        ended = [store.load(job.name) for job in jobs]
        assert {job.state for job in ended} == {"success"}
        assert [[piece.data for piece in store.output(job)] for job in ended] == [[b"x\n"]] * 6
    assert server.end(signal.SIGTERM) == 128 + signal.SIGTERM


def test_its_redis_is_killed_and_it_goes_on(server: Server) -> None:
    (line,) = redis_servers()
    os.kill(int(line.split()[0]), signal.SIGKILL)
    assert rave("run", "--", "echo", "x").stdout == "x\n"
    assert len(redis_servers()) == 1


def test_a_job_is_run_over_the_api_and_its_changes_are_told(server: Server) -> None:
    place = str(api_socket())
    with unix_connect(place, "ws://pool/v1/events", compression=None) as stream:
        done = rave("run", "--endpoint", f"unix:{place}", "--", "sh", "-c", "echo out; exit 7")
        assert (done.returncode, done.stdout) == (7, "out\n")
        told: list[str] = []
        while "failure" not in told:
            told.append(json.loads(stream.recv(timeout=CEILING))["job"]["state"])
        # What began and ended between two looks is told once.
        assert told in (["running", "failure"], ["failure"])
        assert server.end(signal.SIGTERM) == 128 + signal.SIGTERM
        with pytest.raises(ConnectionClosed):
            stream.recv(timeout=CEILING)
    assert not api_socket().exists()


def test_one_that_was_killed_leaves_no_socket_in_the_way(server: Server) -> None:
    server.end(signal.SIGKILL)
    assert api_socket().exists()
    server.start()
    assert rave("list", "--json", "--endpoint", f"unix:{api_socket()}").stdout == "[]\n"
