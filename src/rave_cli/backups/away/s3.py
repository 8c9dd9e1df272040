"""A place that speaks S3.

Source: Amazon S3 API reference: PutObject, GetObject, DeleteObject, ListObjectsV2, "Error
Responses". Buckets are named in the path, as every server understands it.
"""

from __future__ import annotations

import hashlib
import re
import ssl
import time
import xml.etree.ElementTree as ET
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import httpx

from rave_cli.backups.away import store
from rave_cli.backups.away.sigv4 import NOTHING, Signer, query_text
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rave_cli.backups.away.place import AwayPlace

# How often something is asked that comes to nothing, and seconds in between, doubled each time.
TRIES = 4
WAIT = 0.5
PASSING = {408, 429, 500, 502, 503, 504}
# Bytes of a page of names, of which it has 1,000 with 1,024 bytes each at most; and of an error.
LONGEST_PAGE = 8 << 20
MOST_NAMES = 2_000_000
FULL = {"EntityTooLarge", "InsufficientStorage", "QuotaExceeded", "XMinioStorageFull"}
# What OpenSSL says of a certificate, and why (its verification errors in words).
UNTRUSTED = "CERTIFICATE_VERIFY_FAILED"
WHY = re.compile(r"certificate verify failed: (.{1,200}?)(?: \(_ssl\.c:\d+\))?$")
CA = (
    "rave secrets edit   (backup-copy: ca: the certificates to trust); without that file: rave"
    " backup fetch --kit --ca FILE"
)
CLOSED = {"AccessDenied", "InvalidAccessKeyId", "SignatureDoesNotMatch"}
# The code that the reference has for it, and its words, which servers have under other codes.
CLOCK = "RequestTimeTooSkewed"
SKEWED = "difference between the request time and the"


@contextmanager
def opened(place: AwayPlace, *, sleep: Callable[[float], object] = time.sleep) -> Iterator[S3Store]:
    """Yield what a place has; nothing is asked yet.

    Raises:
        RaveError: SECRETS if its certificates to trust are none.
    """
    scheme = "http" if place.scheme == "s3+http" else "https"
    host = f"[{place.host}]" if ":" in place.host else place.host
    with httpx.Client(
        base_url=f"{scheme}://{host}:{place.port}",
        verify=_trusted(place),
        timeout=httpx.Timeout(store.ANSWERS, connect=store.CONNECTS),
        follow_redirects=False,
    ) as http:
        signer = Signer(place.shown["access-key"], place.shown["secret-key"], place.region)
        yield S3Store(place, http, signer, sleep)


def _trusted(place: AwayPlace) -> ssl.SSLContext:
    ca = place.shown.get("ca")
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, TypeError, ValueError) as error:
        raise RaveError(
            f"what is to be trusted for {place} has no certificates (PEM): {error}",
            hint=CA,
            exit_code=ExitCode.SECRETS,
        ) from error


@dataclass(frozen=True)
class S3Store:
    """The objects of a place."""

    place: AwayPlace
    http: httpx.Client
    signer: Signer
    sleep: Callable[[float], object]

    def listing(self) -> dict[str, int]:
        """Return what is there."""
        found: dict[str, int] = {}
        prefix = f"{self.place.folder}/" if self.place.folder else ""
        query = {"list-type": "2", "prefix": prefix}
        while len(found) < MOST_NAMES:
            page = _page(self._asked("GET", "", query=query), self.place)
            for entry in page.iterfind("{*}Contents"):
                name, size = entry.findtext("{*}Key", ""), entry.findtext("{*}Size", "")
                if name.startswith(prefix) and size.isascii() and size.isdigit():
                    found[name.removeprefix(prefix)] = int(size)
            token = page.findtext("{*}NextContinuationToken")
            if page.findtext("{*}IsTruncated") != "true" or not token:
                break
            query["continuation-token"] = token
        return found

    def put(self, name: str, data: bytes) -> None:
        """Write an object; the server sees by the sum in the signature whether all of it came."""
        self._asked("PUT", name, data=data)

    def get(self, name: str) -> bytes:
        """Return an object."""
        return self._asked("GET", name, most=store.LARGEST)

    def remove(self, name: str) -> None:
        """Take an object away."""
        self._asked("DELETE", name)

    def _asked(
        self,
        method: str,
        name: str,
        *,
        query: Mapping[str, str] | None = None,
        data: bytes = b"",
        most: int = LONGEST_PAGE,
    ) -> bytes:
        """Return the content of an answer; what may be another answer later is asked again."""
        for left in reversed(range(TRIES)):
            try:
                status, content = self._once(method, name, query or {}, data, most)
            except httpx.TransportError as error:
                if left == 0 or UNTRUSTED in str(error):
                    raise self._cut(error) from error
            else:
                if status < 300:
                    return content
                if status not in PASSING or left == 0:
                    raise self._fault(status, content, name or self.place.bucket)
            self.sleep(WAIT * 2 ** (TRIES - 1 - left))
        raise AssertionError  # pragma: no cover - the last try raises or returns

    def _once(
        self, method: str, name: str, query: Mapping[str, str], data: bytes, most: int
    ) -> tuple[int, bytes]:
        place = self.place
        path = "/" + "/".join(filter(None, (place.bucket, place.folder if name else "", name)))
        digest = hashlib.sha256(data).hexdigest() if data else NOTHING
        url = self.http.base_url.copy_with(raw_path=_target(path, query))
        host = {"host": url.netloc.decode()}
        now = datetime.now(UTC)
        headers = self.signer.headers(method, path, query, host, sha256=digest, now=now)
        if method == "PUT":
            headers["content-length"] = str(len(data))
        content = bytearray()
        with self.http.stream(method, url, headers=headers, content=data or None) as answer:
            for piece in answer.iter_raw():
                content += piece
                if len(content) > most:
                    raise store.not_taken(place, name, f"it answers with more than {most} bytes")
            return answer.status_code, bytes(content)

    def _cut(self, error: httpx.TransportError) -> RaveError:
        if UNTRUSTED in str(error):
            why = WHY.search(str(error))
            return RaveError(
                f"{self.place} shows a certificate that is not trusted: {why[1] if why else error}",
                hint=_helps(str(error)),
                exit_code=ExitCode.VERIFICATION,
            )
        return store.unreachable(self.place, str(error) or type(error).__name__)

    def _fault(self, status: int, content: bytes, name: str) -> RaveError:
        """Return what an answer that is no good means."""
        code, said = _said(content)
        why = f"{status} {code} {said}".strip()
        if status == 404 and code != "NoSuchBucket":
            return store.missing(self.place, name)
        if code == CLOCK or SKEWED in said:
            return RaveError(
                f"{self.place} has another time than this host: {why}",
                hint="timedatectl; set this host's clock",
                exit_code=ExitCode.HOST,
            )
        if status in (401, 403) or code in CLOSED:
            return store.not_let_in(self.place, why)
        if status == 507 or code in FULL:
            return store.not_taken(self.place, name, f"it is full ({why})")
        if status in PASSING:
            return store.unreachable(self.place, why)
        return store.not_taken(self.place, name, why)


def _helps(said: str) -> str:
    """Return what helps against a certificate of which OpenSSL says this."""
    if "mismatch" in said:
        return "rave secrets edit   (backup-copy: place: under a name that its certificate has)"
    if "expired" in said or "not yet valid" in said:
        return "timedatectl; if this host's clock is right, whoever runs it has to renew it"
    return CA


def _target(path: str, query: Mapping[str, str]) -> bytes:
    return f"{path}?{query_text(query)}".encode() if query else path.encode()


def _page(content: bytes, place: AwayPlace) -> ET.Element:
    found = _parsed(content)
    if found is None or not found.tag.endswith("ListBucketResult"):
        raise RaveError(
            f"{place} does not answer as S3 does",
            hint="rave secrets edit   (backup-copy: place: s3://HOST/BUCKET)",
            exit_code=ExitCode.HOST,
        )
    return found


def _said(content: bytes) -> tuple[str, str]:
    """Return the code and the message of an error; empty if it has none."""
    found = _parsed(content)
    if found is None:
        return "", ""
    code, said = found.findtext("{*}Code") or "", found.findtext("{*}Message") or ""
    return code[:100], " ".join(said.split())[:300]


def _parsed(content: bytes) -> ET.Element | None:
    # What declares entities may grow without a bound; S3 declares none, and speaks UTF-8.
    try:
        text = content.decode()
        return None if "<!" in text else ET.fromstring(text)  # noqa: S314 - no declaration is read
    except (UnicodeDecodeError, ET.ParseError):
        return None
