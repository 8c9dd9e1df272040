r"""The boot transcript: the JSON document operators know, signed over its own exact bytes.

The signature is the last member. What is signed is the file with that value empty, byte for byte:

    sed 's/^  "signature": "[A-Za-z0-9+\/=]*"$/  "signature": ""/' boot_transcript_….json
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rave_cli import __version__
from rave_cli.transcript.canonical import (
    DamagedError,
    Json,
    document_bytes,
    parse_document,
    to_json,
)
from rave_cli.transcript.check import CHECK_ID, STATUSES, Status
from rave_cli.transcript.check import MEMBERS as CHECK_MEMBERS
from rave_cli.transcript.record import (
    SHA256,
    SRI_SHA256,
    RunRecord,
    overall_status,
    summary,
)

if TYPE_CHECKING:
    from rave_cli.transcript.events import Chain
    from rave_cli.transcript.redaction import Redactor

SCHEMA = "rave-transcript@v1"
LARGEST = 16 << 20
UNSIGNED_END = b'  "signature": ""\n}\n'
SIGNED_END = re.compile(rb'  "signature": "([A-Za-z0-9+/]{86}==)"\n\}\n\Z')

BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# Every member and its JSON type, in the order in which they are written.
MEMBERS: dict[str, type | tuple[type, ...]] = {
    "schema": str,
    "test_session_id": str,
    "rave_version": str,
    "start_time": str,
    "completion_time": str,
    "duration_seconds": (int, float),
    "overall_status": str,
    "profile": str,
    "base": str,
    "mode": str,
    "nonce": str,
    "guest_boot_id": (str, type(None)),
    "system_info": dict,
    "test_summary": dict,
    "validation_results": list,
    "service_health": dict,
    "authentication_tests": dict,
    "agent_control_tests": dict,
    "sandbox_tests": dict,
    "performance_metrics": dict,
    "security_validation": dict,
    "tools": dict,
    "configuration": dict,
    "image": (dict, type(None)),
    "events": dict,
    "redactions": int,
    "abort_reason": (str, type(None)),
    "signer": str,
    "image_digest": (str, type(None)),
    "signature": str,
}
IMAGE_MEMBERS = ["name", "sha256", "sha256_after", "store_path", "nar_hash"]


@dataclass(frozen=True)
class Document:
    """A transcript that was read back: what a verifier asks about, and all members as JSON."""

    members: dict[str, Json]
    session: str
    nonce: str
    started: str
    completed: str
    status: str
    profile: str
    base: str
    signer: str
    chain_head: str
    chain_count: int
    guest_boot_id: str | None
    image: dict[str, str]
    tools: dict[str, str]
    configuration: dict[str, str]
    redactions: int
    checks: dict[str, Status]

    def having(self, *statuses: Status) -> list[str]:
        """Return the ids of the checks with one of these verdicts, in the order they ran."""
        return [id_ for id_, status in self.checks.items() if status in statuses]


def unsigned_bytes(
    record: RunRecord, chain: Chain, seconds: float, signer: str, redactor: Redactor
) -> bytes:
    """Return the bytes that are to be signed: the document with an empty signature.

    Args:
        record: what the run found.
        chain: the ends of its event log; `status` must be the record's.
        seconds: how long the run took, by a clock that does not jump.
        signer: OpenSSH fingerprint of the signing key.
        redactor: takes secrets out of all that the record brings, and has counted those it took
            out of the events.
    """
    found = cast("dict[str, Json]", redactor.value(_found(record)))
    image = record.image
    members: dict[str, object] = found | {
        "profile": record.profile,
        "base": record.base,
        "mode": record.mode,
        "guest_boot_id": _boot_id(record.guest_boot_id),
        "validation_results": [check.cleaned(redactor).document() for check in record.checks],
        "configuration": record.configuration,
        "image": image and {name: getattr(image, name) for name in IMAGE_MEMBERS},
        "schema": SCHEMA,
        "test_session_id": chain.session,
        "rave_version": __version__,
        "start_time": chain.started,
        "completion_time": chain.completed,
        "duration_seconds": round(seconds, 3),
        "overall_status": chain.status,
        "nonce": chain.nonce,
        "test_summary": summary([check.status for check in record.checks]),
        "events": {"count": chain.count, "head": chain.head},
        "signer": signer,
        "image_digest": None if image is None else f"sha256:{image.sha256}",
        "signature": "",
    }
    members["redactions"] = redactor.count
    return document_bytes(to_json({name: members[name] for name in MEMBERS}))


def with_signature(unsigned: bytes, signature: bytes) -> bytes:
    """Return the document with its signature in place."""
    if not unsigned.endswith(UNSIGNED_END):
        raise ValueError("the document does not end with an empty signature")
    value = base64.b64encode(signature)
    return unsigned.removesuffix(UNSIGNED_END) + b'  "signature": "' + value + b'"\n}\n'


def split_signature(raw: bytes) -> tuple[bytes, bytes]:
    """Return the bytes that were signed, and the signature.

    Raises:
        DamagedError: if the file does not end with a signature in canonical base64.
    """
    found = SIGNED_END.search(raw)
    if found is None:
        raise DamagedError("it does not end with a signature")
    signature = base64.b64decode(found[1])
    if base64.b64encode(signature) != found[1]:
        raise DamagedError("its signature is not canonical base64")
    return raw[: found.start()] + UNSIGNED_END, signature


def parse(raw: bytes) -> Document:
    """Read a document whose schema is known to be `SCHEMA`.

    Raises:
        DamagedError: if a member is missing, unknown, of another type, or contradicts another.
    """
    members = parse_document(raw)
    _check_types(members)
    events = cast("dict[str, Json]", members["events"])
    checks = _checks(cast("list[Json]", members["validation_results"]))
    document = Document(
        members=members,
        session=_text(members, "test_session_id"),
        nonce=_text(members, "nonce"),
        started=_text(members, "start_time"),
        completed=_text(members, "completion_time"),
        status=_text(members, "overall_status"),
        profile=_text(members, "profile"),
        base=_text(members, "base"),
        signer=_text(members, "signer"),
        chain_head=_text(events, "head"),
        chain_count=_count(events, "count"),
        guest_boot_id=cast("str | None", members["guest_boot_id"]),
        image=_texts(members, "image"),
        tools=_texts(members, "tools"),
        configuration=_texts(members, "configuration"),
        redactions=_count(members, "redactions"),
        checks=checks,
    )
    _check_agreement(document)
    return document


def _found(record: RunRecord) -> dict[str, object]:
    """Return the members that hold what was seen during the run, and therefore may hold anything.

    Names (of checks, profiles, files) are not among them: a secret that is also one of rave's own
    words must not garble the record. `write` refuses such a secret instead.
    """
    return {
        "system_info": record.system_info,
        "service_health": record.service_health,
        "authentication_tests": record.authentication_tests,
        "agent_control_tests": record.agent_control_tests,
        "sandbox_tests": record.sandbox_tests,
        "performance_metrics": record.performance_metrics,
        "security_validation": record.security_validation,
        "tools": record.tools,
        "abort_reason": record.aborted,
    }


def _boot_id(value: object) -> str | None:
    """Return what the guest says its boot id is, if it is one; a guest may say anything."""
    return value if isinstance(value, str) and BOOT_ID.fullmatch(value) else None


def _check_types(members: dict[str, Json]) -> None:
    if list(members) != list(MEMBERS):
        odd = sorted(set(members) ^ set(MEMBERS))
        raise DamagedError(f"its members are not those of {SCHEMA}: {', '.join(odd) or 'order'}")
    for name, kind in MEMBERS.items():
        value = members[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise DamagedError(f"{name} is of the wrong type")


def _checks(results: list[Json]) -> dict[str, Status]:
    checks: dict[str, Status] = {}
    for result in results:
        if not isinstance(result, dict) or tuple(result) != CHECK_MEMBERS:
            raise DamagedError("validation_results holds something that is not a check")
        id_, status = result["id"], result["status"]
        if not isinstance(id_, str) or not CHECK_ID.fullmatch(id_):
            raise DamagedError("a check has an id that is none")
        if id_ in checks:
            raise DamagedError(f"the check {id_} appears twice")
        if status not in STATUSES:
            raise DamagedError(f"the check {id_} has an unknown status")
        checks[id_] = status
    return checks


def _check_agreement(document: Document) -> None:
    """Refuse a document whose parts contradict each other."""
    members = document.members
    statuses = list(document.checks.values())
    if members["test_summary"] != summary(statuses):
        raise DamagedError("test_summary does not count what validation_results holds")
    if document.status not in ("ABORTED", overall_status(statuses)):
        raise DamagedError("overall_status does not follow from validation_results")
    if (document.status == "ABORTED") != (members["abort_reason"] is not None):
        raise DamagedError("overall_status and abort_reason contradict each other")
    if document.started > document.completed:
        raise DamagedError("completion_time is before start_time")
    if document.status == "ABORTED":
        return
    _check_image(document.image, members["image_digest"])
    for name, digest in document.configuration.items():
        if not SHA256.fullmatch(digest):
            raise DamagedError(f"the digest of {name} is not a sha256 in hex")


def _check_image(image: dict[str, str], digest: Json) -> None:
    if list(image) != IMAGE_MEMBERS:
        raise DamagedError("image is not described as it must be")
    if not SHA256.fullmatch(image["sha256"]) or not SHA256.fullmatch(image["sha256_after"]):
        raise DamagedError("the image's digest is not a sha256 in hex")
    if not SRI_SHA256.fullmatch(image["nar_hash"]):
        raise DamagedError("the image's nar_hash is not of the form sha256-<base64>")
    if digest != f"sha256:{image['sha256']}":
        raise DamagedError("image_digest and image.sha256 differ")


def _text(members: dict[str, Json], name: str) -> str:
    value = members.get(name)
    if not isinstance(value, str):
        raise DamagedError(f"{name} is not a text")
    return value


def _count(members: dict[str, Json], name: str) -> int:
    value = members.get(name)
    if not isinstance(value, int) or isinstance(value, bool):
        raise DamagedError(f"{name} is not a whole number")
    return value


def _texts(members: dict[str, Json], name: str) -> dict[str, str]:
    found = cast("dict[str, Json] | None", members[name]) or {}
    return {key: _text(found, key) for key in found}
