"""Handshakes: what a server shows, and whether a client that trusts this or that takes it.

OpenSSL judges, as it does for whoever opens a page.
"""

from __future__ import annotations

import os
import socket
import ssl
from contextlib import suppress
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rave_cli.tls.authority import Issued

LOOPBACK = "127.0.0.1"


def shown(port: int, host: str, *, timeout: float) -> bytes | None:
    """Return the certificate (DER) that a port of this host's loopback shows for a name; None if
    nobody there speaks TLS.
    """
    anybody = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # It is compared with the one that is known.
    anybody.check_hostname = False
    anybody.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((LOOPBACK, port), timeout) as plain,
            anybody.wrap_socket(plain, server_hostname=host) as secured,
        ):
            return secured.getpeercert(binary_form=True)
    except OSError:
        return None


def system() -> ssl.SSLContext:
    """Return what this host trusts."""
    return ssl.create_default_context()


def trusting(pem: str) -> ssl.SSLContext:
    """Return a client that trusts these certificates alone, and what they issue."""
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    client.minimum_version = ssl.TLSVersion.TLSv1_3
    client.load_verify_locations(cadata=pem)
    # Also one that is no authority: it then vouches for itself.
    client.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return client


def refusal(issued: Issued, host: str, client: ssl.SSLContext) -> str | None:
    """Return why a client refuses a certificate that is shown under a name; None if it takes it.

    Both ends of the handshake are in this process.
    """
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    _load(server, issued)
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    asking = client.wrap_bio(down, up, server_hostname=host)
    showing = server.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        try:
            asking.do_handshake()
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLCertVerificationError as error:
            return error.verify_message
        else:
            return None
        with suppress(ssl.SSLWantReadError):
            showing.do_handshake()
    return "the handshake does not end"


def _load(server: ssl.SSLContext, issued: Issued) -> None:
    """Give a server its key, which is on no disk meanwhile."""
    fd = os.memfd_create("certificate", os.MFD_CLOEXEC)
    try:
        os.write(fd, (issued.key + issued.chain).encode())
        server.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)
