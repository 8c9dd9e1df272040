"""The way in that no ban closes: bytes between the virtio-serial port org.rave.way and sshd.

To sshd it comes from loopback, which fail2ban leaves alone; keys are asked for as ever. On the host
only the operator's own account can open the other end, so nobody guesses passwords here.

Whoever opens it first sends the machine's instance id as a line and waits for it to come back: the
port knows no connections, and what is on it before belongs to the one before.
"""

from __future__ import annotations

import os
import select
import socket
import time

from rave_guest import report

PORT = "org.rave.way"
SSHD = ("127.0.0.1", 22)
PAUSE = 0.3  # seconds after a connection that failed
AGAIN = 60.0  # seconds after which a port that told nothing is looked at all the same
CHUNK = 65536


def serve() -> None:
    """Let one after the other in, for ever; silent where the host has no such port."""
    device = report.port(report.PORTS, PORT)
    if device is None:
        return
    end = GuestEnd(os.open(device, os.O_RDWR | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC))
    said = b""
    while True:
        try:
            said = admit(end, said)
        except OSError:
            said = b""
            time.sleep(PAUSE)


class GuestEnd:
    """The guest's end of the port, which does not block."""

    def __init__(self, fd: int) -> None:
        """Take over an open descriptor."""
        self.fd = fd
        self._poll = select.epoll()
        # By edges: a port with nobody at its other end is readable all the time.
        self._poll.register(fd, select.EPOLLIN | select.EPOLLET)

    def receive(self) -> bytes | None:
        """What the host sent; nothing if there is nothing yet, None if nobody is there."""
        try:
            return os.read(self.fd, CHUNK) or None
        except BlockingIOError:
            return b""

    def wait(self) -> None:
        """Sleep until something may have happened since all was received."""
        self._poll.poll(AGAIN)


def password() -> bytes:
    """The word: a copy of a template has another one than that."""
    return report.instance().encode() + b"\n"


def admit(end: GuestEnd, said: bytes) -> bytes:
    """Wait for somebody who says the word and pass bytes on until they leave.

    `said` is what was read already; returns what was read of the next one.
    """
    while b"\n" not in said or (word := password()) not in said:
        data = end.receive()
        if data:
            said = (said + data)[-CHUNK:]
            continue
        if data is None:
            said = b""
        end.wait()
    with socket.create_connection(SSHD, 10) as sshd:
        send(end.fd, word)
        return pass_on(end, sshd, word, said.partition(word)[2])


def pass_on(end: GuestEnd, sshd: socket.socket, word: bytes, data: bytes | None) -> bytes:
    """Pass bytes on both ways until either end is closed, or the next one says the word."""
    while data is not None:
        before, found, after = data.partition(word)
        sshd.sendall(before)
        if found:
            return found + after
        ready, _, _ = select.select([end.fd, sshd.fileno()], [], [])
        if sshd.fileno() in ready:
            said = sshd.recv(CHUNK)
            if not said:
                return b""
            send(end.fd, said)
        data = end.receive() if end.fd in ready else b""
    return b""


def send(fd: int, data: bytes) -> None:
    """Send to the host; raises OSError if nobody takes it."""
    while data:
        try:
            data = data[os.write(fd, data) :]
        except BlockingIOError:
            if not select.select([], [fd], [], 30.0)[1]:
                raise
