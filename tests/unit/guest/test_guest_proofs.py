"""Proofs, asked of small servers that speak just enough of each protocol."""

from __future__ import annotations

import json
import socketserver
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest.proof import Unproven
from rave_guest.secrets import proofs

if TYPE_CHECKING:
    from collections.abc import Iterator

NEW, OLD = "the-new-password", "the-old-password"
NOW = datetime.now(UTC)


class Redis(socketserver.StreamRequestHandler):
    """Knows AUTH, SET and PING; `server.accepts` holds the passwords, None: nobody needs one."""

    def handle(self) -> None:
        known = None in self.server.accepts  # type: ignore[attr-defined]
        while head := self.rfile.readline():
            words = [self._word() for _ in range(int(head[1:]))]
            if words[0] == "AUTH":
                known = words[1] in self.server.accepts  # type: ignore[attr-defined]
                self.wfile.write(b"+OK\r\n" if known else b"-WRONGPASS no\r\n")
            else:
                self.wfile.write(b"+PONG\r\n" if known else b"-NOAUTH no\r\n")

    def _word(self) -> str:
        size = int(self.rfile.readline()[1:])
        return self.rfile.read(size + 2)[:-2].decode()


class Nats(socketserver.StreamRequestHandler):
    """Answers CONNECT by the password; `server.accepts` as above."""

    def handle(self) -> None:
        self.wfile.write(b'INFO {"server_id": "x"}\r\n')
        login = json.loads(self.rfile.readline().decode().partition(" ")[2])
        good = login.get("pass") in self.server.accepts  # type: ignore[attr-defined]
        self.wfile.write(b"PONG\r\n" if good else b"-ERR 'Authorization Violation'\r\n")


@contextmanager
def served(
    handler: type[socketserver.BaseRequestHandler], accepts: set[str | None]
) -> Iterator[int]:
    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), handler) as server:
        server.accepts = accepts  # type: ignore[attr-defined]
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


PORTS = {"redis": "redis", "nats": "client", "nginx": "status"}
SECRETS = {"redis": "redis/password", "nats": "nats/password"}
HANDLERS: dict[str, type[socketserver.BaseRequestHandler]] = {"redis": Redis, "nats": Nats}


def plan_of(service: str, port: int) -> dict[str, Any]:
    return {
        "databases": [],
        "services": {service: {"ports": [{"name": PORTS[service], "port": port}]}},
        "secrets": {SECRETS[service]: {"proof": service}},
        "facts": {"nats": {"user": "rave"}},
    }


def prove(service: str, port: int, value: str, old: str | None) -> list[dict[str, Any]]:
    name = SECRETS[service]
    plan = plan_of(service, port)
    before = {name: old.encode()} if old else {}
    return proofs.prove(plan, proofs.SecretChange({name: value.encode()}, before), 0.1)


@pytest.mark.parametrize("service", HANDLERS)
@pytest.mark.parametrize(("old", "refused"), [(OLD, "previous"), (None, "wrong"), (NEW, "wrong")])
def test_a_service_that_took_it(service: str, old: str | None, refused: str) -> None:
    with served(HANDLERS[service], {NEW}) as port:
        (proof,) = prove(service, port, NEW, old)
    assert (proof["service"], proof["secret"]) == (service, SECRETS[service])
    assert proof["accepted"]
    assert proof["refused"] == ["none", refused]
    assert NEW not in str(proof)
    assert OLD not in str(proof)


@pytest.mark.parametrize("service", HANDLERS)
@pytest.mark.parametrize(
    ("accepts", "why"),
    [
        ({OLD}, "admits a client with another password; refuses the installed password"),
        ({OLD, NEW}, "admits a client with another password"),
        ({None, NEW}, "admits a client with no password"),
        (set(), "refuses the installed password"),
    ],
    ids=["the old one", "both", "everybody", "nobody"],
)
def test_a_service_that_did_not(service: str, accepts: set[str | None], why: str) -> None:
    with (
        served(HANDLERS[service], accepts) as port,
        pytest.raises(Unproven, match=f"{service}: .*{why}") as caught,
    ):
        prove(service, port, NEW, OLD)
    assert NEW not in str(caught.value)
    assert OLD not in str(caught.value)


def test_a_service_that_takes_a_moment() -> None:
    accepts: set[str | None] = {OLD}
    with served(Redis, accepts) as port:
        timer = threading.Timer(0.05, accepts.symmetric_difference_update, [{OLD, NEW}])
        timer.start()
        plan = plan_of("redis", port)
        change = proofs.SecretChange(
            {"redis/password": NEW.encode()}, {"redis/password": OLD.encode()}
        )
        (proof,) = proofs.prove(plan, change, 5.0)
        timer.join()
    assert proof["accepted"]


def test_a_service_the_plan_lacks_is_not_asked() -> None:
    change = proofs.SecretChange({"redis/password": b"x"}, {})
    assert proofs.prove(plan_of("redis", 1) | {"services": {}}, change, 0.1) == []


def test_a_secret_the_plan_lacks_is_not_asked() -> None:
    assert proofs.prove(plan_of("redis", 1), proofs.SecretChange({}, {}), 0.1) == []


def test_a_service_that_cannot_be_asked_proves_nothing() -> None:
    plan = plan_of("redis", 1) | {"secrets": {"a": {"proof": "sshd"}}, "services": {"sshd": {}}}
    with pytest.raises(Unproven, match="sshd cannot be asked about a"):
        proofs.prove(plan, proofs.SecretChange({"a": b"x"}, {}), 0.1)
