"""Several hosts: processes that serve, each with a home of its own, on one real redis-server with
TLS and a password. Only machines are processes of this host.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import redis

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.files import artifacts
from rave_cli.pool.jobs.store import JobStore
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.agents.agent import Attempt
    from rave_cli.pool.agents.carrying import Carrier
    from rave_cli.pool.agents.lending import SecretLending
    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.queue.streams import Task

PASSWORD = "correct-horse-battery"

# Seconds. Whoever is killed is missed so soon; whoever is slow is not.
LEASE = 6.0

PRELUDE = f"""
import sys
from rave_cli import app
from rave_cli.flows import templates
from rave_cli.pool.agents import room, sandbox
from rave_cli.pool.queue import streams
from tests.integration.pool.hosts import FolderSandbox
streams.Queue.__init__.__kwdefaults__["lease"] = {LEASE}
streams.RESTS = 0.5
templates.get = lambda *_words, **_named: None
sandbox.MachineSandbox = lambda *_words, **named: FolderSandbox(named["files"], named["lends"])
# What a machine needs is asked of QEMU, once for each home.
room.need_mib = sandbox.need_mib = lambda *_words: 256
app.main(["pool", *sys.argv[1:]])
"""


class FolderSandbox:
    """Runs a task as a process in a folder of its own; it is given files and secrets, and leaves
    files.
    """

    def __init__(self, files: Carrier, lends: SecretLending) -> None:
        self._files, self._lends = files, lends

    def prepare(self) -> None:
        """A process can begin at once."""

    def run(self, task: Task, attempt: Attempt) -> int:
        """Run it and return its exit status."""
        with tempfile.TemporaryDirectory() as text:
            return self._run(Path(text), task, attempt)

    def _run(self, place: Path, task: Task, attempt: Attempt) -> int:
        secrets = place / "secrets"
        for name, value in self._lends.secrets(task).items():
            (secrets / name).parent.mkdir(parents=True, exist_ok=True)
            (secrets / name).write_bytes(value)
        if task.work.given is not None:
            fd = self._files.open_input(task, attempt)
            subprocess.run(["tar", "-x", "-C", place], stdin=fd, check=True)
            os.close(fd)
        told = {"RAVE_JOB": task.name, "RAVE_ATTEMPT": str(task.attempt)}
        told["RAVE_SECRETS"] = str(secrets)
        child = subprocess.Popen(
            task.work.command, stdout=subprocess.PIPE, bufsize=0, cwd=place, env=os.environ | told
        )
        with child, attempt.ended_by(child.kill):
            attempt.begins("1" * 64, "2" * 64)
            assert child.stdout is not None
            while data := child.stdout.read(65536):
                attempt.say(1, data)
            status = child.wait()
            if attempt.broken_off:
                raise RaveError("it was ended", exit_code=ExitCode.NOT_READY)
            if task.work.artifacts:
                kept = artifacts.place_of(task.name, task.attempt)
                for path in task.work.artifacts:
                    (kept / path).parent.mkdir(parents=True)
                    subprocess.run(["cp", "-a", place / path, kept / path], check=True)
                left = artifacts.found_in(kept)
                executable = artifacts.executable(kept, left)
                self._files.deliver(task, attempt, left)
                attempt.keeps(left, executable)
        return status


class SharedServer:
    """A redis-server with TLS and a password."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.certificate = place / "cert.pem"
        subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
        argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                "-nodes", "-days", "2", *subject, "-keyout", str(place / "key.pem"),
                "-out", str(self.certificate)]  # fmt: skip
        subprocess.run(argv, check=True, capture_output=True)
        self.port = 20000 + os.getpid() % 20000
        self.start()
        self.client = redis.Redis(
            unix_socket_path=str(place / "s"), password=PASSWORD, protocol=2, socket_timeout=5
        )
        until(self._answers)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def start(self) -> None:
        """Start it, on what it has written down."""
        (self.place / "conf").write_text(
            f"port 0\ntls-port {self.port}\nbind 127.0.0.1\ntls-cert-file {self.certificate}\n"
            f"tls-key-file {self.place}/key.pem\ntls-auth-clients no\nrequirepass {PASSWORD}\n"
            f"unixsocket {self.place}/s\ndir {self.place}\nappendonly yes\nsave ''\n"
            "maxmemory 64mb\nmaxmemory-policy noeviction\n"
        )
        argv = ["redis-server", str(self.place / "conf")]
        with (self.place / "log").open("ab") as log:
            self.child = subprocess.Popen(argv, stdout=log, stderr=log)

    @property
    def url(self) -> str:
        """Its address, with its password."""
        return f"rediss://:{PASSWORD}@localhost:{self.port}/0?ssl_ca_certs={self.certificate}"

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.child.send_signal(number)

    def kill(self) -> None:
        """Kill it, and start it again."""
        self.child.kill()
        self.child.wait()
        self.start()


class Host:
    """A host: a home, and a process that serves in it."""

    def __init__(self, home: Path, server: SharedServer) -> None:
        home.mkdir()
        self.home, self.log = home, home / "log"
        self.log.touch()
        self.url = home / "redis.url"
        self.url.write_text(server.url + "\n")
        self.url.chmod(0o600)
        run = home / "run"
        run.mkdir(mode=0o700)
        self.env = {name: text for name, text in os.environ.items() if not name.startswith("XDG_")}
        self.env |= {"HOME": str(home), "XDG_RUNTIME_DIR": str(run)}
        # One that is over, until it is started.
        self.child = subprocess.Popen(["true"])
        self.child.wait()

    def start(self, *words: str, verb: str = "serve") -> Host:
        """Let it serve, or work."""
        argv = [sys.executable, "-c", PRELUDE, verb, "--profile", "demo", "--base", "debian",
                "--memory", "256", "--redis-file", str(self.url), *words]  # fmt: skip
        self.log.write_text("")
        with self.log.open("ab") as log:
            self.child = subprocess.Popen(argv, stdout=log, stderr=log, env=self.env)
        return self

    def ready(self) -> Host:
        """Wait until it serves."""
        until(lambda: self.ended() or "serving the pool" in self.log.read_text(), pause=0.1)
        assert not self.ended(), self.log.read_text()
        return self

    def ended(self) -> bool:
        """Whether its process has come to its end."""
        return self.child.poll() is not None

    def kill(self, number: int = signal.SIGKILL) -> int:
        """End it; return its exit code."""
        self.child.send_signal(number)
        return self.child.wait(timeout=CEILING)

    def rave(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run a verb of the pool on it."""
        argv = [sys.executable, "-m", "rave_cli", "pool", *words]
        return subprocess.run(
            argv, env=self.env, capture_output=True, text=True, timeout=CEILING, check=False
        )

    def submit(self, *words: str) -> str:
        """Submit a job; return its name."""
        done = self.rave("submit", "--json", *words)
        assert done.returncode == 0, done.stderr
        return str(json.loads(done.stdout)["job"])

    @property
    def pool(self) -> Path:
        """Where its pool is."""
        return self.home / ".local/share/rave/pool"

    def store(self) -> JobStore:
        """Open its store."""
        return JobStore(self.pool / "jobs.sqlite")

    def jobs(self) -> list[Job]:
        """Return its jobs."""
        with self.store() as store:
            return store.newest(1000)

    def job(self, name: str) -> Job:
        """Return one of its jobs."""
        with self.store() as store:
            return store.load(name)

    def over(self, *names: str) -> None:
        """Wait until jobs are over: those that are named, or all."""
        with self.store() as store:
            until(
                lambda: all(
                    store.load(name).over
                    for name in names or [job.name for job in store.newest(1000)]
                ),
                pause=0.1,
            )


@contextmanager
def hosts(server: SharedServer, place: Path, *names: str) -> Iterator[list[Host]]:
    """Have hosts of these names; none serves yet."""
    found = [Host(place / name, server) for name in names]
    try:
        yield found
    finally:
        for host in found:
            if not host.ended():
                host.kill()
