"""Connections to this machine under a site's name: only to whoever has a certificate for that."""

from __future__ import annotations

import socket
import ssl
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from rave_cli.tls import authority
from rave_guest import certificate
from rave_guest.wire import trusted
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SITE = "https://auth.rave.localhost:23456"
NOW = datetime.now(UTC)
OWN = authority.make("localhost", now=NOW - timedelta(days=200))


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(certificate, "CURRENT", str(tmp_path / "current.crt"))
    return tmp_path


@contextmanager
def serving(place: Path, issued: authority.Issued, known: str | None = None) -> Iterator[int]:
    """Serve one page with a certificate; `known` is what lies on the machine."""
    (place / "current.crt").write_text(issued.chain if known is None else known)
    (place / "server.pem").write_text(issued.key + issued.chain)
    offer = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    offer.load_cert_chain(place / "server.pem")
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            with suppress(OSError):
                plain, _ = listener.accept()
                with plain, offer.wrap_socket(plain, server_side=True) as secured:
                    secured.recv(4096)
                    secured.sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        thread.join(CEILING)


def ask(port: int) -> int:
    connection = trusted.to(SITE, port, CEILING)
    connection.request("GET", "/")
    try:
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_site_is_reached_on_this_machine_whatever_its_name_leads_to(place: Path) -> None:
    issued = authority.issue(OWN, "rave.localhost", now=NOW)
    with serving(place, issued) as port:
        assert ask(port) == 204


def test_one_that_was_installed_without_its_authority_vouches_for_itself(place: Path) -> None:
    issued = authority.issue(OWN, "rave.localhost", now=NOW)
    alone = issued.chain[: issued.chain.rindex("-----BEGIN")]
    with serving(place, authority.Issued(alone, issued.key)) as port:
        assert ask(port) == 204


@pytest.mark.parametrize(
    ("host", "days", "why"),
    [
        ("other.localhost", 0, "Hostname mismatch"),
        ("rave.localhost", 91, "certificate has expired"),
    ],
)
def test_another_name_or_an_ended_certificate_is_refused(
    place: Path, host: str, days: int, why: str
) -> None:
    issued = authority.issue(OWN, host, now=NOW - timedelta(days=days))
    with (
        serving(place, issued) as port,
        pytest.raises(ssl.SSLCertVerificationError, match=why),
    ):
        ask(port)


def test_whoever_else_listens_there_is_refused(place: Path) -> None:
    other = authority.make("localhost", now=NOW)
    with (
        serving(place, authority.issue(other, "rave.localhost", now=NOW), OWN.pem) as port,
        pytest.raises(ssl.SSLCertVerificationError),
    ):
        ask(port)
