"""Connections to this machine's nginx, as a browser makes them that trusts its authority."""

from __future__ import annotations

import socket
import ssl
from http.client import HTTPSConnection

from rave_guest import certificate


class Here(HTTPSConnection):
    """A connection to this machine, wherever the name of a site leads, under that name."""

    def __init__(self, host: str, port: int, timeout: float) -> None:
        """Connect nowhere yet."""
        self._trust, self._seconds = _trust(), timeout
        # Without one of its own it would read all that the system trusts.
        super().__init__(host, port, timeout=timeout, context=self._trust)

    def connect(self) -> None:
        """Connect, and see that the certificate is for the name, valid, and whose it should be."""
        plain = socket.create_connection(("127.0.0.1", self.port), self._seconds)
        try:
            self.sock = self._trust.wrap_socket(plain, server_hostname=self.host)
        except BaseException:
            plain.close()
            raise


def to(site: str, port: int, timeout: float) -> Here:
    """Return a connection to a site of this machine, `https://HOST` with or without a port.

    Args:
        site: as people write it.
        port: of this machine's nginx.
        timeout: seconds for the connection, and for each answer.
    """
    host = site.partition("://")[2].partition(":")[0]
    return Here(host, port, timeout)


def _trust() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    # The chain's last is the authority; of a certificate that was installed that may be elsewhere.
    context.load_verify_locations(certificate.CURRENT)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
