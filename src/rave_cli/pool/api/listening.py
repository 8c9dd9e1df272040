"""Serves the API while the pool is served: in a thread, on a socket and at an address."""

from __future__ import annotations

import asyncio
import logging
import socket
import ssl
import threading
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import uvicorn

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu.qmp import check_socket_path
from rave_cli.pool.api.callers import OwnerOnly, TokenHolders
from rave_cli.pool.api.hookdoor import HookDoor
from rave_cli.pool.api.punctual import PunctualProtocol
from rave_cli.pool.api.storethread import Acceptance, StoreThread
from rave_cli.pool.api.web import PoolWeb
from rave_cli.pool.served import api_socket
from rave_cli.pool.sources.hooks import HookIntake

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.pool.api.callers import Callers
    from rave_cli.pool.api.certificate import ServerCertificate
    from rave_cli.pool.api.events import JobFeed
    from rave_cli.pool.serving.metrics import PoolMetrics

log = logging.getLogger("rave.pool.api")

# Seconds to begin, and for what is being answered when it ends.
BEGINS = 60.0
ENDS = 3

# Connections at each door, and bytes of the head of a question.
MOST_CONNECTIONS = 256
LONGEST_HEAD = 16 << 10


@dataclass(frozen=True)
class Listen:
    """Where others may ask: an address that the host has, and the certificate that is shown."""

    host: str
    port: int
    certificate: ServerCertificate


@contextmanager
def listening(
    feed: JobFeed, metrics: PoolMetrics, listen: Listen | None = None
) -> Iterator[tuple[str, ...]]:
    """Answer meanwhile; yields the endpoints. Whoever calls is the only one who serves the pool.

    Raises:
        RaveError: HOST if it cannot listen there, or the certificate is none.
    """
    doors = [_Door(OwnerOnly(), _unix_socket(api_socket()), None)]
    endpoints = [f"unix:{api_socket()}"]
    try:
        if listen is not None:
            context = _context(listen.certificate)
            found = _tcp_socket(listen)
            doors.append(_Door(TokenHolders(), found, context))
            shown = f"[{listen.host}]" if ":" in listen.host else listen.host
            endpoints.append(f"https://{shown}:{found.getsockname()[1]}")
        server = _ApiServer(doors, feed, metrics)
        with server.answering():
            yield tuple(endpoints)
    finally:
        for door in doors:
            door.socket.close()
        api_socket().unlink(missing_ok=True)


@dataclass(frozen=True)
class _Door:
    callers: Callers
    socket: socket.socket
    context: ssl.SSLContext | None


class _ApiServer:
    """A thread with the doors' servers in one loop."""

    def __init__(self, doors: list[_Door], feed: JobFeed, metrics: PoolMetrics) -> None:
        self._doors, self._feed, self._metrics = doors, feed, metrics
        self._begun: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()

    @contextmanager
    def answering(self) -> Iterator[None]:
        thread = threading.Thread(target=self._run, name="the pool's API")
        thread.start()
        loop, ends = self._begun.result(BEGINS)
        try:
            yield
        finally:
            loop.call_soon_threadsafe(ends.set)
            thread.join()

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except Exception as error:
            log.exception("the pool's API ended")
            if not self._begun.done():
                self._begun.set_exception(error)

    async def _serve(self) -> None:
        reads, writes = StoreThread(), StoreThread()
        acceptance = Acceptance(writes, log.warning)
        hooks = HookDoor(HookIntake())
        self._feed.begin()
        servers, serving = [], []
        for door in self._doors:
            web = PoolWeb(door.callers, reads, acceptance, self._feed, self._metrics, hooks)
            server = uvicorn.Server(_config(web, door.context))
            servers.append(server)
            serving.append(asyncio.create_task(server.serve(sockets=[door.socket])))
        ends = asyncio.Event()
        while not all(server.started for server in servers):
            await asyncio.sleep(0.005)
        self._begun.set_result((asyncio.get_running_loop(), ends))
        await ends.wait()
        self._feed.end()
        for server in servers:
            server.should_exit = True
        await asyncio.gather(*serving)
        for thread in (reads, writes, hooks):
            await asyncio.to_thread(thread.close)


def _config(web: PoolWeb, context: ssl.SSLContext | None) -> uvicorn.Config:
    return uvicorn.Config(
        web.app(),
        http=PunctualProtocol,
        ws="websockets-sansio",
        loop="asyncio",
        lifespan="off",
        log_config=None,
        access_log=False,
        # Nobody stands before it whose word on who asks would count.
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MOST_CONNECTIONS,
        timeout_graceful_shutdown=ENDS,
        h11_max_incomplete_event_size=LONGEST_HEAD,
        ws_max_size=1024,
        ws_per_message_deflate=False,
        ssl_context_factory=None if context is None else lambda _config, _default: context,
    )


def _unix_socket(place: Path) -> socket.socket:
    paths.private_dir(place.parent)
    check_socket_path(place)
    with paths.refusing(place):
        # Left by one that was killed: nobody else serves.
        place.unlink(missing_ok=True)
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            found.bind(str(place))
            place.chmod(0o600)
        except OSError:
            found.close()
            raise
    return found


def _tcp_socket(listen: Listen) -> socket.socket:
    try:
        kind, _, _, _, where = socket.getaddrinfo(
            listen.host, listen.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        found = socket.socket(kind, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
        try:
            found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            found.bind(where)
        except OSError:
            found.close()
            raise
    except OSError as error:
        raise RaveError(
            f"the pool cannot listen at {listen.host}:{listen.port}: {error.strerror}",
            hint=f"ss -ltnp 'sport = :{listen.port}'",
            exit_code=ExitCode.HOST,
        ) from error
    return found


def _context(certificate: ServerCertificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # Nothing before what is asked for: websockets' client polls, reads a ticket as if it were an
    # answer, and then is held in that read, which not even its closing of the socket ends.
    context.num_tickets = 0
    try:
        context.load_cert_chain(certificate.certificate, certificate.key)
    except (OSError, ssl.SSLError) as error:
        raise RaveError(
            f"{certificate.certificate} is no certificate for the key {certificate.key}: {error}",
            hint=f"openssl x509 -in {certificate.certificate} -noout -text",
            exit_code=ExitCode.HOST,
        ) from error
    return context
