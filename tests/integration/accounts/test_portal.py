"""The portal's program, with the real Canaille and a real Prometheus: people sign in and look."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import visiting
from rave_guest.portal import figures
from rave_guest.services import canaille as service
from tests import postgres
from tests.debian import part, plan
from tests.integration.accounts.conftest import (
    HAND,
    ORIGIN,
    PORTAL_PORT,
    PORTAL_SECRET,
    forwarded,
)
from tests.integration.accounts.test_accounts import ALICE, Operator, ask
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from tests.integration.accounts.conftest import Canaille

__all__ = ["ask"]

pytestmark = [pytest.mark.integration, *postgres.NEEDED]

SOURCE = Path(__file__).resolve().parents[3] / "src"
ACCOUNTS = ORIGIN.replace("//", "//auth.")
# As infra/guest/rave-guest starts it; the origin is elsewhere here.
START = (
    "import sys; sys.path.insert(0, sys.argv.pop(1));"
    "from rave_guest.portal import program; program.ORIGIN = sys.argv.pop(1);"
    "program.IDLE = 600.0; program.main(sys.argv[1:])"
)


@pytest.fixture(scope="module")
def portal(canaille: Canaille, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Start it as systemd does: the socket is there before, and is handed over."""
    place = tmp_path_factory.mktemp("portal")
    (place / "origin").write_text(f"{ORIGIN}\n")
    (place / "secret").write_text(PORTAL_SECRET)
    settings = json.loads(part("portal").files(plan("development"))["etc/rave/portal.json"])
    inside = f"http://127.0.0.1:{canaille.port}"
    settings["provider"] |= {
        "secret": str(place / "secret"),
        **{name: settings["provider"][name].replace("http://127.0.0.1:3040", inside)
           for name in ("token", "jwks")},
    }  # fmt: skip
    settings["prometheus"] = None
    (place / "portal.json").write_text(json.dumps(settings))
    with socket.create_server(("127.0.0.1", PORTAL_PORT)) as listener:
        argv = [
            sys.executable, "-c", HAND, str(listener.fileno()), sys.executable, "-ISB", "-c", START,
            str(SOURCE), str(place / "origin"), str(place / "portal.json"), str(place / "run"),
        ]  # fmt: skip
        process = subprocess.Popen(argv, pass_fds=[listener.fileno()])
        try:
            yield PORTAL_PORT
        finally:
            process.kill()
            process.wait()


class Front(BaseHTTPRequestHandler):
    """What of nginx' configuration counts for a visit: parts, and what is behind sign-in."""

    portal: int

    def _of_portal(self, path: str, method: str = "GET") -> tuple[int, Any, bytes]:
        with closing(HTTPConnection("127.0.0.1", self.portal, timeout=60)) as connection:
            connection.request(method, path, headers=dict(self.headers.items()))
            reply = connection.getresponse()
            return reply.status, reply.msg, reply.read()

    def _say(self, status: int, headers: Any, body: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower() in ("location", "set-cookie", "refresh"):
                self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        """Answer, or let the portal answer."""
        path = self.path.partition("?")[0]
        if path == "/":
            self._say(200, {}, self._of_portal("/portal/part")[2])
        elif not path.startswith("/prometheus/"):
            self._say(*self._of_portal(self.path))
        elif self._of_portal("/portal/session")[0] == 204:
            self._say(200, {}, b'{"status":"success"}')
        else:
            self._say(303, {"Location": "/portal/sign-in?to=prometheus"}, b"")

    def do_POST(self) -> None:
        """Let the portal answer, and nobody else."""
        closed = self.path.startswith("/prometheus/")
        self._say(*((403, {}, b"") if closed else self._of_portal(self.path, "POST")))

    def log_message(self, *_: Any) -> None:
        """Say nothing."""


@contextmanager
def front(portal: int) -> Iterator[int]:
    handler = type("ThisFront", (Front,), {"portal": portal})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        Thread(target=found.serve_forever, daemon=True).start()
        yield found.server_port
        found.shutdown()


class Forwarded(HTTPConnection):
    """A connection to Canaille, as nginx makes it."""

    def request(self, method: str, url: str, body: Any = None, headers: Any = (), **_: Any) -> None:
        """Add what nginx does."""
        more = {name: value for name, value in forwarded().items() if name != "Host"}
        super().request(method, url, body, {**dict(headers), **more})


def visit(canaille: Canaille, port: int) -> visiting.Visit:
    def accounts(action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return service.accounts(action, arguments, str(canaille.control))

    def connect(site: str) -> HTTPConnection:
        if site == ORIGIN:
            return HTTPConnection("127.0.0.1", port, timeout=60)
        return Forwarded("127.0.0.1", canaille.port, timeout=60)

    return visiting.Visit(ORIGIN, ACCOUNTS, accounts, connect)


def test_every_step_of_a_visit_passes_whatever_was_left_before_and_nothing_is_left(
    canaille: Canaille, portal: int, ask: Operator
) -> None:
    ask("add", visiting.USER, name="Left", email="", groups=[], password=False)
    with front(portal) as port:
        verdicts = visiting.travel(visit(canaille, port))
    assert {name: one for name, one in verdicts.items() if one.status != "pass"} == {}
    assert list(verdicts) == list(visiting.STEPS)
    assert ask("list")["users"] == []


def test_a_portal_that_lets_strangers_in_is_found(canaille: Canaille, portal: int) -> None:
    class Open(Front):
        portal: int

        def _of_portal(self, path: str, method: str = "GET") -> tuple[int, Any, bytes]:
            if path == "/portal/session":
                return 204, {}, b""
            return super()._of_portal(path, method)

    handler = type("ThisFront", (Open,), {"portal": portal})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as found:
        Thread(target=found.serve_forever, daemon=True).start()
        verdicts = visiting.travel(visit(canaille, found.server_port))
        found.shutdown()
    states = {name: one.status for name, one in verdicts.items()}
    assert (states["closed"], states["sign-in"], states["sign-out"]) == ("fail", "pass", "fail")


def test_whoever_is_disabled_is_nobody_at_the_portal_at_once(
    canaille: Canaille, portal: int, ask: Operator
) -> None:
    one_time = ask("add", "alice", **ALICE)["password"]
    with front(portal) as port:
        somebody = visit(canaille, port)
        there = somebody.there.open(somebody.send(somebody.here))
        there.submit(login="alice").submit(password=one_time)
        there.submit(password="a long new word", confirmation="a long new word")
        somebody.here.open(somebody.come_back(there))
        assert "Alice" in somebody.here.page
        answer = ask("disable", "alice")
        assert "portal" not in answer["untold"]
        somebody.here.open("/")
        assert "Alice" not in somebody.here.page
        somebody.send(somebody.here, visiting.CLOSED)


def test_a_real_prometheus_understands_every_question(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each is answered, though nothing has been scraped; and errors are none, not unknown."""
    monkeypatch.setattr(figures, "ANSWERS", CEILING)
    port = postgres.free_port()
    (tmp_path / "prometheus.yml").write_text("{}")
    process = subprocess.Popen(
        [
            "/usr/bin/prometheus", f"--config.file={tmp_path}/prometheus.yml",
            f"--web.listen-address=127.0.0.1:{port}", f"--storage.tsdb.path={tmp_path}/data",
            *behind(),
        ],
        stderr=subprocess.DEVNULL, env=os.environ | {"GOMAXPROCS": "1"},
    )  # fmt: skip
    try:
        until(lambda: _answers(port))
        found = figures.Curves(f"http://127.0.0.1:{port}").current()
        assert found is not None
        assert {one.figure.name: one.latest for one in found} == {
            "CPU": "none", "Memory": "none", "Requests": "none", "Errors": "0 each second",
            "Latency": "none",
        }  # fmt: skip
        page = _get(port, "/classic/graph")
        assert page.count('"/prometheus/classic/static/') > 10, "its pages name other places"
        assert _get(port, "/classic/static/js/graph/index.js")
    finally:
        process.kill()
        process.wait()


def behind() -> list[str]:
    """Return the flags that Prometheus has where its pages are behind sign-in."""
    text = part("portal").files(plan("development"))[part("portal").ADDRESS]
    flags: str = text.partition('"BEHIND=')[2].partition('"')[0]
    return flags.split()


def _get(port: int, path: str) -> str:
    with closing(HTTPConnection("127.0.0.1", port, timeout=CEILING)) as connection:
        connection.request("GET", path)
        reply = connection.getresponse()
        assert reply.status == 200
        return reply.read().decode()


def _answers(port: int) -> bool:
    try:
        return bool(_get(port, "/-/ready"))
    except (OSError, AssertionError):
        return False
