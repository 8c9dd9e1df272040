"""Who sent a webhook: the schemes by which senders prove it, checked over the bytes as they came.

A scheme is a value that holds its secrets: several while they are rotated, each of which counts.
`authenticate` answers every request, however malformed, with a value; it compares in constant time.

What each sender does, by its own documentation and source:

* GitHub, `X-Hub-Signature-256`: https://docs.github.com/webhooks/securing
* Gitea and Forgejo, `X-Gitea-Signature`, `X-Forgejo-Signature`:
  https://docs.gitea.com/usage/webhooks, https://forgejo.org/docs/latest/user/webhooks
* Pagure, `X-Pagure-Signature-256`: pagure/lib/tasks_services.py, `call_web_hooks`, and
  https://docs.pagure.org/pagure/usage/using_webhooks.html
* Standard Webhooks 1.0.0: https://github.com/standard-webhooks/standard-webhooks/blob/main/spec
* GitLab, `X-Gitlab-Token`, and signing tokens since 19.0:
  https://docs.gitlab.com/user/project/integrations/webhooks/#signing-tokens
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, TypeAlias

from rave_platform.domain.payloads import pagure as pagure_payloads
from rave_platform.domain.payloads import reading

if TYPE_CHECKING:
    from collections.abc import Mapping

# Seconds that a timestamp may differ from our clock, either way (Standard Webhooks, "Verifying").
TOLERANCE = 300.0

# What senders use as ids (UUIDs, `msg_…`), with room; what is longer is nobody's id.
DELIVERY_ID = re.compile(r"[!-~]{1,200}")
SECONDS = re.compile(r"[0-9]{1,12}")
HEX_SHA256 = re.compile(r"[0-9a-f]{64}")
# More signatures than this in one header are no rotation.
MOST_SIGNATURES = 16

KEY_PREFIX = "whsec_"
# Bytes (Standard Webhooks, "Signature scheme": between 24 and 64).
KEY_BYTES = range(24, 65)

# Characters of the key that a project of Pagure has (pagure/lib/model.py, `hook_token`).
PROJECT_KEY = 40


class RefusalReason(StrEnum):
    """Why a request is not taken for what it says it is."""

    NO_SIGNATURE = "no-signature"
    MALFORMED_SIGNATURE = "malformed-signature"
    WRONG_SIGNATURE = "wrong-signature"
    WRONG_TOKEN = "wrong-token"  # noqa: S105 - a word for what is wrong
    WRONG_PROJECT = "wrong-project"
    DOWNGRADE = "downgrade"
    NO_ID = "no-id"
    MALFORMED_ID = "malformed-id"
    MALFORMED_TIMESTAMP = "malformed-timestamp"
    TOO_OLD = "too-old"
    TOO_NEW = "too-new"


class Proven(StrEnum):
    """What the proof covers, and so what a repetition can be told by."""

    BODY = "body"  # an id beside it could have been exchanged: the body tells
    BODY_AND_ID = "body-and-id"  # the id tells
    SENDER = "sender"  # whoever has the secret wrote all of it: id and body together tell


@dataclass(frozen=True)
class WebhookRequest:
    """What came: the names of headers in lower case, one that came twice joined by a comma."""

    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Authentic:
    """It is from whom it says; `delivery_id` is empty where the sender gives none."""

    delivery_id: str
    proven: Proven


@dataclass(frozen=True)
class NotAuthentic:
    """It is not, as far as we can tell."""

    reason: RefusalReason


@dataclass(frozen=True)
class BodyHmac:
    """HMAC-SHA256 of the body, in hex, in a header: GitHub, Gitea, Forgejo, Pagure.

    Of `headers` the first that is there counts: a good one cannot stand in for a bad one before it.
    """

    headers: tuple[str, ...]
    keys: tuple[bytes, ...] = field(repr=False)
    prefix: str = ""
    id_headers: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProjectHmac:
    """As Pagure signs, whose projects each have a key of their own, where those follow from a
    secret (`project_key`).

    Who has the key of one project says nothing with it of another: the body names its own.
    """

    secrets: tuple[bytes, ...] = field(repr=False)


@dataclass(frozen=True)
class StandardWebhook:
    """HMAC-SHA256 over id, time and body; any of several signatures by any of several keys."""

    keys: tuple[bytes, ...] = field(repr=False)
    tolerance: float = TOLERANCE


@dataclass(frozen=True)
class GitLabHook:
    """A secret token in a header, or signed as by Standard Webhooks.

    GitLab sends `webhook-id` and `webhook-timestamp` with every delivery, and `webhook-signature`
    only where a signing token is set. Where we have one, the token alone is refused: whoever reads
    one request could otherwise write any other.
    """

    tokens: tuple[bytes, ...] = field(repr=False)
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    tolerance: float = TOLERANCE


Scheme: TypeAlias = BodyHmac | ProjectHmac | StandardWebhook | GitLabHook


def github(keys: tuple[bytes, ...]) -> BodyHmac:
    """Return GitHub's scheme; its SHA-1 header is not looked at."""
    return BodyHmac(("x-hub-signature-256",), keys, "sha256=", ("x-github-delivery",))


def gitea(keys: tuple[bytes, ...]) -> BodyHmac:
    """Return the scheme of Gitea and Forgejo; Forgejo sends both headers."""
    return BodyHmac(
        ("x-forgejo-signature", "x-gitea-signature"),
        keys,
        id_headers=("x-forgejo-delivery", "x-gitea-delivery"),
    )


def pagure(keys: tuple[bytes, ...]) -> BodyHmac:
    """Return Pagure's scheme; its SHA-1 header is not looked at. The id stands in the body."""
    return BodyHmac(("x-pagure-signature-256",), keys)


def project_key(secret: bytes, project: str) -> bytes:
    """Return the key of a project of the guest's own Pagure, by its path with the namespace."""
    return hmac.digest(secret, _bytes(project), hashlib.sha256).hex()[:PROJECT_KEY].encode()


def parse_key(text: str) -> bytes:
    """Return the key that a `whsec_…` secret stands for.

    Raises:
        ValueError: if it is none.
    """
    if not text.startswith(KEY_PREFIX):
        raise ValueError(f"a signing secret begins with {KEY_PREFIX}")
    encoded = text.removeprefix(KEY_PREFIX)
    try:
        # Some write it without the padding.
        key = base64.b64decode(encoded + "=" * (-len(encoded) % 4), validate=True)
    except (binascii.Error, ValueError) as fault:
        raise ValueError(f"what follows {KEY_PREFIX} is not base64") from fault
    if len(key) not in KEY_BYTES:
        raise ValueError(f"a signing secret has 24 to 64 bytes, not {len(key)}")
    return key


def authenticate(request: WebhookRequest, scheme: Scheme, now: float) -> Authentic | NotAuthentic:
    """Say whether a request is from the sender that a scheme's secrets belong to.

    Args:
        request: as it came.
        scheme: how that sender proves itself.
        now: seconds since the epoch.
    """
    match scheme:
        case BodyHmac():
            return _body_hmac(request, scheme)
        case ProjectHmac():
            return _project_hmac(request, scheme)
        case StandardWebhook():
            return _standard(request, scheme.keys, scheme.tolerance, now)
        case GitLabHook():
            return _gitlab(request, scheme, now)


def _body_hmac(request: WebhookRequest, scheme: BodyHmac) -> Authentic | NotAuthentic:
    given = _first(request.headers, scheme.headers)
    if not given:
        return NotAuthentic(RefusalReason.NO_SIGNATURE)
    digest = given.removeprefix(scheme.prefix)
    if not given.startswith(scheme.prefix) or not HEX_SHA256.fullmatch(digest):
        return NotAuthentic(RefusalReason.MALFORMED_SIGNATURE)
    expected = [hmac.digest(key, request.body, hashlib.sha256) for key in scheme.keys]
    if not _any_equal(expected, [bytes.fromhex(digest)]):
        return NotAuthentic(RefusalReason.WRONG_SIGNATURE)
    name = _first(request.headers, scheme.id_headers)
    if name and not DELIVERY_ID.fullmatch(name):
        return NotAuthentic(RefusalReason.MALFORMED_ID)
    return Authentic(name, Proven.BODY)


def _project_hmac(request: WebhookRequest, scheme: ProjectHmac) -> Authentic | NotAuthentic:
    project = request.headers.get("x-pagure-project", "")
    keys = tuple(project_key(secret, project) for secret in scheme.secrets)
    found = _body_hmac(request, pagure(keys))
    if isinstance(found, NotAuthentic):
        return found
    try:
        payload = reading.parse(request.body)
    except reading.MalformedPayloadError:
        # Whoever reads it says so.
        return found
    # The header is not signed: it says by which key, and the body of which project.
    said = pagure_payloads.facts(request.headers, payload).project
    return found if said == project else NotAuthentic(RefusalReason.WRONG_PROJECT)


def _standard(
    request: WebhookRequest, keys: tuple[bytes, ...], tolerance: float, now: float
) -> Authentic | NotAuthentic:
    given = request.headers.get("webhook-signature", "")
    name = request.headers.get("webhook-id", "")
    sent = request.headers.get("webhook-timestamp", "")
    malformed = _malformed(given, name, sent)
    if malformed:
        return NotAuthentic(malformed)
    signatures = _signatures(given)
    if not signatures:
        return NotAuthentic(RefusalReason.MALFORMED_SIGNATURE)
    signed = f"{name}.{sent}.".encode() + request.body
    if not _any_equal([hmac.digest(key, signed, hashlib.sha256) for key in keys], signatures):
        return NotAuthentic(RefusalReason.WRONG_SIGNATURE)
    # Only now: who has no key learns nothing of our clock.
    if abs(int(sent) - now) > tolerance:
        return NotAuthentic(RefusalReason.TOO_OLD if int(sent) < now else RefusalReason.TOO_NEW)
    return Authentic(name, Proven.BODY_AND_ID)


def _malformed(given: str, name: str, sent: str) -> RefusalReason | None:
    if not given:
        return RefusalReason.NO_SIGNATURE
    if not name:
        return RefusalReason.NO_ID
    # A point would let the id reach into the time, and the time into the body.
    if not DELIVERY_ID.fullmatch(name) or "." in name:
        return RefusalReason.MALFORMED_ID
    return None if SECONDS.fullmatch(sent) else RefusalReason.MALFORMED_TIMESTAMP


def _gitlab(request: WebhookRequest, scheme: GitLabHook, now: float) -> Authentic | NotAuthentic:
    if scheme.keys:
        if "webhook-signature" not in request.headers and "x-gitlab-token" in request.headers:
            return NotAuthentic(RefusalReason.DOWNGRADE)
        return _standard(request, scheme.keys, scheme.tolerance, now)
    given = request.headers.get("x-gitlab-token", "")
    if not given:
        return NotAuthentic(RefusalReason.NO_SIGNATURE)
    # Of equal length, so that the time tells nothing of the token's.
    hashed = [hashlib.sha256(token).digest() for token in scheme.tokens]
    if not _any_equal(hashed, [hashlib.sha256(_bytes(given)).digest()]):
        return NotAuthentic(RefusalReason.WRONG_TOKEN)
    name = _first(request.headers, ("idempotency-key", "webhook-id", "x-gitlab-event-uuid"))
    if name and not DELIVERY_ID.fullmatch(name):
        return NotAuthentic(RefusalReason.MALFORMED_ID)
    return Authentic(name, Proven.SENDER)


def _signatures(given: str) -> list[bytes]:
    """Return the well-formed signatures by HMAC-SHA256 (`v1`) of a header."""
    found = []
    for word in given.split(" ")[:MOST_SIGNATURES]:
        version, _, encoded = word.partition(",")
        if version == "v1":
            try:
                found.append(base64.b64decode(encoded, validate=True))
            except (binascii.Error, ValueError):
                continue
    return found


def _any_equal(expected: list[bytes], given: list[bytes]) -> bool:
    """Say whether any is among the others, in a time that does not tell which."""
    equal = [hmac.compare_digest(ours, theirs) for ours in expected for theirs in given]
    return any(equal)


def _first(headers: Mapping[str, str], names: tuple[str, ...]) -> str:
    return next((headers[name] for name in names if headers.get(name)), "")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
