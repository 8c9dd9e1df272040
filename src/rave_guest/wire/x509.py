"""When a certificate expires, read from its DER (RFC 5280, section 4.1; X.690).

The ssl module takes a twentieth of a second to import under emulation and does not tell, either.
"""

from __future__ import annotations

from binascii import a2b_base64

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
SEQUENCE, UTC_TIME, GENERALIZED_TIME, VERSION = 0x30, 0x17, 0x18, 0xA0


def not_after(pem: str) -> int:
    """Return the end of the first certificate's validity, in seconds since 1970.

    Raises:
        ValueError: it is no certificate.
    """
    start = pem.index(BEGIN) + len(BEGIN)
    try:
        (certificate,) = elements(a2b_base64(pem[start : pem.index(END, start)]))
        fields = elements(elements(certificate[1])[0][1])
        if fields[0][0] == VERSION:
            fields = fields[1:]
        # serialNumber, signature, issuer, validity
        kind, validity = fields[3]
        times = elements(validity)
    except IndexError as error:
        raise ValueError("a certificate that ends too early") from error
    if kind != SEQUENCE or len(times) != 2:
        raise ValueError("a certificate without validity")
    return seconds(*times[1])


def elements(data: bytes) -> list[tuple[int, bytes]]:
    """Return the elements that stand one after another, as tag and content.

    Raises:
        ValueError: one says it is longer than what is there.
    """
    found, at = [], 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length & 0x80:
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size], "big"), at + size
        if at + length > len(data):
            raise ValueError("an element that is longer than its container")
        found.append((tag, data[at : at + length]))
        at += length
    return found


def seconds(tag: int, content: bytes) -> int:
    """Return a time in seconds since 1970: YYMMDDHHMMSSZ, or with four digits of the year.

    Raises:
        ValueError: it is no time.
    """
    text = content.decode("ascii")
    if tag == UTC_TIME:
        text = ("20" if text[:2] < "50" else "19") + text
    elif tag != GENERALIZED_TIME:
        raise ValueError("not a time")
    if len(text) != 15 or not text.endswith("Z"):
        raise ValueError("not a time")
    year, month, day = int(text[:4]), int(text[4:6]), int(text[6:8])
    hour, minute, second = int(text[8:10]), int(text[10:12]), int(text[12:14])
    return days(year, month, day) * 86400 + hour * 3600 + minute * 60 + second


def days(year: int, month: int, day: int) -> int:
    """Return the days from 1970-01-01 to a date; the year of the count begins with March."""
    year -= month < 3
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719468
