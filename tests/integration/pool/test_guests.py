"""A machine at a pool that is served: its jobs go through the real store, queue and agents."""

from __future__ import annotations

import os
import signal
import socket
import tempfile
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rave_cli.machines import store
from rave_cli.machines.spec import locate
from rave_cli.pool.guests import terms
from rave_cli.pool.guests.seen import SeenSandboxes
from rave_guest import sandbox
from rave_guest.wire import pool as wire
from rave_guest.wire.pool import NotNow, PoolPort
from tests.integration.pool.test_serving import Server, rave, server
from tests.unit.machines.conftest import image, plan
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.images.manifest import Image
    from rave_cli.profiles.catalog import Plan

__all__ = ["image", "plan", "server"]

pytestmark = pytest.mark.integration


@pytest.fixture(autouse=True)
def runtime(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A runtime directory whose name leaves room for a socket's (108 bytes, unix(7)).

    After `home`, which names one of its own: under several workers that one is too long.
    """
    with tempfile.TemporaryDirectory(prefix="rv-", dir="/tmp") as place:
        monkeypatch.setenv("XDG_RUNTIME_DIR", place)
        yield


@pytest.fixture
def port(
    server: Server, plan: Plan, image: Image, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PoolPort]:
    """The port of a machine that may ask, as its guest has it; whoever serves comes and goes."""
    # Nothing looks at its disks.
    machine = locate(store.new_spec(plan, image, name="demo", mode="safe"))
    machine.directory.mkdir(parents=True)
    store.save(machine)
    terms.lend("demo", lambda uuid: terms.GuestTerms(uuid, timeout=60.0))
    machine.pool_socket.parent.mkdir(parents=True)
    ends: list[socket.socket] = []
    with closing(socket.socket(socket.AF_UNIX)) as listener:
        listener.bind(str(machine.pool_socket))
        listener.listen(1)

        def accept() -> None:
            while True:
                try:
                    found, _ = listener.accept()
                except OSError:
                    return
                found.setblocking(False)
                ends.append(found)

        def opened(_device: str, until: float) -> int:
            if not ends:
                raise wire.NoPool("nobody answers")
            return os.dup(ends[-1].fileno())

        threading.Thread(target=accept, daemon=True).start()
        monkeypatch.setattr(wire, "_opened", opened)
        monkeypatch.setattr(sandbox, "UNTIL_ROOM", 0.1)
        monkeypatch.setattr(sandbox, "LOST", CEILING)
        yield PoolPort("port", patience=CEILING)
        listener.shutdown(socket.SHUT_RDWR)
    for end in ends:
        end.close()


def printed(job: sandbox.SandboxJob) -> bytes:
    found: list[bytes] = []
    assert job.follow(lambda _stream, data: found.append(data))
    return b"".join(found)


def asked(port: PoolPort, *words: str, key: str = "", **work: object) -> sandbox.SandboxJob:
    while True:
        try:
            return sandbox.submit(port, {"command": [*words], **work}, key=key, patience=CEILING)
        except wire.NoPool:
            continue


def test_a_machines_job_is_run_followed_and_proven(port: PoolPort) -> None:
    seen = SeenSandboxes("demo")
    assert seen.withheld == ""
    job = asked(port, "sh", "-c", "echo out; exit 7")
    assert printed(job) == b"out\n"
    assert (job.told["state"], job.status) == ("failure", 7)
    late = asked(port, "sleep", "60", timeout=0.3)
    assert printed(late) == b""
    assert (late.told["why"], late.status) == ("it took longer than 0.3 s", sandbox.TIMED_OUT)
    found = seen.jobs()
    assert [one.name for one in found] == [job.name, late.name]
    assert all(one.proven and one.machine for one in found)
    assert seen.left([one.name for one in found], 0.0) == []
    assert "machine:demo." in rave("show", job.name).stdout
    (used,) = [one for one in [rave("guest", "list").stdout] if "demo" in one]
    assert "2 of 60" in used


def test_a_job_is_heard_of_whoever_serves_meanwhile(port: PoolPort, server: Server) -> None:
    job = asked(port, "sh", "-c", "sleep 0.5; echo done", key="once")
    server.end(signal.SIGKILL)
    server.start()
    assert printed(job).endswith(b"done\n")
    assert job.status == 0
    assert asked(port, "sh", "-c", "sleep 0.5; echo done", key="once").name == job.name


def test_a_machine_waits_for_room_and_takes_it_once_there_is(port: PoolPort) -> None:
    first = [asked(port, "sleep", "60") for _ in range(2)]
    with pytest.raises(NotNow, match="2 jobs"):
        sandbox.submit(port, {"command": ["true"]})
    first[0].cancel()
    third = asked(port, "true")
    assert printed(third) == b""
    first[1].cancel()
    for job in first:
        printed(job)
        assert job.told["state"] == "cancelled"
