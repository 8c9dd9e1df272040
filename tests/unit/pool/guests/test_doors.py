"""All machines' ports, as whoever serves the pool answers them; the guest's own client asks."""

from __future__ import annotations

import os
import socket
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rave_cli.machines.qemu.qmp import check_socket_path
from rave_cli.pool.guests import doors, terms
from rave_cli.pool.guests.doors import answered
from rave_guest.wire import pool as wire
from rave_guest.wire.pool import NoPool, PoolPort, PoolRefused
from tests.unit.machines.conftest import host, image, machine, plan, short_home
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine

__all__ = ["host", "image", "machine", "plan", "short_home"]


class Qemu:
    """Where QEMU listens for whoever answers; the connection is the port as the guest has it."""

    def __init__(self, machine: Machine) -> None:
        place = machine.pool_socket
        place.parent.mkdir(parents=True, exist_ok=True)
        check_socket_path(place)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.settimeout(CEILING)
        self.listener.bind(str(place))
        self.listener.listen(1)
        self.port: socket.socket | None = None

    def connected(self) -> PoolPort:
        """Wait until somebody answers, and return the guest's end."""
        self.close()
        self.port, _ = self.listener.accept()
        self.port.setblocking(False)
        return PoolPort("port")

    def gone(self) -> bool:
        """Whether nobody answers any more."""
        assert self.port is not None
        try:
            return not self.port.recv(1)
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Leave whoever answers."""
        if self.port is not None:
            self.port.close()
            self.port = None


@pytest.fixture
def qemu(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Iterator[Qemu]:
    found = Qemu(machine)

    def opened(_device: str, _until: float) -> int:
        assert found.port is not None
        return os.dup(found.port.fileno())

    monkeypatch.setattr(wire, "_opened", opened)
    monkeypatch.setattr(doors, "LOOK", 0.05)
    with closing(found.listener), closing(found):
        yield found


def test_a_machine_asks_as_long_as_it_may(machine: Machine, qemu: Qemu) -> None:
    with answered():
        terms.lend("demo")
        port = qemu.connected()
        assert port.ask("terms")["jobs"] == 2
        job = port.ask("submit", key="k", work={"command": ["true"]}, given=None)
        assert port.ask("show", job=job["job"])["state"] == "waiting"
        with pytest.raises(PoolRefused, match="no such job"):
            port.ask("show", job="0" * 12)
        # Other terms hold at once, on the same connection.
        terms.lend("demo", lambda uuid: terms.GuestTerms(uuid, jobs=1))
        until(lambda: port.ask("terms")["jobs"] == 1)
        terms.take_back("demo")
        until(qemu.gone)
        with pytest.raises(NoPool, match="not lent"):
            port.ask("terms")


def test_one_that_was_not_let_is_not_heard(machine: Machine, qemu: Qemu) -> None:
    with answered():
        qemu.listener.settimeout(0.5)
        with pytest.raises(TimeoutError):
            qemu.connected()


def test_a_new_qemu_is_found_and_the_one_that_ended_is_left(machine: Machine, qemu: Qemu) -> None:
    terms.lend("demo")
    with answered():
        for _ in range(3):
            assert qemu.connected().ask("terms")["jobs"] == 2
    until(qemu.gone)


def test_whoever_comes_with_what_the_one_before_left_is_answered(
    machine: Machine, qemu: Qemu
) -> None:
    terms.lend("demo")
    with answered():
        port = qemu.connected()
        assert qemu.port is not None
        # The one before left half a line, and did not read its answer.
        qemu.port.send(b'\n{"v":1,"id":"0123456789abcdef","ask":"terms"}\n{"v":1,"id":"fe')
        assert port.ask("terms")["jobs"] == 2


def test_an_answer_that_was_lost_is_asked_for_again(
    machine: Machine, qemu: Qemu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "AGAIN", 0.1)
    terms.lend("demo")
    with answered():
        port, lost = qemu.connected(), [b""]
        real = wire._read

        def once(fd: int) -> bytes:
            lost.append(real(fd))
            return lost[-1] if len(lost) > 2 else b""

        monkeypatch.setattr(wire, "_read", once)
        first = port.ask("submit", key="k", work={"command": ["true"]}, given=None)
        assert len(lost) > 2
        assert port.ask("submit", key="k", work={"command": ["true"]}, given=None) == first


def test_terms_that_cannot_be_read_keep_no_other_machine_out(
    machine: Machine, qemu: Qemu, caplog: pytest.LogCaptureFixture
) -> None:
    terms.lend("demo")
    terms.place("broken").parent.mkdir()
    terms.place("broken").write_text("{}")
    with answered():
        assert qemu.connected().ask("terms")["jobs"] == 2
    assert "broken" in caplog.text
