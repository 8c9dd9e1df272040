"""When the certificate that nginx shows ends, read without the ssl module: that takes 3 MiB."""

from __future__ import annotations

import binascii
import calendar
import re

CURRENT = "/run/rave/tls/current.crt"
UTC_TIME, GENERALIZED_TIME, VERSION = 0x17, 0x18, 0xA0


def not_after(pem: str) -> int:
    """Seconds since 1970 at which the first certificate of a PEM text ends (RFC 5280, 4.1).

    Raises:
        ValueError: it holds no certificate.
    """
    found = re.search(r"-----BEGIN CERTIFICATE-----([^-]+)-----END CERTIFICATE-----", pem)
    if found is None:
        raise ValueError("no certificate")
    try:
        certificate = _elements(binascii.a2b_base64(found[1]))[0][1]
        fields = _elements(_elements(certificate)[0][1])
        # The version is optional; serial number, signature and issuer come before the validity.
        validity = fields[4 if fields[0][0] == VERSION else 3][1]
        return _time(*_elements(validity)[1])
    except IndexError as error:
        raise ValueError("not a certificate") from error


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Tag and content of each DER element in `data`, one after another (X.690, 8.1 and 10.1)."""
    found = []
    at = 0
    while at < len(data):
        tag, length = data[at], data[at + 1]
        at += 2
        if length & 0x80:
            size = length & 0x7F
            length = int.from_bytes(data[at : at + size], "big")
            at += size
        if at + length > len(data):
            raise ValueError("it ends too early")
        found.append((tag, data[at : at + length]))
        at += length
    return found


def _time(tag: int, text: bytes) -> int:
    digits = re.fullmatch(rb"(\d{2}|\d{4})(\d{10})Z", text)
    if digits is None or {UTC_TIME: 2, GENERALIZED_TIME: 4}.get(tag) != len(digits[1]):
        raise ValueError("not a time")
    year = int(digits[1])
    if tag == UTC_TIME:
        year += 1900 if year >= 50 else 2000
    rest = digits[2].decode()
    month, day, hour, minute, second = (int(rest[at : at + 2]) for at in range(0, 10, 2))
    return calendar.timegm((year, month, day, hour, minute, second, 0, 0, 0))
