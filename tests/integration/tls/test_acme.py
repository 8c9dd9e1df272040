"""A certificate by ACME, from a real server: Pebble, of Let's Encrypt's makers, in this process'
own network. It refuses nonces at random, as its makers want clients to bear.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.tls import acme, authority, chain
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.integration

NAMES = ("rave.example.org", "auth.rave.example.org")
NOW = datetime.now(UTC)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


@contextmanager
def running(*argv: str, port: int, **environment: str) -> Iterator[None]:
    """Run a program until it listens, and end it afterwards."""
    assert shutil.which(argv[0]), f"apt-get install pebble ({argv[0]})"
    with subprocess.Popen(
        argv, env={**os.environ, **environment}, stdout=subprocess.DEVNULL, stderr=subprocess.STDOUT
    ) as process:
        until = time.monotonic() + CEILING
        while time.monotonic() < until:
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                assert process.poll() is None, argv
                time.sleep(0.02)
        yield
        process.kill()


class Server:
    """A directory, whom to trust for it, and where it comes for the challenges."""

    def __init__(self, url: str, ca: Path, challenges: int) -> None:
        self.url, self.ca, self.challenges = url, ca, challenges

    def obtain(self, *names: str) -> authority.Issued:
        return acme.obtain(self.url, names, ("127.0.0.1", self.challenges), ca=self.ca)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A configuration of this module's own: the server takes longer to start than all else."""
    place = tmp_path_factory.mktemp("config")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(place))
        yield place


@pytest.fixture(scope="module")
def server(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    tmp_path = tmp_path_factory.mktemp("pebble")
    own = authority.of("localhost")
    made = authority.issue(own, "localhost", now=NOW)
    for name, text in (("chain", made.chain), ("key", made.key)):
        (tmp_path / name).write_text(text)
    listen, manage, challenges, names, admin = (free_port() for _ in range(5))
    settings = {
        "listenAddress": f"127.0.0.1:{listen}",
        "managementListenAddress": f"127.0.0.1:{manage}",
        "certificate": str(tmp_path / "chain"),
        "privateKey": str(tmp_path / "key"),
        "httpPort": challenges,
        "tlsPort": 1,
    }
    (tmp_path / "pebble.json").write_text(json.dumps({"pebble": settings}))
    # Each name leads to this host.
    resolver = (
        "pebble-challtestsrv", "-dns01", f"127.0.0.1:{names}", "-management", f":{admin}",
        "-http01", "", "-https01", "", "-tlsalpn01", "", "-defaultIPv6", "",
    )  # fmt: skip
    pebble = (
        "pebble",
        "-config",
        str(tmp_path / "pebble.json"),
        "-dnsserver",
        f"127.0.0.1:{names}",
    )
    with (
        running(*resolver, port=admin),
        running(*pebble, port=listen, PEBBLE_VA_NOSLEEP="1", PEBBLE_WFE_NONCEREJECT="20"),
    ):
        ca = authority.certificate_file("localhost")
        yield Server(f"https://localhost:{listen}/dir", ca, challenges)


def test_a_certificate_is_had_for_each_name_and_an_account_is_kept(
    server: Server, config: Path
) -> None:
    made = server.obtain(*NAMES)
    taken = chain.own(
        made.chain.encode(), made.key.encode(), NAMES, now=datetime.now(UTC), places=("a", "b")
    )
    assert chain.facts(taken.chain).names == NAMES
    (account,) = (config / "rave/tls/accounts").iterdir()
    assert account.stat().st_mode & 0o777 == 0o600
    before = account.read_bytes()
    assert server.obtain(*NAMES).key != made.key
    assert account.read_bytes() == before


def test_a_name_that_does_not_lead_here_is_refused_in_the_servers_words(server: Server) -> None:
    with pytest.raises(RaveError, match=r"elsewhere\.example\.org") as caught:
        Server(server.url, server.ca, free_port()).obtain("elsewhere.example.org")
    assert caught.value.exit_code is ExitCode.VERIFICATION


def test_a_port_that_is_taken_is_named(server: Server) -> None:
    with (
        socket.create_server(("127.0.0.1", server.challenges)),
        pytest.raises(RaveError, match=f"answered at 127.0.0.1:{server.challenges}") as caught,
    ):
        server.obtain(*NAMES)
    assert caught.value.exit_code is ExitCode.HOST


def test_a_server_that_is_not_trusted_is_not_asked(server: Server) -> None:
    with pytest.raises(RaveError, match="cannot be asked") as caught:
        acme.obtain(server.url, NAMES, ("127.0.0.1", server.challenges))
    assert caught.value.exit_code is ExitCode.HOST


def test_what_is_no_directory_is_told_so(server: Server) -> None:
    elsewhere = server.url.removesuffix("dir") + "elsewhere"
    with pytest.raises(RaveError, match="it is no directory"):
        Server(elsewhere, server.ca, server.challenges).obtain(*NAMES)
