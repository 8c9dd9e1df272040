"""The real dispatcher before a real nats-server: what it promises to senders and to readers."""

from __future__ import annotations

import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import httpx
import pytest

from rave_platform.adapters.store import SqliteEvents
from tests.integration.platform.services import SOURCE, platform
from tests.unit.platform.deliveries import body, delivery, signed
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.integration.platform.conftest import MakePlatform
    from tests.integration.platform.services import Platform

# MiB that the dispatcher may take.
MEMORY = 70
# Hands a program a socket that was kept of the process before it (sd_listen_fds(3)).
AS_SYSTEMD = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1", "LISTEN_FDNAMES": "http"}
os.execv(sys.argv[2], sys.argv[2:])
"""
POST = b"POST /webhooks/forge HTTP/1.1\r\nHost: x\r\n"


def test_a_webhook_reaches_the_stream_once_however_often_it_is_sent(running: Platform) -> None:
    running.send(range(20))
    running.send(range(20))
    running.settle()
    found = running.messages()
    assert sorted(said["payload"]["number"] for _, said in found) == list(range(20))
    assert {name for name, _ in found} == set(running.acknowledged.values())
    assert running.answered == {202: 20, 200: 20}


def test_it_takes_webhooks_while_there_is_no_stream_and_hands_them_over_later(
    make_platform: MakePlatform,
) -> None:
    away = make_platform()
    away.dispatcher.start()
    away.send(range(5))
    until(lambda: "events wait" in away.dispatcher.log.read_text())
    # It can be told to end meanwhile, and goes on where it was.
    assert away.dispatcher.end(signal.SIGTERM) == 0
    away.dispatcher.start()
    assert (away.health()["stream"], away.health()["waiting"]) == ("not-connected", 5)
    away.nats.start()
    away.settle()
    assert len(away.messages()) == 5


def test_an_event_that_the_server_does_not_take_is_put_aside_and_stops_no_other(
    make_platform: MakePlatform,
) -> None:
    small = make_platform(max_payload=8192)
    small.nats.start()
    small.dispatcher.start()
    with httpx.Client() as client:
        assert small.post(client, 1, padding=20_000).status_code == 202
        assert small.post(client, 2).status_code == 202
    until(lambda: small.health()["dead"] == 1)
    small.settle()
    assert [said["payload"]["number"] for _, said in small.messages()] == [2]
    # The limit is raised, and what was put aside is handed over.
    small.nats.end(signal.SIGTERM)
    text = (small.place / "nats.conf").read_text().replace("8192", "1048576")
    (small.place / "nats.conf").write_text(text)
    small.nats.start()
    assert ask(small, "replay", "--dead") == {"replayed": 1}
    until(lambda: small.health()["dead"] == 0)
    small.settle()
    until(lambda: len(small.messages()) == 2)
    assert {name.partition(".")[2] for name, _ in small.messages()} == {"", "1"}


def ask(found: Platform, *words: str) -> object:
    """Ask for events as in the guest: in another process, while the dispatcher runs."""
    done = subprocess.run(
        [sys.executable, "-m", "rave_platform.events", found.place / "settings.toml", *words],
        capture_output=True, check=True, env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )  # fmt: skip
    return json.loads(done.stdout)


@pytest.fixture
def open_place() -> Iterator[Path]:
    """A directory through which others may go: what pytest makes is its user's alone."""
    with tempfile.TemporaryDirectory(prefix="rave-") as place:
        Path(place).chmod(0o711)
        yield Path(place)


def test_root_looks_at_events_as_the_dispatcher_s_user(open_place: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    nobody = 65534
    place = open_place / "store"
    place.mkdir(mode=0o700)
    found = platform(open_place, place / "events.db")
    asked = [sys.executable, "-m", "rave_platform.events", str(open_place / "settings.toml")]
    environment = {**os.environ, "PYTHONPATH": str(SOURCE)}
    done = subprocess.run([*asked, "list"], capture_output=True, env=environment, check=False)
    assert (done.returncode, b"No such file" in done.stderr) == (1, True)
    assert list(place.iterdir()) == []
    with SqliteEvents(place / "events.db", 7) as store:
        store.add([delivery(1)], 0.0)
    for path in (place, *place.iterdir()):
        os.chown(path, nobody, nobody)
    assert ask(found, "replay", "--dead") == {"replayed": 0}
    assert {path.stat().st_uid for path in place.iterdir()} == {nobody}


def test_a_full_stream_takes_nothing_new_and_loses_nothing(make_platform: MakePlatform) -> None:
    full = make_platform()
    text = (full.place / "settings.toml").read_text().replace("[nats]", "[nats]\nmax_mib = 1")
    (full.place / "settings.toml").write_text(text)
    full.nats.start()
    full.dispatcher.start()
    with httpx.Client() as client:
        for number in range(12):
            assert full.post(client, number, padding=200_000).status_code == 202
    until(lambda: "maximum bytes exceeded" in full.dispatcher.log.read_text())
    health = full.health()
    assert health["dead"] == 0
    kept = len(full.messages())
    assert health["waiting"] + kept == 12
    # It is made larger.
    full.dispatcher.end(signal.SIGTERM)
    (full.place / "settings.toml").write_text(text.replace("max_mib = 1", "max_mib = 64"))
    full.dispatcher.start()
    full.settle()
    assert len(full.messages()) == 12


def test_a_wrong_password_of_nats_is_waited_out_and_never_logged(
    make_platform: MakePlatform,
) -> None:
    found = make_platform(authorization={"user": "rave", "password": "another"})
    found.nats.start()
    found.dispatcher.start()
    found.send([1])
    until(lambda: "events wait" in found.dispatcher.log.read_text())
    assert found.health()["waiting"] == 1
    assert "hunter2" not in found.dispatcher.log.read_text()


def test_a_server_that_hangs_is_waited_for_and_told_nothing_twice(running: Platform) -> None:
    running.send([0])
    running.settle()
    os.kill(running.nats.pid, signal.SIGSTOP)
    try:
        running.send(range(1, 6))
        until(lambda: "NATS: TimeoutError" in running.dispatcher.log.read_text(), pause=0.1)
        assert running.health()["waiting"] == 5
    finally:
        os.kill(running.nats.pid, signal.SIGCONT)
    running.settle()
    assert sorted(said["payload"]["number"] for _, said in running.messages()) == list(range(6))


FAKETIME = Path("/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1")
YEARS = "3650d"


def test_a_clock_that_leaps_years_either_way_costs_no_event(make_platform: MakePlatform) -> None:
    found = make_platform()
    clock = found.place / "clock"
    clock.write_text("+0")
    found.dispatcher.environment |= {
        "LD_PRELOAD": str(FAKETIME),
        "FAKETIME_TIMESTAMP_FILE": str(clock),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    found.dispatcher.start()
    for at, leap in enumerate(("+0", f"+{YEARS}", f"-{YEARS}", "+0")):
        clock.write_text(leap)
        found.send(range(at * 5, at * 5 + 5))
    found.nats.start()
    found.settle()
    # What is old is removed when it starts, too.
    for leap in (f"+{YEARS}", f"-{YEARS}"):
        clock.write_text(leap)
        found.dispatcher.end(signal.SIGTERM)
        found.dispatcher.start()
    kept = ask(found, "list", "--most", "1000")
    assert isinstance(kept, list)
    assert len(kept) == len(found.messages()) == 20
    came = {event["received_at"][:4] for event in kept}
    assert len(came) == 3, "the clock did not leap"


def test_it_ends_when_told_and_answers_what_it_has_begun(running: Platform) -> None:
    running.send([1])
    assert running.dispatcher.end(signal.SIGTERM) == 0
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(running.place / "notify"))
        running.dispatcher.environment["NOTIFY_SOCKET"] = str(running.place / "notify")
        running.dispatcher.start()
        assert systemd.recv(100) == b"FDSTORE=1\nFDNAME=http"
        assert systemd.recv(100) == b"READY=1"
    assert running.dispatcher.end(signal.SIGINT) == 0
    lines = running.dispatcher.log.read_text().splitlines()
    assert all(json.loads(line)["level"] in {"info", "warning"} for line in lines)


def test_a_webhook_that_comes_while_it_is_started_anew_waits_and_is_taken(
    running: Platform,
) -> None:
    """Some senders try once: whoever is refused by a dispatcher that was killed is lost."""
    dispatcher, good = running.dispatcher, body(1)
    dispatcher.end()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(str(running.place / "notify"))
        dispatcher.environment["NOTIFY_SOCKET"] = str(running.place / "notify")
        dispatcher.start()
        _, (kept,), _, _ = socket.recv_fds(systemd, 100, 1)
        dispatcher.end()
        with ThreadPoolExecutor(1) as sender, dispatcher.log.open("ab") as log:
            sent = sender.submit(
                httpx.post, f"{running.url}/webhooks/forge", content=good, headers=signed(good),
                timeout=CEILING,
            )  # fmt: skip
            until(lambda: waiting(kept))
            dispatcher.process = subprocess.Popen(
                [sys.executable, "-c", AS_SYSTEMD, str(kept), *dispatcher.argv],
                pass_fds=[kept], stderr=log, env=dispatcher.environment,
            )  # fmt: skip
            os.close(kept)
            assert sent.result().status_code == 202
    running.settle()
    assert len(running.messages()) == 1


def waiting(listening: int) -> bool:
    """Return whether somebody waits to be accepted."""
    return bool(select.select([listening], [], [], 0)[0])


def test_what_is_no_http_is_a_4xx_and_it_goes_on(running: Platform) -> None:
    good = body(1)
    for sent in (
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET / HTTP/9.9\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        POST + b"X-Long: " + b"x" * 200_000 + b"\r\n\r\n",
        b"POST /webhooks/" + b"%00%ff" * 10 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        POST + b"X-Hub-Signature-256: \xff\xfe\r\nContent-Length: 2\r\n\r\n{}",
    ):
        status = raw(running.dispatcher.port, sent)
        assert status is None or 400 <= status < 500, (sent[:60], status)
    answer = httpx.post(f"{running.url}/webhooks/forge", content=good, headers=signed(good))
    assert answer.status_code == 202


def raw(port: int, sent: bytes) -> int | None:
    """Send bytes and return the status of the answer, if there is one."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as end:
        try:
            end.sendall(sent)
            end.shutdown(socket.SHUT_WR)
            line = end.makefile("rb").readline()
        except ConnectionError:
            return None
    return int(line.split()[1]) if line else None


def test_its_memory_stays_within_what_it_is_given(running: Platform) -> None:
    running.send(range(300), senders=8)
    with httpx.Client() as client:
        for number in range(300, 310):
            running.post(client, number, padding=700_000)
    running.settle()
    status = Path(f"/proc/{running.dispatcher.pid}/status").read_text()
    (peak,) = [int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:")]
    assert peak / 1024 <= MEMORY


def test_a_full_disk_is_said_and_costs_nothing_that_was_accepted(
    make_platform: MakePlatform, small_disk: Path
) -> None:
    found = make_platform(small_disk / "events.db")
    found.nats.start()
    found.dispatcher.start()
    found.send(range(5))
    (small_disk / "filler").write_bytes(b"x" * 1_000_000)
    refused, number = 0, 100
    with httpx.Client(timeout=60) as client:
        while refused < 5:
            answer = found.post(client, number, padding=50_000)
            number += 1
            assert answer.status_code in {202, 503}
            if answer.status_code == 503:
                assert answer.headers["retry-after"] == "30"
                refused += 1
        # A bad request is a bad request, whatever the disk.
        assert client.post(f"{found.url}/webhooks/forge", content=b"{}").status_code == 401
        (small_disk / "filler").unlink()
        until(lambda: found.post(client, number).is_success)
    found.settle()
    names = {name for name, _ in found.messages()}
    assert names == set(found.acknowledged.values())
