"""The guest's side with the real services: what is kept comes back, or what was there stays."""

from __future__ import annotations

import io
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_guest.services import postgresql
from rave_guest.state import keeping, marks, wire
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
        found.mark("first")
        yield found


def kept(services: Guest) -> bytes:
    out = io.BytesIO()
    place = services.place / "spool"
    keeping.send(services.plan, wire.Writer(out), instance="1" * 32, spool=str(place))
    assert not any(place.iterdir())
    return out.getvalue()


def restore(services: Guest) -> Restore:
    return Restore(services.plan, str(services.place / "restore"), services)  # type: ignore[arg-type]


ALL = ("postgresql", "redis", "nats", "webhook-dispatcher")


def test_everything_comes_back_and_nothing_else_is_left(services: Guest) -> None:
    services.mark("kept")
    stream = kept(services)
    services.mark("later")
    names = restore(services).take(io.BytesIO(stream), [])
    assert sorted(names) == sorted(ALL)
    assert services.marks() == {**dict.fromkeys(ALL, "kept"), "consumer": "reader"}
    assert not (services.place / "restore").exists()


def test_whoever_has_a_database_stands_still_with_it(services: Guest) -> None:
    services.mark("kept")
    stream = kept(services)
    services.mark("later")
    services.calls.clear()
    assert restore(services).take(io.BytesIO(stream), ["postgresql"]) == ["postgresql"]
    found = services.marks()
    assert (found["postgresql"], found["redis"], found["nats"]) == ("kept", "later", "later")
    assert services.calls[:2] == ["stop postgresql canaille", "start postgresql"]


def test_one_that_finds_nothing_of_its_own_is_named_and_keeps_nobody_back(
    services: Guest,
) -> None:
    services.mark("kept")
    stream = kept(services)
    services.mark("later")
    services.poor = True
    done = restore(services)
    try:
        done.take(io.BytesIO(stream), ["postgresql"])
    finally:
        services.poor = False
    assert done.troubled == ["canaille"]
    assert services.marks()["postgresql"] == "kept"


def test_a_cluster_that_does_not_start_is_taken_back(
    services: Guest, monkeypatch: pytest.MonkeyPatch
) -> None:
    services.mark("kept")
    stream = kept(services)
    services.mark("later")
    put = postgresql.put

    def damaged(folder: str, target: str, ours: str) -> None:
        put(folder, target, ours)
        Path(target, "global/pg_control").write_bytes(b"")

    monkeypatch.setattr(postgresql, "put", damaged)
    with pytest.raises(subprocess.CalledProcessError):
        restore(services).take(io.BytesIO(stream), [])
    assert set(services.marks().values()) == {"later", "reader"}


def test_whoever_makes_what_is_missing_is_started_behind_what_is_put_back(
    services: Guest,
) -> None:
    services.mark("kept")
    stream = kept(services)
    services.mark("later")
    services.calls.clear()
    services.eager = True
    try:
        restore(services).take(io.BytesIO(stream), [])
    finally:
        services.eager = False
    assert services.marks() == {**dict.fromkeys(ALL, "kept"), "consumer": "reader"}
    starts = [call for call in services.calls if call.startswith("start")]
    assert starts[0] == "start nats-server"
    assert "webhook-dispatcher" in starts[1]


def test_marks_are_put_kept_restored_and_taken_away(services: Guest) -> None:
    services.mark("kept")
    put = marks.carried_out(services.plan, {"put": "0123456789abcdef"})
    assert set(put) == set(ALL)
    assert {one["count"] for one in put.values()} == {marks.LINES}
    assert len({one["sha256"] for one in put.values()}) == 1, "the same lines in each"
    stream = kept(services)
    other = marks.carried_out(services.plan, {"put": "f" * 16})
    assert all(other[name] != put[name] for name in ALL)
    restore(services).take(io.BytesIO(stream), [])
    assert marks.carried_out(services.plan, {"read": True}) == put
    gone = marks.carried_out(services.plan, {"remove": True})
    assert {one["count"] for one in gone.values()} == {0}
    assert services.marks() == {**dict.fromkeys(ALL, "kept"), "consumer": "reader"}
    # Twice is no fault.
    assert marks.carried_out(services.plan, {"remove": True}) == gone
