"""A real registry for tests, Debian's docker-registry, and what can be put in front of it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tests.between import Between
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


class Cutter(Between):
    """Cuts connections after so many bytes.

    Args:
        port: of the server.
        up: bytes of a client's after which its connection is cut; taken once each, in order.
        down: of the server's, likewise.
    """

    def __init__(self, port: int, *, up: tuple[int, ...] = (), down: tuple[int, ...] = ()) -> None:
        super().__init__(port)
        self.up, self.down = list(up), list(down)
        self.cuts = 0
        self._lock = threading.Lock()

    def lets(self, piece: int, carried: int, *, up: bool) -> bool:
        """As Between."""
        del piece
        limits = self.up if up else self.down
        with self._lock:
            cut = bool(limits) and carried >= limits[0]
            if cut:
                limits.pop(0)
                self.cuts += 1
        return not cut
