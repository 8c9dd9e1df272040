"""Files between two hosts: how they go, how little of them the server has, and what is refused."""

from __future__ import annotations

import io
import tarfile
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import redis

from rave_cli.errors import RaveError
from rave_cli.pool.files import parcels
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.queue import relay as relays
from rave_cli.pool.queue.relay import PIECE, WINDOW, Errand, Relay, RelayError
from rave_cli.pool.queue.streams import Queue
from rave_cli.pool.serving import courier

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from .pools import Pool

pytestmark = pytest.mark.integration

LEAVES = Work(("true",), artifacts=("out",), most_artifacts=1000)


@pytest.fixture
def relay(pool: Pool) -> Relay:
    return Relay(pool.broker.client)


def sent(relay: Relay, data: Iterator[bytes]) -> tuple[threading.Thread, list[bytes]]:
    said: list[bytes] = []
    thread = threading.Thread(target=lambda: said.append(relay.send("ticket", data)))
    thread.start()
    return thread, said


def test_the_server_has_a_few_pieces_of_a_file_at_a_time(pool: Pool, relay: Relay) -> None:
    most, got = 0, bytearray()
    pieces = [bytes([number]) * PIECE for number in range(4 * WINDOW)]

    def write(data: bytes) -> None:
        nonlocal most
        most = max(most, int(pool.broker.client.llen("rave:pieces:ticket")))
        got.extend(data)

    thread, said = sent(relay, iter(pieces))
    relay.receive("ticket", write)
    relay.receipt("ticket", b"all of it")
    thread.join()
    assert bytes(got) == b"".join(pieces)
    assert said == [b"all of it"]
    assert most <= WINDOW
    # What nobody fetches is gone soon.
    relay.refuse("another", "nobody asks")
    assert 0 < int(pool.broker.client.ttl("rave:room:another")) <= relays.KEPT


def test_whoever_waits_hears_that_it_comes_to_nothing(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    relay.refuse("ticket", "the disk is full")
    with pytest.raises(RelayError, match="the disk is full"):
        relay.receive("ticket", lambda _data: None)
    monkeypatch.setattr(relays, "SILENT", 0.2)
    monkeypatch.setattr(relays, "LOOK", 0.05)
    with pytest.raises(RelayError, match="said nothing"):
        relay.receive("another", lambda _data: None)


def test_an_agent_that_was_given_up_delivers_nothing(pool: Pool) -> None:
    pool.submit(LEAVES)
    zombie = pool.queue.take("zombie", wait=0.02)
    assert zombie is not None
    assert pool.queue.hand_over("zombie", zombie, "rave:pieces:x", b"D1", 60)
    assert pool.after_all().take("heir", wait=0.02) is not None
    assert not pool.queue.hand_over("zombie", zombie, "rave:pieces:x", b"D2", 60)
    assert pool.broker.client.lrange("rave:pieces:x", 0, -1) == [b"D1"]


@pytest.mark.parametrize(
    "errand",
    [
        Errand("input", "0" * 12, 1, "ticket"),
        Errand("input", "", 1, "ticket"),
        Errand("artifacts", "", 0, "ticket"),
    ],
)
def test_an_owner_hands_out_only_what_a_job_of_its_own_is_given(
    pool: Pool, relay: Relay, monkeypatch: pytest.MonkeyPatch, errand: Errand
) -> None:
    monkeypatch.setattr(courier, "open_store", lambda: type(pool.store)(pool.store.place))
    (name,) = pool.submit(Work(("true",)))
    relay.ask("here", replace(errand, job=errand.job or name))
    assert courier.turn(relay, "here")
    with pytest.raises(RelayError, match="the other host says"):
        relay.receive("ticket", lambda _data: None)


def test_what_is_no_errand_is_none(pool: Pool, relay: Relay) -> None:
    pool.broker.client.rpush("rave:wanted:here", b"\xff")
    assert relay.asked("here") is None


def archive(**members: tuple[bytes, bytes]) -> io.BytesIO:
    """Return an archive of members: their names, what kind they are, what is in them."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as packed:
        for name, (kind, data) in members.items():
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(data), "/etc/passwd"
            packed.addfile(info, io.BytesIO(data))
    stream.seek(0)
    return stream


@pytest.mark.parametrize(
    "members",
    [
        {"../out": (tarfile.REGTYPE, b"x")},
        {"out/../../x": (tarfile.REGTYPE, b"x")},
        {"/out": (tarfile.REGTYPE, b"x")},
        {"other": (tarfile.REGTYPE, b"x")},
        {"out": (tarfile.SYMTYPE, b"")},
        {"out": (tarfile.LNKTYPE, b"")},
        {"out": (tarfile.CHRTYPE, b"")},
        {"out/a": (tarfile.REGTYPE, b"x" * 600), "out/b": (tarfile.REGTYPE, b"x" * 600)},
    ],
)
def test_what_a_job_was_not_to_leave_is_refused_and_nothing_of_it_stays(
    tmp_path: Path, members: dict[str, tuple[bytes, bytes]]
) -> None:
    place = tmp_path / "artifacts/job"
    with pytest.raises(RaveError, match="refused"):
        parcels.unpack(archive(**members), place, LEAVES)
    assert not place.exists()


def test_artifacts_arrive_as_they_are(tmp_path: Path) -> None:
    place = tmp_path / "artifacts/job"
    left = parcels.unpack(archive(**{"out/a": (tarfile.REGTYPE, b"x")}), place, LEAVES)
    with parcels.packed(place, left) as stream:
        again = parcels.unpack(stream, tmp_path / "artifacts/again", LEAVES)
    assert again == left
    assert parcels.listing(again) == parcels.listing(left)
    with pytest.raises(RaveError, match="no archive"):
        parcels.unpack(io.BytesIO(b"?" * 2000), place, LEAVES)


def test_what_arrives_is_no_more_than_was_announced(tmp_path: Path, home: Path) -> None:
    assert home
    with parcels.Arriving(tmp_path / "x", 3) as arriving:
        arriving.write(b"abc")
        with pytest.raises(RaveError, match="larger"):
            arriving.write(b"d")


def test_output_of_which_no_answer_was_heard_is_told_once(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, unheard = Queue.say, [2]

    def say(*words: Any) -> bool:
        told = real(*words)
        unheard[0] -= 1
        if unheard[0] >= 0:
            raise redis.TimeoutError("no answer")
        return told

    monkeypatch.setattr(Queue, "say", say)
    (name,) = pool.submit(Work(("echo", "x")))
    pool.finish([name])
    assert b"".join(piece.data for piece in pool.store.output(pool.job(name))) == b"x\n"
    assert unheard[0] < 0
