"""Signs what is asked of S3.

Source: Amazon S3 API reference, "Authenticating Requests: Using the Authorization Header (AWS
Signature Version 4)", with the whole content signed by its sum.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import quote

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

ALGORITHM = "AWS4-HMAC-SHA256"
NOTHING = hashlib.sha256(b"").hexdigest()


@dataclass(frozen=True)
class Signer:
    """Who signs: an access key with its secret, in a region."""

    access_key: str
    secret_key: str = field(repr=False)
    region: str
    service: str = "s3"

    def headers(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        headers: Mapping[str, str],
        *,
        sha256: str,
        now: datetime,
    ) -> dict[str, str]:
        """Return the headers with which something is asked.

        Args:
            method: of HTTP.
            path: as it is sent.
            query: its names and values, as they are.
            headers: those that are sent and signed, the host among them.
            sha256: sum of the content.
            now: the time (UTC).
        """
        stamp = now.strftime("%Y%m%dT%H%M%SZ")
        dated = {"x-amz-content-sha256": sha256, "x-amz-date": stamp}
        signed = {name.lower(): value.strip() for name, value in (dict(headers) | dated).items()}
        names = ";".join(sorted(signed))
        lines = "".join(f"{name}:{signed[name]}\n" for name in sorted(signed))
        request = "\n".join((method, path, query_text(query), lines, names, sha256))
        scope = f"{stamp[:8]}/{self.region}/{self.service}/aws4_request"
        text = "\n".join((ALGORITHM, stamp, scope, _sum(request)))
        signature = hmac.digest(self._key(stamp[:8]), text.encode(), "sha256").hex()
        return signed | {
            "authorization": f"{ALGORITHM} Credential={self.access_key}/{scope},"
            f"SignedHeaders={names},Signature={signature}"
        }

    def _key(self, day: str) -> bytes:
        key = f"AWS4{self.secret_key}".encode()
        for part in (day, self.region, self.service, "aws4_request"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


def query_text(query: Mapping[str, str]) -> str:
    """Return a query as it is signed, and sent."""
    return "&".join(
        f"{quote(name, safe='-_.~')}={quote(query[name], safe='-_.~')}" for name in sorted(query)
    )


def _sum(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
