"""A machine that may ask the pool, as far as that looks at it, over a store that nobody serves."""

from __future__ import annotations

import json
import secrets
import socket
from contextlib import closing, suppress
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from rave_cli.pool.access.local import LocalPool
from rave_cli.pool.guests.answering import GuestDesk
from rave_cli.pool.guests.door import GuestDoor
from rave_cli.pool.guests.terms import GuestTerms, PoolGuest
from rave_cli.pool.jobs.store import JobStore, open_store

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.machines.spec import Machine

UUID = "0f6e7d8c-0000-4000-8000-000000000001"


def guest(name: str = "demo", **terms: Any) -> PoolGuest:
    machine = cast("Machine", SimpleNamespace(name=name))
    return PoolGuest(machine, GuestTerms(UUID, **terms))


class Asker:
    """Asks a desk, and reads what it says."""

    def __init__(self, desk: GuestDesk) -> None:
        self.desk = desk

    def said(self, ask: str, **members: Any) -> dict[str, Any]:
        """The whole answer to a question."""
        name = secrets.token_hex(8)
        line = json.dumps({"v": 1, "id": name, "ask": ask, **members}).encode()
        document: dict[str, Any] = json.loads(self.desk.answer(line))
        assert document.pop("id") == name
        assert document.pop("v") == 1
        return document

    def told(self, ask: str, **members: Any) -> dict[str, Any]:
        """The answer to a question that is answered."""
        document = self.said(ask, **members)
        assert document["ok"], document
        answer: dict[str, Any] = document["answer"]
        return answer

    def submit(self, key: str = "k", **work: Any) -> dict[str, Any]:
        """The answer to a submission."""
        return self.said("submit", key=key, work={"command": ["true"], **work})


@pytest.fixture
def store(home: Path) -> Iterator[JobStore]:
    with open_store() as store:
        yield store


def desk_of(store: JobStore, asking: PoolGuest) -> GuestDesk:
    return GuestDesk(asking, LocalPool(store, asking.owner))


@pytest.fixture
def asker(store: JobStore) -> Asker:
    return Asker(desk_of(store, guest()))


class Port:
    """A door and QEMU's end of it."""

    def __init__(self, desk: GuestDesk) -> None:
        here, self.qemu = socket.socketpair()
        here.setblocking(False)
        self.qemu.setblocking(False)
        self.door = GuestDoor(here, desk)

    def say(self, data: bytes) -> int:
        """Say as much as is taken."""
        with suppress(BlockingIOError):
            return self.qemu.send(data)
        return 0

    def heard(self) -> bytes:
        """What came back."""
        found = b""
        with suppress(BlockingIOError):
            while data := self.qemu.recv(1 << 16):
                found += data
        return found


@pytest.fixture
def port(store: JobStore) -> Iterator[Port]:
    found = Port(desk_of(store, guest()))
    with closing(found.qemu), closing(found.door):
        yield found
