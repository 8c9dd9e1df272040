"""An SSH server in a thread that plays the guest's sshd, well-behaved or not."""

from __future__ import annotations

import os
import pty
import shutil
import socket
import subprocess
import termios
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Self

import paramiko
from paramiko.common import (
    AUTH_FAILED,
    AUTH_SUCCESSFUL,
    OPEN_SUCCEEDED,
    cMSG_CHANNEL_SUCCESS,
)

from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

SYSTEM = "/usr/bin:/bin"


class _Server(paramiko.ServerInterface):
    def __init__(self, sshd: FakeSshd) -> None:
        self.sshd = sshd

    def check_auth_publickey(self, username: str, key: paramiko.PKey) -> int:
        self.sshd.logins.append(username)
        good = username == "rave" and key.get_base64() in self.sshd.authorized
        return AUTH_SUCCESSFUL if good else AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        return "publickey"

    def check_channel_request(self, kind: str, chanid: int) -> int:
        return OPEN_SUCCEEDED

    def check_channel_pty_request(  # noqa: PLR0917 - paramiko's own signature
        self,
        channel: paramiko.Channel,
        term: bytes,
        width: int,
        height: int,
        pixelwidth: int,
        pixelheight: int,
        modes: bytes,
    ) -> bool:
        self.sshd.terminals[channel.get_id()] = (height, width)
        return True

    def check_channel_window_change_request(
        self, channel: paramiko.Channel, width: int, height: int, pixelwidth: int, pixelheight: int
    ) -> bool:
        master = self.sshd.masters.get(channel.get_id())
        if master is not None:
            termios.tcsetwinsize(master, (height, width))
        return master is not None

    def check_channel_exec_request(self, channel: paramiko.Channel, command: bytes) -> bool:
        transport = channel.get_transport()
        assert isinstance(transport, _Transport)
        told = transport.told = threading.Event()

        def execute() -> None:
            told.wait(CEILING)
            self.sshd.execute(channel, command.decode("utf-8", "surrogateescape"))

        threading.Thread(target=execute, daemon=True).start()
        return True


class _Transport(paramiko.Transport):
    """Notes that a request was granted, so that no command ends before its start is told."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.told = threading.Event()

    def _send_user_message(self, data: paramiko.Message) -> None:
        super()._send_user_message(data)  # type: ignore[misc]
        if data.asbytes()[:1] == cMSG_CHANNEL_SUCCESS:
            self.told.set()


class FakeSshd:
    """Serves on a free port of the loopback. `banner=False` accepts TCP and says nothing.

    The handler gets command and standard input, and returns exit status and both outputs.
    """

    def __init__(
        self,
        host_key: bytes,
        authorized: str,
        *,
        handler: Callable[[str, bytes], tuple[int, bytes, bytes]] | None = None,
        banner: bool = True,
    ) -> None:
        import io

        self.host_key = paramiko.Ed25519Key.from_private_key(io.StringIO(host_key.decode()))
        self.authorized = authorized
        self.handler = handler or (lambda command, data: (0, command.encode() + data, b""))
        self.banner = banner
        self.logins: list[str] = []
        self.connections = 0
        # By channel: the size of the terminal that was asked for, and the server's end of it.
        self.terminals: dict[int, tuple[int, int]] = {}
        self.masters: dict[int, int] = {}
        self._open: list[socket.socket | paramiko.Transport] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        # Closing alone would not wake the accept() of the other thread.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(CEILING)
        self.drop()

    def drop(self) -> None:
        """Break every connection."""
        for connection in self._open:
            connection.close()
        self._open.clear()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                self.connections += 1
                if not self.banner:
                    self._open.append(connection)
                    continue
                transport = _Transport(connection)
                transport.add_server_key(self.host_key)
                self._open.append(transport)
                with suppress(paramiko.SSHException, EOFError):
                    transport.start_server(event=threading.Event(), server=_Server(self))

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        """Read standard input to its end, then let the handler answer."""
        data = bytearray()
        with suppress(OSError, EOFError, paramiko.SSHException):
            if not command.startswith("no-input"):
                while chunk := channel.recv(1 << 15):
                    data += chunk
            status, stdout, stderr = self.handler(command, bytes(data))
            channel.sendall_stderr(stderr)
            channel.sendall(stdout)
            channel.send_exit_status(status)
            channel.shutdown_write()
            channel.close()


# Starts a command the way sudo with use_pty does: in a session and an environment of its own.
SUDO = """#!/bin/sh
shift 2
exec env -i PATH="$PATH" {setsid} --wait "$@"
"""


class ExecutingSshd(FakeSshd):
    """Runs what it is asked to run on this host, in a session of its own as a real sshd does.

    `folder` gets a stand-in for sudo; each connection shows in the environment of its commands.
    """

    def __init__(self, host_key: bytes, authorized: str, *, folder: Path) -> None:
        super().__init__(host_key, authorized)
        sudo = folder / "sudo"
        sudo.write_text(SUDO.format(setsid=shutil.which("setsid", path=SYSTEM)))
        sudo.chmod(0o755)
        self.path = f"{folder}:{SYSTEM}"
        self.stuck = False

    def execute(self, channel: paramiko.Channel, command: str) -> None:
        """Run a command; its streams are the channel's. Once `stuck`, nothing is started."""
        if self.stuck:
            return
        peer = channel.get_transport().sock.getpeername()
        env = {"PATH": self.path, "SSH_CONNECTION": f"{peer[0]} {peer[1]} 10.0.2.15 22"}
        if channel.get_id() in self.terminals:
            self._at_terminal(channel, command, env)
            return
        child = subprocess.Popen(
            ["/bin/sh", "-c", command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=env,
            start_new_session=True,
        )
        assert child.stdin is not None
        outputs = [
            threading.Thread(target=_copy, args=(stream, send), daemon=True)
            for stream, send in (
                (child.stdout, channel.sendall),
                (child.stderr, channel.sendall_stderr),
            )
        ]
        threading.Thread(target=_feed, args=(channel, child.stdin), daemon=True).start()
        for thread in outputs:
            thread.start()
        for thread in outputs:
            thread.join()
        self._tell(channel, child.wait())

    def _at_terminal(self, channel: paramiko.Channel, command: str, env: dict[str, str]) -> None:
        master, slave = pty.openpty()
        termios.tcsetwinsize(slave, self.terminals.pop(channel.get_id()))
        self.masters[channel.get_id()] = master
        # setsid makes the terminal that of its session.
        argv = [shutil.which("setsid", path=SYSTEM) or "setsid", "--ctty", "/bin/sh", "-c", command]
        child = subprocess.Popen(argv, stdin=slave, stdout=slave, stderr=slave, env=env)
        os.close(slave)
        keys = open(os.dup(master), "wb", buffering=0)  # noqa: SIM115, PTH123 - _feed closes it
        threading.Thread(target=_feed, args=(channel, keys), daemon=True).start()
        with suppress(OSError, EOFError, paramiko.SSHException):
            while data := os.read(master, 1 << 15):
                channel.sendall(data)
        del self.masters[channel.get_id()]
        os.close(master)
        self._tell(channel, child.wait())

    @staticmethod
    def _tell(channel: paramiko.Channel, status: int) -> None:
        """Tell how a command ended; sshd has a message for a signal that we do not speak."""
        with suppress(OSError, EOFError, paramiko.SSHException):
            if status >= 0:
                channel.send_exit_status(status)
            channel.shutdown_write()
            channel.close()


def _copy(stream: Any, send: Callable[[bytes], None]) -> None:
    with suppress(OSError, EOFError, paramiko.SSHException):
        while data := stream.read1(1 << 15):
            send(data)
    stream.close()


def _feed(channel: paramiko.Channel, stream: Any) -> None:
    with suppress(OSError, EOFError, paramiko.SSHException):
        while data := channel.recv(1 << 15):
            stream.write(data)
            stream.flush()
    with suppress(OSError):
        stream.close()
