"""What leads a job out: the real program of the guest, run here, and real sockets at both ends."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.pool.agents import outside
from rave_cli.pool.agents.agent import UnfitJobError
from rave_cli.pool.agents.inside import CLOSED, DATA, FRAME, OPEN, PIECE, PRINTED, WINDOW
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

# What a name leads to in a guest; here it is an address of loopback, too.
OWN = "127.76.0.1"


class HereSession:
    """Runs programs here as a session runs them in a guest; nothing is set up as root."""

    def stream(
        self, argv: Sequence[str], *, stdin: int | None, on_output: Any, timeout: float,
        sudo: bool = False,
    ) -> int:  # fmt: skip
        if sudo:
            return 0
        words = [sys.executable if word == "python3" else word for word in argv]
        given = subprocess.DEVNULL if stdin is None else stdin
        with subprocess.Popen(
            words, stdin=given, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        ) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            try:
                while data := os.read(child.stdout.fileno(), 1 << 16):
                    on_output(1, data)
                on_output(2, child.stderr.read())
            except BaseException:
                child.kill()
                raise
            return child.wait(timeout=timeout)


@contextmanager
def place(answer: Callable[[socket.socket], None]) -> Iterator[int]:
    """Somebody who answers each that connects; yields the port."""
    listening = socket.create_server(("127.0.0.1", 0))
    with listening:

        def serve() -> None:
            while True:
                try:
                    stream, _ = listening.accept()
                except OSError:
                    return
                threading.Thread(target=answered, args=(stream,), daemon=True).start()

        def answered(stream: socket.socket) -> None:
            with stream:
                answer(stream)

        threading.Thread(target=serve, daemon=True).start()
        yield listening.getsockname()[1]


def echo(stream: socket.socket) -> None:
    """Say again what is said, until its end."""
    while data := stream.recv(65536):
        stream.sendall(data)


def waiting_for(done: threading.Event) -> Callable[[socket.socket], None]:
    """Take nothing of what is said."""

    def wait(_stream: socket.socket) -> None:
        done.wait(CEILING)

    return wait


def free() -> int:
    """A port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind((OWN, 0))
        return int(probe.getsockname()[1])


def run(script: str, *allow: str) -> tuple[int, bytes, bytes]:
    """Run a Python script as a job that may reach something; return its status and output."""
    out: dict[int, bytes] = {1: b"", 2: b""}

    def take(stream: int, data: bytes) -> None:
        out[stream] += data

    session: Any = HereSession()
    words = (sys.executable, "-c", f"import socket\n{script}")
    status = outside.run(session, words, allow, on_output=take, timeout=CEILING)
    return status, out[1], out[2]


CONNECT = "s = socket.create_connection(({address!r}, {port}), 20)\n"


@pytest.fixture
def led(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], tuple[str, str]]:
    """Let a port of this host be that of `place.example`; returns what is allowed, and done."""

    def lead(port: int) -> tuple[str, str]:
        asked = socket.create_connection

        def connect(where: tuple[str, int], **how: Any) -> socket.socket:
            assert where == ("place.example", port)
            return asked(("127.0.0.1", port), **how)

        monkeypatch.setattr(socket, "create_connection", connect)
        return f"place.example:{port}", CONNECT.format(address=OWN, port=port)

    return lead


def test_what_is_allowed_is_reached_and_output_and_status_are_the_commands(
    led: Callable[[int], tuple[str, str]],
) -> None:
    with place(echo) as port:
        allow, connect = led(port)
        script = (
            "import sys\n" + connect + "s.sendall(b'hello'); s.shutdown(1)\n"
            "print('got', s.recv(9), s.recv(9)); print('err', file=sys.stderr); sys.exit(3)"
        )
        assert run(script, allow) == (3, b"got b'hello' b''\n", b"err\n")


def test_much_goes_both_ways_at_once_and_none_is_lost(
    led: Callable[[int], tuple[str, str]],
) -> None:
    with place(echo) as port:
        allow, connect = led(port)
        script = connect + (
            "import threading, hashlib, os\n"
            "data = os.urandom(3 << 20)\n"
            "def send(): s.sendall(data); s.shutdown(1)\n"
            "threading.Thread(target=send).start()\n"
            "got = b''.join(iter(lambda: s.recv(1 << 16), b''))\n"
            "print(got == data)"
        )
        assert run(script, allow)[1] == b"True\n"


def test_what_was_sent_before_an_end_arrives_however_slowly_it_is_read(
    led: Callable[[int], tuple[str, str]],
) -> None:
    with place(lambda stream: stream.sendall(bytes(6 << 20))) as port:
        allow, _ = led(port)
        script = (
            "import time\ns = socket.socket(); s.setsockopt(1, socket.SO_RCVBUF, 4096)\n"
            f"s.connect(({OWN!r}, {port})); time.sleep(0.3)\n"
            "print(sum(map(len, iter(lambda: s.recv(1 << 16), b''))))"
        )
        assert run(script, allow)[1] == b"%d\n" % (6 << 20)


def test_many_connections_are_each_their_own(led: Callable[[int], tuple[str, str]]) -> None:
    with place(echo) as port:
        allow, _ = led(port)
        script = (
            f"all = [socket.create_connection(({OWN!r}, {port}), 20) for _ in range(40)]\n"
            "for n, s in enumerate(all): s.sendall(b'%d' % n)\n"
            "print([int(s.recv(9)) for s in all] == list(range(40)))\n"
            "[s.close() for s in all]"
        )
        assert run(script, allow)[1] == b"True\n"


def test_what_is_not_there_is_a_connection_that_closes(
    led: Callable[[int], tuple[str, str]],
) -> None:
    allow, connect = led(free())
    assert run(connect + "print(s.recv(9))", allow)[1] == b"b''\n"


def test_a_slow_reader_there_or_here_stops_no_output(
    led: Callable[[int], tuple[str, str]],
) -> None:
    done = threading.Event()
    with place(waiting_for(done)) as port:
        allow, connect = led(port)
        # It sends what nobody takes, and goes on.
        script = connect + (
            "import threading\n"
            "threading.Thread(target=s.sendall, args=(bytes(9 << 20),), daemon=True).start()\n"
            "print('x' * 100000)"
        )
        assert len(run(script, allow)[1]) == 100001
        done.set()


@pytest.mark.parametrize(
    "said",
    [
        FRAME.pack(OPEN, 1, 1) + b"\7",
        FRAME.pack(DATA, 1, PIECE + 1),
        FRAME.pack(99, 1, 0),
        FRAME.pack(OPEN, 1, 1) + b"\0" + (FRAME.pack(DATA, 1, PIECE) + bytes(PIECE)) * 64,
    ],
)
def test_a_guest_that_says_what_it_should_not_fails_its_job(said: bytes) -> None:
    class Liar(HereSession):
        def stream(self, argv: Sequence[str], **how: Any) -> int:
            if not how.get("sudo"):
                how["on_output"](1, said)
            return 0

    liar: Any = Liar()
    done = threading.Event()
    with (
        place(waiting_for(done)) as port,
        pytest.raises(UnfitJobError, match="should not"),
    ):
        outside.run(
            liar, ("true",), [f"127.0.0.1:{port}"],
            on_output=lambda _stream, _data: None, timeout=CEILING,
        )  # fmt: skip
    done.set()


def test_a_guest_opens_so_many_and_no_more() -> None:
    class Greedy(HereSession):
        said = b""

        def stream(self, argv: Sequence[str], **how: Any) -> int:
            if how.get("sudo"):
                return 0
            for number in range(1, outside.MOST + 3):
                how["on_output"](1, FRAME.pack(OPEN, number, 1) + b"\0")
            how["on_output"](1, FRAME.pack(PRINTED, 0, 2) + b"ok")
            while struct.pack("!BH", CLOSED, outside.MOST + 2) not in Greedy.said:
                Greedy.said += os.read(how["stdin"], 999)
            return 0

    greedy: Any = Greedy()
    came, done = [], threading.Event()

    def waits(stream: socket.socket) -> None:
        came.append(stream)
        done.wait(CEILING)

    with place(waits) as port:
        outside.run(
            greedy, ("true",), [f"127.0.0.1:{port}"],
            on_output=lambda _stream, _data: None, timeout=CEILING,
        )  # fmt: skip
        done.set()
    assert len(came) <= outside.MOST


def test_names_lead_to_addresses_of_the_guests_own_and_addresses_to_themselves() -> None:
    found = outside.places(["a.example:443", "b.example:80", "a.example:80", "192.0.2.7:5000"])
    assert [f"{one.address}:{one.port}" for one in found] == [
        "127.76.0.1:443", "127.76.0.2:80", "127.76.0.1:80", "192.0.2.7:5000",
    ]  # fmt: skip
    assert [one.told for one in found] == [
        "a.example=127.76.0.1", "b.example=127.76.0.2", "a.example=127.76.0.1", "192.0.2.7",
    ]  # fmt: skip
    assert WINDOW >= PIECE
