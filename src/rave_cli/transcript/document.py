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
    same,
    to_json,
)
from rave_cli.transcript.check import CheckResult, Status
from rave_cli.transcript.formats import BY_DOCUMENT, CURRENT, FIRST, TranscriptFormat
from rave_cli.transcript.record import (
    ImageDigests,
    ImageRecord,
    MachineRecord,
    PackageOrigin,
    RunRecord,
    RunSubject,
    check_digests,
    overall_status,
    summary,
)

if TYPE_CHECKING:
    from rave_cli.transcript.chain import ChainEnds
    from rave_cli.transcript.redaction import Redactor

LARGEST = 16 << 20
UNSIGNED_END = b'  "signature": ""\n}\n'
SIGNED_END = re.compile(rb'  "signature": "([A-Za-z0-9+/]{86}==)"\n\}\n\Z')

BOOT_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@dataclass(frozen=True)
class Document:
    """A transcript that was read back: what a verifier asks about, and all members as JSON.

    `subject` and `digests` are None in an aborted run; a document of the first format names no
    machine and not the digest that the build recorded, so it has no `subject` either. Before the
    third format no document says of which `packages` its image was made.
    """

    format: TranscriptFormat
    members: dict[str, Json]
    session: str
    nonce: str
    started: str
    completed: str
    seconds: float
    status: str
    profile: str
    base: str
    mode: str
    signer: str
    chain_head: str
    chain_count: int
    guest_boot_id: str | None
    image: dict[str, str]
    packages: PackageOrigin | None
    digests: ImageDigests | None
    subject: RunSubject | None
    tools: dict[str, str]
    configuration: dict[str, str]
    redactions: int
    checks: dict[str, CheckResult]

    def having(self, *statuses: Status) -> list[str]:
        """Return the ids of the checks with one of these verdicts, in the order of the suite."""
        return [check.id for check in self.checks.values() if check.status in statuses]


def unsigned_bytes(record: RunRecord, chain: ChainEnds, signer: str, redactor: Redactor) -> bytes:
    """Return the bytes that are to be signed: the document with an empty signature.

    Args:
        record: what the run found.
        chain: what its event log has come to; `status` must be the record's.
        signer: OpenSSH fingerprint of the signing key.
        redactor: takes secrets out of all that the record brings, and has counted those it took
            out of the events.
    """
    subject = record.subject
    found = cast("dict[str, Json]", redactor.value(_found(record)))
    checks = [check.cleaned(redactor) for check in record.checks]
    members: dict[str, object] = found | {
        "schema": CURRENT.document,
        "test_session_id": chain.session,
        "rave_version": __version__,
        "start_time": chain.started,
        "completion_time": chain.completed,
        "duration_seconds": chain.seconds,
        "overall_status": chain.status,
        "profile": subject.profile,
        "base": subject.base,
        "mode": subject.mode,
        "machine": subject.document()["machine"],
        "nonce": chain.nonce,
        "guest_boot_id": boot_id(record.guest_boot_id),
        "test_summary": summary([check.status for check in checks]),
        "validation_results": [check.document() for check in checks],
        "configuration": subject.configuration,
        "image": None if record.digests is None else _image_json(subject.image, record.digests),
        "packages": subject.document()["packages"],
        "events": {"count": chain.count, "head": chain.head},
        "signer": signer,
        "image_digest": None if record.digests is None else f"sha256:{record.digests.before}",
        "signature": "",
    }
    members["redactions"] = redactor.count
    return document_bytes(to_json({name: members[name] for name in CURRENT.members}))


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
    """Read a document whose schema is known to be one of `BY_DOCUMENT`.

    Raises:
        DamagedError: if a member is missing, unknown, of another type, or contradicts another.
    """
    members = parse_document(raw)
    found = BY_DOCUMENT[_text(members, "schema")]
    _check_types(members, found)
    events = cast("dict[str, Json]", members["events"])
    aborted = members["overall_status"] == "ABORTED"
    image = _texts(members, "image")
    packages = _packages(members) if "packages" in found.members else None
    checks = _checks(cast("list[Json]", members["validation_results"]))
    document = Document(
        format=found,
        members=members,
        session=_text(members, "test_session_id"),
        nonce=_text(members, "nonce"),
        started=_text(members, "start_time"),
        completed=_text(members, "completion_time"),
        seconds=cast("float", members["duration_seconds"]),
        status=_text(members, "overall_status"),
        profile=_text(members, "profile"),
        base=_text(members, "base"),
        mode=_text(members, "mode"),
        signer=_text(members, "signer"),
        chain_head=_text(events, "head"),
        chain_count=_count(events, "count"),
        guest_boot_id=cast("str | None", members["guest_boot_id"]),
        image=image,
        packages=packages,
        digests=None if aborted else _digests(image, members["image_digest"], found),
        subject=None
        if aborted or found is FIRST
        else _subject(members, image, packages, tuple(checks)),
        tools=_texts(members, "tools"),
        configuration=_texts(members, "configuration"),
        redactions=_count(members, "redactions"),
        checks=checks,
    )
    _check_agreement(document)
    return document


def boot_id(value: object) -> str | None:
    """Return what the guest says its boot id is, if it is one; a guest may say anything."""
    return value if isinstance(value, str) and BOOT_ID.fullmatch(value) else None


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
        "tools": record.subject.tools,
        "abort_reason": record.aborted,
    }


def _image_json(image: ImageRecord, digests: ImageDigests) -> dict[str, str]:
    members = {
        "name": image.name,
        "sha256": digests.before,
        "sha256_after": digests.after,
        "sha256_built": image.sha256,
        "store_path": image.store_path,
        "nar_hash": image.nar_hash,
    }
    return {name: members[name] for name in CURRENT.image}


def _check_types(members: dict[str, Json], known: TranscriptFormat) -> None:
    if list(members) != list(known.members):
        odd = sorted(set(members) ^ set(known.members))
        names = ", ".join(map(repr, odd)) or "order"
        raise DamagedError(f"its members are not those of {known.document}: {names}")
    for name, kind in known.members.items():
        value = members[name]
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise DamagedError(f"{name} is of the wrong type")


def _checks(results: list[Json]) -> dict[str, CheckResult]:
    checks: dict[str, CheckResult] = {}
    for result in results:
        check = CheckResult.parse(result)
        if check.id in checks:
            raise DamagedError(f"the check {check.id} appears twice")
        checks[check.id] = check
    return checks


def _digests(image: dict[str, str], named: Json, known: TranscriptFormat) -> ImageDigests:
    if tuple(image) != known.image:
        raise DamagedError("image is not described as it must be")
    if named != f"sha256:{image['sha256']}":
        raise DamagedError("image_digest and image.sha256 differ")
    try:
        # The digests and the narHash have the same form in every format.
        ImageRecord(image["name"], image["sha256"], image["store_path"], image["nar_hash"])
        return ImageDigests(image["sha256"], image["sha256_after"])
    except ValueError as error:
        raise DamagedError(str(error)) from error


def _packages(members: dict[str, Json]) -> PackageOrigin:
    """Return what a document of the third format or a later one says of the image's packages."""
    match members["packages"]:
        case {"lock": str() | None as lock, "trusted": list(trusted), **rest} if not rest:
            keys = tuple(key for key in trusted if isinstance(key, str))
        case _:
            raise DamagedError("packages are not described as they must be")
    if len(keys) != len(trusted):
        raise DamagedError("a trusted key is not a text")
    try:
        return PackageOrigin(lock, keys)
    except ValueError as error:
        raise DamagedError(str(error)) from error


def _subject(
    members: dict[str, Json],
    image: dict[str, str],
    packages: PackageOrigin | None,
    checks: tuple[str, ...],
) -> RunSubject:
    machine = _texts(members, "machine")
    if tuple(machine) != ("name", "instance", "network"):
        raise DamagedError("machine is not described as it must be")
    try:
        return RunSubject(
            profile=_text(members, "profile"),
            base=_text(members, "base"),
            mode=_text(members, "mode"),
            machine=MachineRecord(**machine),
            image=ImageRecord(
                name=image["name"],
                sha256=image["sha256_built"],
                store_path=image["store_path"],
                nar_hash=image["nar_hash"],
            ),
            packages=packages,
            tools=_texts(members, "tools"),
            configuration=_texts(members, "configuration"),
            checks=checks,
        )
    except ValueError as error:
        raise DamagedError(str(error)) from error


def _check_agreement(document: Document) -> None:
    """Refuse a document whose parts contradict each other."""
    members = document.members
    statuses = [check.status for check in document.checks.values()]
    if not same(members["test_summary"], cast("Json", summary(statuses))):
        raise DamagedError("test_summary does not count what validation_results holds")
    if document.status not in ("ABORTED", overall_status(statuses)):
        raise DamagedError("overall_status does not follow from validation_results")
    if (document.status == "ABORTED") != (members["abort_reason"] is not None):
        raise DamagedError("overall_status and abort_reason contradict each other")
    if document.started > document.completed:
        raise DamagedError("completion_time is before start_time")
    if document.redactions < 0:
        raise DamagedError("redactions is negative")
    if document.status != "ABORTED":
        try:
            check_digests(document.configuration)
        except ValueError as error:
            raise DamagedError(str(error)) from error


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
