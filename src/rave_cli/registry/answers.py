"""What is read of an answer: so much and no more, when to ask again, and what a fault is of."""

from __future__ import annotations

import ssl
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    import httpx

# Bytes of an answer that is no content.
MOST_SAID = 64 << 10


def read(answer: httpx.Response, most: int) -> bytes:
    """Return the content of an answer.

    Raises:
        RaveError: VERIFICATION if it has more than `most` bytes.
    """
    found = bytearray()
    for piece in answer.iter_raw():
        found += piece
        if len(found) > most:
            raise RaveError(
                f"{answer.url.host} says more than {most >> 10} KiB where it should not",
                hint="is that a registry? oci://REGISTRY[:PORT]/REPOSITORY",
                exit_code=ExitCode.VERIFICATION,
            )
    return bytes(found)


def said(answer: httpx.Response) -> bytes:
    """Return what an answer that refuses says, as far as it matters."""
    found = bytearray()
    for piece in answer.iter_raw():
        found += piece
        if len(found) > MOST_SAID:
            break
    return bytes(found[:MOST_SAID])


def wait(answer: httpx.Response) -> float | None:
    """Return for how many seconds an answer asks."""
    asked = answer.headers.get("retry-after", "").strip()
    if asked.isascii() and asked.isdecimal() and len(asked) < 10:
        return float(asked)
    try:
        return max(0.0, parsedate_to_datetime(asked).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None


def distrusted(error: BaseException) -> bool:
    """Return whether a fault is that of a certificate that is not trusted."""
    found: BaseException | None = error
    while found is not None:
        if isinstance(found, ssl.SSLCertVerificationError):
            return True
        found = found.__cause__ or found.__context__
    return "CERTIFICATE_VERIFY_FAILED" in str(error)
