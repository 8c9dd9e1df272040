"""A guest's stateful services without the guest: real servers, whose state its code keeps."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
from contextlib import closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any

from rave_guest.refusal import Refused
from rave_guest.wire.nats import Nats
from rave_guest.wire.postgres import ask
from rave_guest.wire.redis import Redis
from tests import postgres
from tests.integration.platform.services import answers, free_port, nats_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

PASSWORD = "hunter2"
UNITS = ("postgresql", "redis-server", "nats-server", "webhook-dispatcher")


class Guest:
    """The services, their plan, and what is marked in them."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.ports = {name: free_port() for name in ("postgresql", "redis", "nats")}
        self.running: dict[str, Any] = {}
        self.secret = place / "password"
        self.secret.write_text(PASSWORD)
        self.calls: list[str] = []
        self.poor = False  # whether whoever has a database finds nothing of its own there
        self.eager = False  # whether somebody makes the stream as soon as the server is there

    def path(self, service: str) -> Path:
        return self.place / {"postgresql": "pg/main", "nats": "nats/stream"}.get(service, service)

    @property
    def plan(self) -> dict[str, Any]:
        def service(name: str, unit: str, port: str, **more: Any) -> dict[str, Any]:
            state = {"path": str(self.path(name)), "before": more.pop("before", [])}
            ports = [{"name": port, "port": self.ports.get(name, 1)}]
            return {
                "title": name, "units": [unit], "ports": ports, "checks": [], "state": state,
                "deadlineSeconds": 60, "secrets": [], **more,
            }  # fmt: skip

        return {
            "services": {
                "canaille": {
                    "units": ["canaille"],
                    "state": None,
                    "checks": [],
                    "secrets": [],
                    "deadlineSeconds": 60,
                },
                "nats": service("nats", "nats-server", "client"),
                "postgresql": service("postgresql", "postgresql", "postgresql"),
                "redis": service("redis", "redis-server", "redis"),
                "webhook-dispatcher": service(
                    "webhook-dispatcher", "webhook-dispatcher", "web", before=["nats"]
                ),
            },
            "secrets": {
                name: {"path": str(self.secret)} for name in ("redis/password", "nats/password")
            }
            | {"none": {"path": "/nonexistent"}},
            "databases": [{"service": "canaille", "unit": "set-canaille", "secret": "none"}],
            "facts": {"nats": {"user": "rave"}},
        }

    def begin(self) -> None:
        """Make what each service keeps, and start them."""
        data = self.path("postgresql")
        data.parent.mkdir(parents=True)
        shutil.chown(data.parent, "nobody")
        self._as_nobody("initdb", "-D", data, "-U", "postgres", "-A", "trust", "-N")
        (data / "pg_hba.conf").write_text("local all all trust\nlocal replication all trust\n")
        self.path("redis").mkdir()
        self.path("nats").mkdir(parents=True)
        self.path("webhook-dispatcher").mkdir()
        with closing(sqlite3.connect(self.path("webhook-dispatcher") / "events.db")) as store:
            store.executescript("pragma journal_mode=wal; create table marks(word text);")
        self.start(list(UNITS), 0)

    def stop(self, names: list[str]) -> None:
        self.calls.append(f"stop {' '.join(names)}")
        for name in names:
            if name == "postgresql":
                with suppress(subprocess.CalledProcessError):
                    self._control("-m", "fast", "stop")
            elif name == "redis-server" and name in self.running:
                child = self.running.pop(name)
                child.terminate()
                child.wait()
            elif name == "nats-server" and name in self.running:
                self.running.pop(name).end(15)

    def start(self, names: list[str], _seconds: float) -> None:
        self.calls.append(f"start {' '.join(names)}")
        if names == ["canaille"] and self.poor:
            raise Refused("services", "it does not start")
        for name in names:
            if name == "postgresql":
                self._control("-l", f"{self.place}/pg/log", "-o",
                              f"-k {self.place}/pg -p {self.ports[name]} -c listen_addresses= -F",
                              "start")  # fmt: skip
            elif name == "redis-server":
                self.running[name] = self._redis()
            elif name == "nats-server":
                self.running[name] = nats_server(self.place / "nats", self.ports["nats"])
                self.running[name].start()
                if self.eager:
                    self._make_stream()

    def _redis(self) -> subprocess.Popen[bytes]:
        port = self.ports["redis"]
        child = subprocess.Popen(
            ["redis-server", "--port", str(port), "--dir", self.path("redis"), "--appendonly",
             "yes", "--requirepass", PASSWORD, "--save", ""],
            stdout=subprocess.DEVNULL,
        )  # fmt: skip
        until(lambda: answers(port))
        return child

    def _control(self, *words: str) -> None:
        self._as_nobody("pg_ctl", "-D", self.path("postgresql"), "-w", *words)

    def _as_nobody(self, program: str, *words: object) -> None:
        subprocess.run(
            [postgres.program(program), *map(str, words)], user="nobody", group="nogroup",
            extra_groups=[], cwd=self.path("postgresql").parent, check=True,
            stdout=subprocess.DEVNULL,
        )  # fmt: skip

    def end(self) -> None:
        self.stop(list(UNITS))

    def mark(self, word: str) -> None:
        """Write a word into each service."""
        self.sql(f"drop table if exists marks; create table marks as select '{word}' as word")
        with self.redis() as redis:
            redis.ask("SET", "mark", word)
        with self.nats() as nats:
            if "MARKS" not in nats.streams():
                self._make_stream()
                nats.jetstream("CONSUMER.DURABLE.CREATE.MARKS.reader", {
                    "stream_name": "MARKS",
                    "config": {"durable_name": "reader", "ack_policy": "explicit"},
                })  # fmt: skip
            nats.request("marks", word.encode())
        with closing(sqlite3.connect(self.path("webhook-dispatcher") / "events.db")) as store:
            store.execute("insert into marks values (?)", [word])
            store.commit()

    def _make_stream(self) -> None:
        config = {"name": "MARKS", "subjects": ["marks"], "storage": "file"}
        with self.nats() as nats:
            nats.jetstream("STREAM.CREATE.MARKS", config)

    def marks(self) -> dict[str, str]:
        """Return the last word of each service."""
        import base64

        with self.redis() as redis:
            word = redis.ask("GET", "mark")
        with self.nats() as nats:
            last = nats.jetstream("STREAM.MSG.GET.MARKS", {"last_by_subj": "marks"})
            consumer = nats.jetstream("CONSUMER.INFO.MARKS.reader")
        with closing(sqlite3.connect(self.path("webhook-dispatcher") / "events.db")) as store:
            (stored,) = store.execute("select word from marks order by rowid desc").fetchone()
        return {
            "postgresql": self.sql("select word from marks"),
            "redis": word.decode() if isinstance(word, bytes) else "",
            "nats": base64.b64decode(last["message"]["data"]).decode(),
            "consumer": str(consumer["name"]),
            "webhook-dispatcher": stored,
        }

    def sql(self, text: str) -> str:
        try:
            return ask(text, 30, port=self.ports["postgresql"])
        except ValueError:
            return ""

    def redis(self) -> Redis:
        redis = Redis(30, self.ports["redis"])
        redis.ask("AUTH", PASSWORD)
        return redis

    def nats(self) -> Nats:
        return Nats(30, user="rave", password=PASSWORD, port=self.ports["nats"])


@contextmanager
def guest(place: Path) -> Iterator[Guest]:
    """Start the services; end them afterwards."""
    place.chmod(0o755)
    found = Guest(place)
    try:
        found.begin()
        yield found
    finally:
        found.end()
