"""Real services take a new secret while they run."""

from __future__ import annotations

import hashlib
import shutil
import socket
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest.proof import Unproven
from rave_guest.services import redis
from rave_guest.wire.redis import Redis, RedisError
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

OLD, NEW = "the password of before", "the password of now"


@pytest.fixture
def port(tmp_path: Path) -> Iterator[int]:
    """A real Redis with its account as redis-auth writes it."""
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("no redis-server on this host")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = int(taken.getsockname()[1])
    config = tmp_path / "redis.conf"
    account = f"user default on #{hashlib.sha256(OLD.encode()).hexdigest()} ~* &* +@all"
    config.write_text(f'bind 127.0.0.1\nport {port}\ndir {tmp_path}\nsave ""\n{account}\n')
    with subprocess.Popen([program, str(config)], stdout=subprocess.DEVNULL) as child:
        try:
            until(lambda: accepts(port, OLD))
            yield port
        finally:
            child.kill()


def accepts(port: int, password: str) -> bool:
    with suppress(OSError, RedisError), Redis(5, port) as client:
        client.ask("AUTH", password)
        return client.ask("PING") == "PONG"
    return False


def test_redis_knows_both_until_it_forgets_the_old_one(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, ...]] = []
    monkeypatch.setattr(redis, "call", lambda *argv: called.append(argv))
    plan: dict[str, Any] = {"services": {"redis": {"ports": [{"name": "redis", "port": port}]}}}
    (proof,) = redis.proofs(plan, redis.SECRET)
    with Redis(5, port) as open_before:
        open_before.ask("AUTH", OLD)
        forget = redis.renew(plan, redis.SECRET, NEW, OLD)
        assert called == [(redis.RENDERS,)]
        assert (accepts(port, OLD), accepts(port, NEW)) == (True, True)
        with pytest.raises(Unproven):
            proof.ask(NEW, OLD)
        forget()
        assert proof.ask(NEW, OLD) == ["none", "previous"]
        # A connection of before goes on: it has shown what was right then.
        assert open_before.ask("PING") == "PONG"
