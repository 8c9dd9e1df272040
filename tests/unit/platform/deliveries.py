"""Deliveries, sources and stores for tests."""

from __future__ import annotations

import hashlib
import hmac
import json
import sqlite3
from typing import TYPE_CHECKING

from rave_platform.adapters.sqlite import SqliteFile
from rave_platform.application.intake import WebhookSource
from rave_platform.domain import normalisation, signatures
from rave_platform.domain.events import Provider
from rave_platform.domain.ratelimit import Rate
from rave_platform.domain.signatures import Authentic, Proven, WebhookRequest

if TYPE_CHECKING:
    from rave_platform.domain.normalisation import WebhookDelivery

KEY = b"k" * 32
GENEROUS = Rate(1e6, 1_000_000)


def body(number: int) -> bytes:
    return json.dumps({"ref": "refs/heads/main", "number": number}).encode()


def signed(content: bytes, key: bytes = KEY) -> dict[str, str]:
    mac = hmac.new(key, content, hashlib.sha256).hexdigest()
    return {"x-hub-signature-256": f"sha256={mac}", "x-github-event": "push"}


def request(number: int) -> WebhookRequest:
    return WebhookRequest(signed(body(number)), body(number))


def delivery(number: int, source: str = "forge") -> WebhookDelivery:
    return normalisation.delivery(
        source, Provider.GITHUB, request(number), Authentic(f"d-{number}", Proven.BODY),
        received=1_700_000_000.0, fresh_trace="f" * 32,
    )  # fmt: skip


def source(rate: Rate = GENEROUS, keys: tuple[bytes, ...] = (KEY,)) -> WebhookSource:
    scheme = signatures.github(keys) if keys else None
    return WebhookSource("forge", Provider.GITHUB, scheme, rate)


def in_memory(schema: str, version: int) -> SqliteFile:
    """A store without a disk, for tests that make hundreds."""
    file = SqliteFile.__new__(SqliteFile)
    file._db = sqlite3.connect(":memory:", isolation_level=None, check_same_thread=False)
    file._prepare(schema, version)
    return file
