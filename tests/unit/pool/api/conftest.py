"""A pool's API as it is served, on a socket and by TLS, over a store that nobody serves."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING

import httpx
import pytest

from rave_cli.pool.api import certificate
from rave_cli.pool.api.events import JobFeed
from rave_cli.pool.api.listening import Listen, listening
from rave_cli.pool.api.tokens import Tokens
from rave_cli.pool.serving.metrics import PoolMetrics
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.pool.api.tokens import Role


class ServedApi:
    """Both doors of an API that is served."""

    def __init__(self, feed: JobFeed, unix: str, https: str, trusted: Path) -> None:
        self.feed, self.unix, self.https, self.trusted = feed, unix, https, trusted
        self.context = ssl.create_default_context(cafile=str(trusted))

    def owner(self) -> httpx.Client:
        """A client on the socket."""
        transport = httpx.HTTPTransport(uds=self.unix.removeprefix("unix:"))
        return httpx.Client(transport=transport, base_url="http://pool", timeout=CEILING)

    def other(self, token: str = "") -> httpx.Client:
        """A client on the network."""
        said = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx.Client(base_url=self.https, verify=self.context, headers=said, timeout=CEILING)

    def holder(self, role: Role) -> httpx.Client:
        """A client with a new token."""
        return self.other(Tokens().create("somebody", role, 1, time.time())[1])


@pytest.fixture
def api(home: Path) -> Iterator[ServedApi]:
    feed, own = JobFeed(), certificate.own("127.0.0.1")
    with listening(feed, PoolMetrics("demo"), Listen("127.0.0.1", 0, own)) as (unix, https):
        yield ServedApi(feed, unix, https, own.certificate)
