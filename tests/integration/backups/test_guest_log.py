"""PostgreSQL's log with a real server: fetched bit by bit, and a cluster recovered to a time."""

from __future__ import annotations

import hashlib
import io
import json
import shutil
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import backups
from rave_guest.refusal import Refused
from rave_guest.state import keeping, log, wire
from rave_guest.state.putting import Restore
from tests import postgres
from tests.integration.backups.guest import Guest, guest

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = [
    pytest.mark.integration,
    *postgres.NEEDED,
    pytest.mark.skipif(not shutil.which("redis-server"), reason="no redis-server on this host"),
]

NOTHING = {"chain": "", "end": "", "tail": "", "until": 0, "allowed": 900, "stop": False}


@pytest.fixture(scope="module")
def services() -> Iterator[Guest]:
    with (
        tempfile.TemporaryDirectory(prefix="rave-kept-") as name,
        pytest.MonkeyPatch.context() as patch,
        guest(Path(name)) as found,
    ):
        patch.setattr(
            "rave_guest.wire.postgres.socket_of", lambda port: f"{name}/pg/.s.PGSQL.{port}"
        )
        patch.setattr(backups, "LOG_PLACE", f"{name}/log-kept.json")
        found.mark("first")
        yield found


class Fetched:
    """What a host has of a log."""

    def __init__(self, services: Guest) -> None:
        self.services, self.data = services, b""
        self.facts: dict[str, Any] = {}
        self.start = ""

    @property
    def asked(self) -> dict[str, Any]:
        if not self.data:
            return NOTHING
        tail = hashlib.sha256(self.data[-log.TAIL :]).hexdigest()
        said = {name: self.facts[name] for name in ("chain", "end")}
        return NOTHING | said | {"tail": tail, "until": 1_800_000_000}

    def more(self, **more: object) -> bool:
        """Fetch what there is; returns whether it goes on."""
        out = io.BytesIO()
        log.answer(self.services.plan, wire.Writer(out), {**self.asked, **more}, "1" * 32)
        items = {item.name: b"".join(item.pieces) for item in wire.read(io.BytesIO(out.getvalue()))}
        facts = json.loads(items[log.FACTS])
        goes_on: bool = facts["chain"] == self.facts.get("chain")
        if goes_on:
            assert facts["start"] == self.facts["end"]
        else:
            self.data, self.start = b"", facts["start"]
        self.data, self.facts = self.data + items[log.BYTES], facts
        assert len(self.data) == log.position(facts["end"]) - log.position(self.start)
        return goes_on

    def behind(self, stream: bytes, at: str) -> bytes:
        """Return a backup with the log behind it, up to a time."""
        out = io.BytesIO()
        writer = wire.Writer(out)
        writer.begin("1" * 32)
        for item in wire.read(io.BytesIO(stream)):
            writer.item(item.service, item.name, item.pieces)
        facts = json.dumps(self.facts | {"start": self.start, "at": at}).encode()
        writer.item("postgresql", log.FACTS, [facts])
        writer.item("postgresql", log.BYTES, [self.data])
        writer.whole()
        return out.getvalue()


def kept(services: Guest) -> bytes:
    out = io.BytesIO()
    keeping.send(
        services.plan, wire.Writer(out), instance="1" * 32, spool=str(services.place / "spool")
    )
    return out.getvalue()


def restore(services: Guest, stream: bytes) -> None:
    done = Restore(services.plan, str(services.place / "restore"), services)  # type: ignore[arg-type]
    done.take(io.BytesIO(stream), ["postgresql"])


def now(services: Guest) -> str:
    return services.sql(f"select {log.NOW}")


def test_a_cluster_comes_back_as_of_a_time(services: Guest) -> None:
    fetched = Fetched(services)
    assert not fetched.more()
    base = kept(services)
    services.mark("before")
    assert fetched.more()
    # More than one file of the log.
    services.sql("create table much as select repeat('x', 100) from generate_series(1, 300000)")
    services.mark("wanted")
    at = now(services)
    time.sleep(0.01)
    services.mark("after")
    assert fetched.more()
    services.mark("lost")
    restore(services, fetched.behind(base, at))
    assert services.marks()["postgresql"] == "wanted"
    assert services.sql("select count(*) from much") == "300000"
    # It takes writes, and nothing of the recovery is left.
    assert services.sql("select pg_is_in_recovery()") == "f"
    settings = services.path("postgresql") / log.CONF
    assert "recovery" not in settings.read_text()
    # It is another cluster than the one that the host fetched of.
    assert not fetched.more()
    assert fetched.facts["timeline"] == 2


def test_the_last_moment_that_was_fetched_can_be_reached(services: Guest) -> None:
    fetched = Fetched(services)
    fetched.more()
    base = kept(services)
    services.mark("wanted")
    fetched.more()
    services.mark("after")
    restore(services, fetched.behind(base, fetched.facts["until"]))
    assert services.marks()["postgresql"] == "wanted"


def test_a_log_that_does_not_reach_the_backup_is_refused(services: Guest) -> None:
    base = kept(services)
    services.mark("between")
    services.sql("select pg_switch_wal()")
    services.mark("between")
    services.sql("checkpoint")
    fetched = Fetched(services)
    fetched.more()
    services.mark("later")
    with pytest.raises(Refused, match="something between is lost"):
        restore(services, fetched.behind(base, fetched.facts["until"]))
    assert services.marks()["postgresql"] == "later"


def test_a_log_that_was_given_up_begins_anew(services: Guest) -> None:
    fetched = Fetched(services)
    fetched.more()
    # What a host that stays away leaves: PostgreSQL takes the slot's log away.
    services.sql("alter system set max_slot_wal_keep_size = '1MB'")
    services.sql("select pg_reload_conf()")
    for _ in range(4):
        services.sql("select pg_logical_emit_message(false, 'x', repeat('x', 1000))")
        services.sql("select pg_switch_wal()")
    services.sql("checkpoint")
    assert services.sql("select wal_status from pg_replication_slots") == "lost"
    assert not fetched.more()
    assert services.sql("select count(*) from pg_replication_slots") == "1"
    services.sql("alter system reset max_slot_wal_keep_size")
    services.sql("select pg_reload_conf()")


def test_a_log_that_is_another_than_the_host_has_begins_anew(services: Guest) -> None:
    fetched = Fetched(services)
    fetched.more()
    assert fetched.more()
    fetched.data = fetched.data[:-1] + b"?"
    assert not fetched.more()


def test_who_looks_from_inside_sees_how_much_the_host_has(services: Guest) -> None:
    place = Path(backups.LOG_PLACE)
    place.unlink(missing_ok=True)
    fetched = Fetched(services)
    fetched.more()
    assert not place.exists(), "the host has nothing before it says so"
    fetched.more()
    assert json.loads(place.read_text()) == {"at": 1_800_000_000, "due": 1_800_000_900}
    log.answer(services.plan, wire.Writer(io.BytesIO()), NOTHING | {"stop": True}, "1" * 32)
    assert services.sql("select count(*) from pg_replication_slots") == "0"
    assert not place.exists()
