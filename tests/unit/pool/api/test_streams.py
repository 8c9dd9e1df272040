"""Streams of events: whoever listens hears each change once, and no longer than they may."""

from __future__ import annotations

import json
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect, unix_connect

from rave_cli.pool.api import events, web
from rave_cli.pool.api.tokens import Tokens
from rave_cli.pool.jobs.job import Began, Ended, Printed
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.jobs.work import Work
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from websockets.sync.connection import Connection

    from rave_cli.pool.jobs.job import Happening

    from .conftest import ServedApi


def owner(api: ServedApi, path: str) -> Connection:
    place = api.unix.removeprefix("unix:")
    return unix_connect(place, f"ws://pool/v1{path}", compression=None)


def holder(api: ServedApi, path: str, token: str) -> Connection:
    return connect(
        api.https.replace("https", "wss") + f"/v1{path}", ssl=api.context, proxy=None,
        additional_headers={"Authorization": f"Bearer {token}"}, compression=None,
    )  # fmt: skip


def accepted() -> str:
    with open_store() as store:
        (job,) = store.accept([Work(("true",))])
    return job.name


def happens(name: str, *what: Happening) -> None:
    with open_store() as store:
        store.record([(name, one) for one in what])


def heard(stream: Connection) -> Any:
    return json.loads(stream.recv(timeout=CEILING))


def test_a_job_is_followed_to_its_end(api: ServedApi) -> None:
    name = accepted()
    with owner(api, f"/jobs/{name[:7]}/follow") as stream:
        assert heard(stream)["job"]["state"] == "waiting"
        happens(name, Began(1, 1, "a"))
        assert heard(stream)["job"]["state"] == "running"
        happens(name, Printed(1, 2, b"\xff"))
        assert heard(stream)["piece"]["stream"] == 2
        happens(name, Ended(2, 1, "success", 0, "", 0, 0))
        assert heard(stream)["job"]["state"] == "success"
        with pytest.raises(ConnectionClosed) as caught:
            stream.recv(timeout=CEILING)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1000


def test_each_job_that_changes_is_told(api: ServedApi) -> None:
    name = accepted()
    with open_store() as store, owner(api, "/events") as one, owner(api, "/events") as two:
        until(lambda: len(api.feed._queues) == 2)
        job = store.load(name)
        threading.Thread(target=api.feed.tell, args=(job,)).start()
        assert heard(one)["job"]["name"] == heard(two)["job"]["name"] == name
    until(lambda: not api.feed._queues)


def test_whoever_does_not_listen_is_sent_away_and_holds_nobody_up(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = accepted()
    monkeypatch.setattr(events, "MOST_BEHIND", 3)
    with open_store() as store, api.feed.listening() as behind:
        job = store.load(name)
        for _ in range(5):
            api.feed.tell(job)
        until(lambda: behind not in api.feed._queues)
        assert [behind.get_nowait() for _ in range(3)] == [job, job, None]


def test_a_token_that_is_revoked_hears_no_more(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web, "STILL_MAY", 0.05)
    record, token = Tokens().create("ci", "viewer", 1, time.time())
    with holder(api, "/events", token) as stream:
        Tokens().revoke(record.number, time.time())
        with pytest.raises(ConnectionClosed) as caught:
            stream.recv(timeout=CEILING)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == web.NO_MORE


def test_nobody_listens_without_a_token_or_to_what_there_is_not(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InvalidStatus) as caught:
        holder(api, "/events", "a.b.c")
    assert caught.value.response.status_code == 401
    with pytest.raises(InvalidStatus) as caught:
        owner(api, "/jobs/0123/follow")
    assert caught.value.response.status_code == 404
    monkeypatch.setattr(events, "MOST_LISTENERS", 0)
    with pytest.raises(InvalidStatus) as caught:
        owner(api, "/events")
    assert caught.value.response.status_code == 503


def test_whoever_says_something_odd_is_not_listened_to(api: ServedApi) -> None:
    name = accepted()
    with owner(api, f"/jobs/{name}/follow") as stream:
        assert heard(stream)["job"]["name"] == name
        stream.send("x" * 100)
        stream.send(b"\xff")
        happens(name, Ended(2, 1, "skipped", None, "", 0, 0))
        assert heard(stream)["job"]["state"] == "skipped"
    with owner(api, "/events") as stream:
        stream.send("x" * 5000)
        with pytest.raises(ConnectionClosed):
            stream.recv(timeout=CEILING)


def test_nothing_comes_to_a_client_before_the_answer(api: ServedApi) -> None:
    """A client that polls and then reads would be held in that read (seen with websockets 17)."""
    host, _, port = api.https.removeprefix("https://").rpartition(":")
    with (
        socket.create_connection((host, int(port)), timeout=CEILING) as plain,
        api.context.wrap_socket(plain, server_hostname=host) as told,
    ):
        told.sendall(b"GET /v1/health HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n")
        while told.recv(1 << 16):
            pass
        assert told.version() == "TLSv1.3"
        assert told.session is not None
        assert not told.session.has_ticket
