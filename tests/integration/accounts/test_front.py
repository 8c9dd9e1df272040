"""The portal behind the real nginx, with the guest's own configuration, Canaille and Prometheus.

nginx is no package of the tests, so it is asked for: RAVE_NGINX names the program.
"""

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
from contextlib import contextmanager
from http.client import HTTPConnection, HTTPSConnection
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import visiting
from rave_guest.services import canaille as service
from tests import postgres
from tests.debian import plan, rendered
from tests.integration.accounts.conftest import ORIGIN
from tests.integration.accounts.test_accounts import Operator, ask
from tests.integration.accounts.test_portal import behind, portal
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from tests.integration.accounts.conftest import Canaille

__all__ = ["ask", "portal"]

NGINX = os.environ.get("RAVE_NGINX")
PORT = int(ORIGIN.rpartition(":")[2])
TYPES = "types { text/html html; text/css css; application/javascript js; }\n"

pytestmark = [
    pytest.mark.integration, *postgres.NEEDED,
    pytest.mark.skipif(not NGINX, reason="RAVE_NGINX is not named"),
]  # fmt: skip


def configuration(place: Path, ports: Mapping[int, int]) -> Path:
    """Write the guest's configuration of nginx, for this host: other places, other ports."""
    moved = {
        "/etc/nginx/": f"{place}/etc/nginx/", "/run/rave/": f"{place}/run/",
        "/run/nginx/": f"{place}/run/", "user www-data;": "" if os.geteuid() else "user root root;",
        "syslog:server=unix:/dev/log,nohostname,tag=nginx": f"{place}/run/access.log",
        f"listen {PORT} ssl": f"listen 127.0.0.1:{PORT} ssl",
        **{f"127.0.0.1:{port}": f"127.0.0.1:{ours}" for port, ours in ports.items()},
    }  # fmt: skip
    for path, text in rendered("development").items():
        if path.startswith("etc/nginx/"):
            here = text
            for before, after in moved.items():
                here = here.replace(before, after)
            (place / path).parent.mkdir(parents=True, exist_ok=True)
            (place / path).write_text(here)
    (place / "etc/nginx/mime.types").write_text(TYPES)
    (place / "run/www").mkdir(parents=True)
    (place / "run/sites").mkdir()
    (place / "run/tls").mkdir()
    for site in ("auth", "matrix"):
        (place / f"run/sites/{site}.conf").write_text(f"server_name {site}.rave.localhost;\n")
    (place / "run/www/index.html").write_text('<!--# include virtual="/portal/part" -->\n')
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
         "-noenc", "-days", "2", "-subj", "/CN=test", "-addext",
         "subjectAltName=DNS:rave.localhost,DNS:*.rave.localhost",
         "-keyout", place / "run/tls/current.key", "-out", place / "run/tls/current.crt"],
        check=True, capture_output=True,
    )  # fmt: skip
    return place / "etc/nginx/nginx.conf"


@contextmanager
def program(argv: list[str], place: Path, port: int) -> Iterator[None]:
    """Run something that listens on a port."""
    assert not _accepts(port), f"port {port} is taken"
    with (place / f"log-{port}").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log)
        try:
            until(lambda: process.poll() is not None or _accepts(port))
            assert process.poll() is None, (place / f"log-{port}").read_text()
            yield
        finally:
            # nginx has a worker, which it ends.
            process.terminate()
            process.wait(CEILING)


def _accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@pytest.fixture(scope="module")
def front(
    canaille: Canaille, portal: int, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ssl.SSLContext]:
    """Start nginx and Prometheus; returns whom to trust."""
    place = tmp_path_factory.mktemp("front")
    own = {
        port["name"]: port["port"]
        for name in ("nginx", "portal", "canaille")
        for port in plan("development")["services"][name]["ports"]
    }
    assert own["status"] == PORT
    prometheus, stub = postgres.free_port(), postgres.free_port()
    file = configuration(
        place, {3006: portal, 3040: canaille.port, 9090: prometheus, own["stub-status"]: stub}
    )
    (place / "prometheus.yml").write_text("{}")
    argv = [
        "/usr/bin/prometheus", f"--config.file={place}/prometheus.yml",
        f"--web.listen-address=127.0.0.1:{prometheus}", f"--storage.tsdb.path={place}/data",
        *behind(),
    ]  # fmt: skip
    with program(argv, place, prometheus), program([str(NGINX), "-c", str(file)], place, PORT):
        yield ssl.create_default_context(cafile=str(place / "run/tls/current.crt"))


class Here(HTTPSConnection):
    """A connection to this nginx under the name of a site."""

    def connect(self) -> None:
        """Connect to this host, whatever the name."""
        plain = socket.create_connection(("127.0.0.1", PORT), CEILING)
        self.sock = self._context.wrap_socket(plain, server_hostname=self.host)  # type: ignore[attr-defined]


def test_a_visit_as_the_smoke_suite_makes_it(
    canaille: Canaille, front: ssl.SSLContext, ask: Operator
) -> None:
    def accounts(action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return service.accounts(action, arguments, str(canaille.control))

    def connect(site: str) -> HTTPConnection:
        return Here(site.partition("://")[2].partition(":")[0], PORT, context=front)

    accounts_site = ORIGIN.replace("//", "//auth.")
    verdicts = visiting.travel(visiting.Visit(ORIGIN, accounts_site, accounts, connect))
    assert {name: one for name, one in verdicts.items() if one.status != "pass"} == {}
    assert ask("list")["users"] == []


@pytest.mark.parametrize(
    ("path", "status"),
    [("/portal/part", 404), ("/portal/session", 404), ("/portal/ended", 404),
     ("/portal/callback", 400), ("/prometheus/-/ready", 303), ("/alertmanager/", 303),
     ("/prometheus/../portal/part", 404), ("/portal/sign-out", 405)],
)  # fmt: skip
def test_strangers_reach_what_is_for_them(front: ssl.SSLContext, path: str, status: int) -> None:
    connection = Here("rave.localhost", PORT, context=front)
    connection.request("GET", path)
    reply = connection.getresponse()
    body = reply.read().decode()
    connection.close()
    assert reply.status == status
    assert "default-src 'none'" in str(reply.headers["Content-Security-Policy"])
    if status == 303:
        assert re.fullmatch(r"/portal/sign-in\?to=\w+", str(reply.headers["Location"])), body
