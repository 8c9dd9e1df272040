"""One HTTP request over a socket of our own, because importing http.client costs more than it."""

from __future__ import annotations

import socket
import time
from collections import namedtuple

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_BYTES = 8 << 20


class Response(namedtuple("Response", ("status", "body", "certificate", "tls"))):
    """An HTTP answer; `certificate` is the peer's certificate (DER) if TLS was spoken."""

    __slots__ = ()
    status: int
    body: bytes
    certificate: bytes | None
    tls: str | None

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")


class Address(namedtuple("Address", ("secure", "host", "port", "path"))):
    """A URL taken apart."""

    __slots__ = ()
    secure: bool
    host: str
    port: int
    path: str


def split(url: str) -> Address:
    """Take an http(s) URL apart.

    Raises:
        ValueError: if it is not one.
    """
    scheme, separator, rest = url.partition("://")
    place, _, path = rest.partition("/")
    host, _, port = place.partition(":")
    if not separator or scheme not in {"http", "https"} or not host:
        raise ValueError(f"not an http(s) URL: {url!r}")
    return Address(
        scheme == "https", host, int(port or (443 if scheme == "https" else 80)), "/" + path
    )


def get(url: str, timeout: float) -> Response:
    """Fetch `url` within `timeout` seconds; see `ask`.

    Raises:
        OSError: as `ask`.
        ValueError: as `ask`.
    """
    where = split(url)
    return ask(
        where, f"GET {where.path} HTTP/1.0\r\nHost: {where.host}:{where.port}\r\n\r\n", timeout
    )


def post(url: str, form: str, headers: Mapping[str, str], timeout: float) -> Response:
    """Send a form, URL-encoded, to `url`; see `ask`.

    Raises:
        OSError: as `ask`.
        ValueError: as `ask`.
    """
    where = split(url)
    lines = {
        "Host": f"{where.host}:{where.port}",
        "Content-Type": "application/x-www-form-urlencoded",
        "Content-Length": str(len(form)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    return ask(where, f"POST {where.path} HTTP/1.0\r\n{head}\r\n{form}", timeout)


def ask(where: Address, request: str, timeout: float) -> Response:
    """Send a request of HTTP/1.0 within `timeout` seconds, and return what is answered. TLS
    certificates are returned, not judged: the caller compares them with the one it knows.

    Raises:
        OSError: no connection, no answer in time, a failed handshake.
        ValueError: the answer is not HTTP, or larger than 8 MiB.
    """
    deadline = time.monotonic() + timeout
    with socket.create_connection((where.host, where.port), timeout) as plain:
        if not where.secure:
            status, body = _exchange(plain, request, deadline)
            return Response(status, body, None, None)
        import ssl

        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with context.wrap_socket(plain, server_hostname=where.host) as secured:
            status, body = _exchange(secured, request, deadline)
            certificate = secured.getpeercert(binary_form=True)
            return Response(status, body, certificate, secured.version())


def _exchange(stream: socket.socket, request: str, deadline: float) -> tuple[int, bytes]:
    # HTTP/1.0: the server ends the answer by closing, and never chunks it.
    stream.sendall(request.encode())
    received = bytearray()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError("the answer did not end in time")
        stream.settimeout(left)
        chunk = stream.recv(65536)
        if not chunk:
            return parse(bytes(received))
        received += chunk
        if len(received) > MAX_BYTES:
            raise ValueError("the answer is larger than 8 MiB")


def parse(raw: bytes) -> tuple[int, bytes]:
    """Return status and body of a complete HTTP/1.x answer.

    Raises:
        ValueError: if it is not one.
    """
    head, separator, body = raw.partition(b"\r\n\r\n")
    words = head.split(b"\r\n", 1)[0].split(b" ")
    if not separator or not words[0].startswith(b"HTTP/1.") or len(words) < 2:
        raise ValueError("the answer is not HTTP")
    return int(words[1]), body
