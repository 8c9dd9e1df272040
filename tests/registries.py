"""A real registry for tests, Debian's docker-registry, and what can be put in front of it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

CONFIG = """\
version: 0.1
log: {{level: warn, accesslog: {{disabled: true}}}}
storage: {storage}
http: {{addr: "127.0.0.1:{port}"{http}}}
{more}
"""


def free_port() -> int:
    """Return a port of this host's loopback that nobody had just now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@dataclass(frozen=True)
class RealRegistry:
    """A docker-registry that runs."""

    port: int
    root: Path
    process: subprocess.Popen[bytes]

    def at(self, name: str) -> str:
        """Return a reference to something in it."""
        return f"oci://127.0.0.1:{self.port}/{name}"


@contextmanager
def real_registry(
    root: Path, *, http: str = "", more: str = "", most_file: int | None = None
) -> Iterator[RealRegistry]:
    """Run one.

    Args:
        root: what it keeps is below there.
        http: more of the `http` section of its configuration, after a comma.
        more: more sections.
        most_file: bytes of the largest file that it can write, as on a disk that is full; None
            for one that keeps all in memory, and waits for no disk.
    """
    program = shutil.which("docker-registry")
    assert program, "apt-get install docker-registry"
    root.mkdir(exist_ok=True)
    port = free_port()
    config = root / "config.yml"
    storage = (
        "{inmemory: {}}" if most_file is None else f"{{filesystem: {{rootdirectory: {root}}}}}"
    )
    config.write_text(CONFIG.format(storage=storage, port=port, http=http, more=more))
    limit = "" if most_file is None else f"ulimit -f {most_file // 512}; "
    with (root / "log").open("wb") as log:
        process = subprocess.Popen(
            ["sh", "-c", f'{limit}exec "$0" serve "$1"', program, str(config)],
            stdout=log, stderr=log,
            env={"OTEL_TRACES_EXPORTER": "none", "PATH": "/usr/bin:/bin", "HOME": str(root)},
        )  # fmt: skip
    try:
        until(lambda: process.poll() is not None or _listens(port))
        assert process.poll() is None, (root / "log").read_text()
        yield RealRegistry(port, root, process)
    finally:
        process.kill()
        process.wait()


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


class Cutter:
    """Stands between a client and a server, and cuts connections after so many bytes; a context
    that ends it.

    Args:
        port: of the server.
        up: bytes of a client's after which its connection is cut; taken once each, in order.
        down: of the server's, likewise.
    """

    def __init__(self, port: int, *, up: tuple[int, ...] = (), down: tuple[int, ...] = ()) -> None:
        self.server, self.up, self.down = port, list(up), list(down)
        self.cuts = 0
        self._lock = threading.Lock()
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listening.getsockname()[1])
        self._open: list[socket.socket] = []
        self._threads = [threading.Thread(target=self._serve, daemon=True)]

    def __enter__(self) -> Self:
        self._threads[0].start()
        return self

    def __exit__(self, *_fault: object) -> None:
        # A listener that is closed does not wake whoever accepts.
        self._listening.shutdown(socket.SHUT_RDWR)
        for end in self._open:
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()
        self._listening.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._listening.accept()
                thread = threading.Thread(target=self._stand_between, args=(client,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _stand_between(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self.server)) as server:
            self._open += (client, server)
            up = threading.Thread(target=self._carry, args=(client, server, self.up), daemon=True)
            up.start()
            self._carry(server, client, self.down)
            up.join()

    def _carry(self, source: socket.socket, target: socket.socket, limits: list[int]) -> None:
        carried = 0
        with suppress(OSError):
            while data := source.recv(65536):
                carried += len(data)
                with self._lock:
                    cut = bool(limits) and carried >= limits[0]
                    if cut:
                        limits.pop(0)
                        self.cuts += 1
                if cut:
                    break
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
