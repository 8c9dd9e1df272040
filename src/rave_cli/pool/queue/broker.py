"""The Redis server behind the queue: one of our own, on a socket that only we can open, or another.

Ours ends with us, however we end. What it kept is worth its start: where it cannot read that any
more it begins with nothing, for the queue is made anew from the store.
"""

from __future__ import annotations

import shutil
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu.qmp import check_socket_path
from rave_cli.pool.queue.streams import ANSWERS, check_version

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.pool.queue.address import RedisAddress

PROGRAM = "redis-server"

# Seconds for a server to start and read what it wrote down.
STARTS = 20.0
LOOK = 0.02

# MiB of memory: a short job takes a KiB. Beyond that it refuses what is new, and forgets nothing.
MEMORY_MIB = 512


class Broker:
    """Our own server, started again when it ends."""

    def __init__(self, folder: Path, socket: Path) -> None:
        self.folder, self._socket, self._log = folder, socket, folder.parent / "redis.log"
        self.child: subprocess.Popen[bytes] | None = None
        self.client = redis.Redis(unix_socket_path=str(socket), **_manner())

    def tend(self) -> bool:
        """Start the server unless it runs; return whether it was started.

        Raises:
            RaveError: HOST if it does not start.
        """
        if self.child is not None and self.child.poll() is None:
            return False
        try:
            self._start()
        except RaveError:
            # What it kept may be what stops it.
            shutil.rmtree(self.folder, ignore_errors=True)
            self._start()
        return True

    def end(self) -> None:
        """End the server; it writes down what it has."""
        if self.child is not None:
            process.kill_group(self.child, grace=ANSWERS)
        self.client.close()

    def _start(self) -> None:
        paths.private_dir(self.folder)
        with paths.refusing(self._log), self._log.open("wb") as log:
            self.child = process.start(self._argv(), stdout=log, stderr=log, cwd=self.folder)
        until = time.monotonic() + STARTS
        while not self._answers():
            if self.child.poll() is not None or time.monotonic() > until:
                process.kill_group(self.child, grace=0.0)
                raise self._fault()
            time.sleep(LOOK)

    def _answers(self) -> bool:
        try:
            return bool(self.client.ping())
        except redis.RedisError:
            return False

    def _fault(self) -> RaveError:
        said = self._log.read_text(errors="replace").splitlines()[-6:]
        return RaveError(
            f"{PROGRAM} does not start",
            hint=f"less {self._log}",
            exit_code=ExitCode.HOST,
            detail=tuple(said),
        )

    def _argv(self) -> list[str]:
        words = {
            "port": "0",
            "unixsocket": str(self._socket),
            "unixsocketperm": "700",
            "dir": str(self.folder),
            "appendonly": "yes",
            # With `everysec` it answers before it has written, while an earlier sync takes long:
            # killed then, it begins again with jobs that are over, and they would be run once more.
            "appendfsync": "always",
            "save": "",
            "maxmemory": f"{MEMORY_MIB}mb",
            # Any other policy forgets jobs when memory runs out.
            "maxmemory-policy": "noeviction",
            "databases": "1",
        }
        # The kernel ends it with the thread that started it: that is the one of the commands.
        argv = ["setpriv", "--pdeathsig", "KILL", process.require(PROGRAM)]
        return argv + [word for name, value in words.items() for word in (f"--{name}", value)]


@contextmanager
def own(folder: Path) -> Iterator[Broker]:
    """Run a server of our own, whose files are in `folder`, until this is left.

    Raises:
        RaveError: HOST if there is no redis-server, or it is too old or does not start.
    """
    socket = paths.private_dir(paths.runtime_dir()) / "pool.sock"
    check_socket_path(socket)
    broker = Broker(folder, socket)
    try:
        broker.tend()
        check_version(broker.client)
        yield broker
    finally:
        broker.end()


@contextmanager
def shared(address: RedisAddress) -> Iterator[redis.Redis]:
    """Connect to a server that others run.

    Raises:
        RaveError: USAGE if the URL is none; HOST if the server does not answer, lets us not in, or
            is too old.
    """
    try:
        client = redis.Redis.from_url(address.url, **_manner())
    except ValueError as error:
        # Without the cause: it may quote the URL.
        raise RaveError(
            "that is no URL of a Redis server",
            hint="redis://HOST:6379/0, or rediss:// with TLS, or unix:///PATH",
            exit_code=ExitCode.USAGE,
        ) from (None if address.has_password else error)
    try:
        _check(client, address)
        yield client
    finally:
        client.close()


def _check(client: redis.Redis, address: RedisAddress) -> None:
    try:
        check_version(client)
        forgets = _policy(client)
    except (redis.RedisError, OSError) as error:
        raise RaveError(
            f"the Redis server {address.shown} does not answer, or lets us not in: {error}",
            hint="redis-cli --tls -h HOST ping; docs/how-to/one-pool-several-hosts.md",
            exit_code=ExitCode.HOST,
        ) from error
    if forgets:
        raise RaveError(
            f"the Redis server {address.shown} forgets jobs when its memory is full"
            f" (maxmemory-policy {forgets})",
            hint="redis-cli config set maxmemory-policy noeviction",
            exit_code=ExitCode.HOST,
        )


def _policy(client: redis.Redis) -> str:
    """Return the policy of a server that forgets; nothing if it does not, or does not say."""
    found = client.info("memory")
    policy = str(found.get("maxmemory_policy", "noeviction"))
    return "" if policy == "noeviction" or not found.get("maxmemory") else policy


def _manner() -> dict[str, Any]:
    # A call that may have been carried out is not made twice by the library: each of ours is asked
    # again where that changes nothing.
    return {"socket_timeout": ANSWERS, "protocol": 2, "retry": Retry(NoBackoff(), 0)}
