"""Decides whether a transcript is evidence: every file, every byte, against trust from outside."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.paths import refusing
from rave_cli.transcript import document as documents
from rave_cli.transcript import sshsig, statement
from rave_cli.transcript.canonical import DamagedError, parse
from rave_cli.transcript.events import LARGEST as LARGEST_LOG
from rave_cli.transcript.events import read_chain, utc_now
from rave_cli.transcript.policy import Policy, load_policy
from rave_cli.transcript.refusal import Reason, RefusedError
from rave_cli.transcript.trust import TrustedKey, load_allowed_signers, load_key
from rave_cli.transcript.writer import siblings

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.transcript.document import Document
    from rave_cli.transcript.events import Chain

LARGEST_ENVELOPE = 2 * documents.LARGEST
LARGEST_SIGNATURE = 4096

# How far the clock of the machine that ran may have been ahead of ours.
CLOCK_SKEW = timedelta(minutes=5)

FETCH = "get the files again from where the run was"
OTHER_KEY = "compare the fingerprint with the signer's: ssh-keygen -l -f KEY.pub"


@dataclass(frozen=True)
class Verified:
    """A run that is proven, by files that all agree.

    Args:
        session: the run's id.
        status: `SUCCESS` or `WARNING`.
        completed: when it completed, in UTC.
        age_seconds: how long ago that was.
        profile: profile of the machine.
        base: base of the image.
        nonce: the run's nonce.
        signer: fingerprint of the key that signed.
        principals: the names that the trusted key signs as, where its file gives any.
        image_sha256: digest of the image.
        store_path: the Nix output that held the image.
        events: number of events.
        passed: ids of the checks that passed.
        warned: ids of the checks that warned.
        skipped: ids of the checks that were skipped; nothing is known about them.
        image_checked: whether the image itself was at hand and is the one.
        policy_checked: whether a policy was given and is met.
    """

    session: str
    status: str
    completed: str
    age_seconds: float
    profile: str
    base: str
    nonce: str
    signer: str
    principals: str
    image_sha256: str
    store_path: str
    events: int
    passed: tuple[str, ...]
    warned: tuple[str, ...]
    skipped: tuple[str, ...]
    image_checked: bool
    policy_checked: bool


def verify(
    file: Path,
    *,
    key: Path | None = None,
    allowed_signers: Path | None = None,
    principal: str | None = None,
    image: Path | None = None,
    policy: Path | None = None,
    max_age: timedelta | None = None,
    nonce: str | None = None,
    profile: str | None = None,
    base: str | None = None,
    now: datetime | None = None,
) -> Verified:
    """Verify a transcript and all files that belong to it.

    Exactly one of `key` and `allowed_signers` must be given: a transcript cannot vouch for itself.

    Args:
        file: the document, `boot_transcript_….json`; the other files must lie beside it.
        key: the trusted public key, PEM or OpenSSH.
        allowed_signers: the trusted keys as OpenSSH lists them; a key must have been valid when
            the run completed.
        principal: the name the signer must have in `allowed_signers`.
        image: the qcow2 that the run must have been about.
        policy: file of demands (see `policy.load_policy`).
        max_age: how long ago the run may have completed.
        nonce: the nonce the run must carry.
        profile: the profile it must have been.
        base: the base it must have been.
        now: the time to judge age by; by default the clock's.

    Raises:
        RefusedError: with its reason, if the transcript is not evidence of a run that passed.
        RaveError: USAGE if the trusted key or the policy is unusable; HOST if a file cannot be
            read.
    """
    trusted = _trusted(key, allowed_signers, principal)
    demands = load_policy(policy) if policy else Policy(required=())
    now = now or utc_now()
    document, signer = _verified_document(file, trusted)
    completed = _moment(document.completed)
    _check_times(document, completed, now, [max_age, demands.max_age])
    _check_status(document)
    _check_identity(document, nonce, [profile, demands.profile], [base, demands.base])
    _check_policy(document, demands)
    _check_image(document, image)
    return Verified(
        session=document.session,
        status=document.status,
        completed=document.completed,
        age_seconds=max(0.0, round((now - completed).total_seconds(), 1)),
        profile=document.profile,
        base=document.base,
        nonce=document.nonce,
        signer=signer.fingerprint,
        principals=signer.principals,
        image_sha256=document.image["sha256"],
        store_path=document.image["store_path"],
        events=document.chain_count,
        passed=tuple(document.having("pass")),
        warned=tuple(document.having("warn")),
        skipped=tuple(document.having("skip")),
        image_checked=image is not None,
        policy_checked=policy is not None,
    )


def _trusted(
    key: Path | None, allowed_signers: Path | None, principal: str | None
) -> tuple[TrustedKey, ...]:
    if key is not None and allowed_signers is None and principal is None:
        return (load_key(key),)
    if allowed_signers is not None and key is None:
        return load_allowed_signers(allowed_signers, principal)
    raise RaveError(
        "a transcript is verified against one trusted key or one list of allowed signers",
        hint="rave smoke verify FILE --allowed-signers ~/.config/rave/signing/allowed_signers",
        exit_code=ExitCode.USAGE,
    )


def _verified_document(file: Path, trusted: tuple[TrustedKey, ...]) -> tuple[Document, TrustedKey]:
    """Return the document and who signed it, once all files of the set agree."""
    files = siblings(file)
    if not file.name.endswith(".json") or file.name.endswith(".dsse.json"):
        raise RaveError(
            f"{file.name} is not the document of a transcript",
            hint="name the file boot_transcript_<stamp>.json",
            exit_code=ExitCode.USAGE,
        )
    if not file.exists() and files.events.exists():
        raise RefusedError(
            Reason.ABORTED,
            f"{file.name} was never written; {files.events.name} is all that is left of the run",
            hint="rave smoke run",
        )
    raw = _read(file, documents.LARGEST)
    signers = _signers(raw, trusted)
    document = _document(raw)
    if document.status == "ABORTED":
        raise _aborted()
    signer = _valid_signer(signers, document)
    _check_events(document, read_chain(_read(files.events, LARGEST_LOG)))
    _check_attestation(document, raw, signer, _read(files.dsse, LARGEST_ENVELOPE))
    _check_ssh_signature(raw, signer, _read(files.sshsig, LARGEST_SIGNATURE))
    return document, signer


def _read(path: Path | None, largest: int) -> bytes:
    """Return the bytes of a file; they are read once, and what is verified is what is used."""
    assert path is not None  # noqa: S101 - siblings() names them all
    with refusing(path):
        if not path.is_file():
            raise RefusedError(Reason.MISSING, f"{path.name} is missing", hint=FETCH)
        with path.open("rb") as stream:
            raw = stream.read(largest + 1)
    if len(raw) > largest:
        raise RefusedError(
            Reason.OVERSIZED, f"{path.name} is larger than {largest // 1024} KiB", hint=FETCH
        )
    return raw


def _signers(raw: bytes, trusted: tuple[TrustedKey, ...]) -> list[TrustedKey]:
    """Return the trusted keys whose signature the document carries."""
    try:
        unsigned, signature = documents.split_signature(raw)
    except DamagedError as error:
        if _claims(raw, "overall_status") == "ABORTED":
            raise _aborted() from error
        raise RefusedError(
            Reason.MALFORMED, f"the document is damaged: {error}", hint=FETCH
        ) from error
    signers = [key for key in trusted if key.verifies(signature, unsigned)]
    if signers:
        return signers
    claimed = _claims(raw, "signer")
    if isinstance(claimed, str) and claimed not in {key.fingerprint for key in trusted}:
        raise RefusedError(
            Reason.WRONG_KEY,
            "the document was not signed by a key that you trust",
            hint=OTHER_KEY,
            detail=tuple(f"trusted: {key.fingerprint} {key.principals}".strip() for key in trusted),
        )
    raise RefusedError(
        Reason.SIGNATURE,
        "the document's signature does not fit: it was changed after it was signed",
        hint=FETCH,
    )


def _claims(raw: bytes, name: str) -> object:
    """Return what an unverified document says about itself, to choose the better message."""
    try:
        members = parse(raw)
    except ValueError:
        return None
    return members.get(name) if isinstance(members, dict) else None


def _document(raw: bytes) -> Document:
    """Read a document whose signature is good."""
    if _claims(raw, "schema") not in (None, documents.SCHEMA):
        raise RefusedError(
            Reason.UNKNOWN_VERSION,
            f"the document is not of the kind {documents.SCHEMA}",
            hint="verify it with the version of rave that wrote it",
        )
    try:
        return documents.parse(raw)
    except DamagedError as error:
        raise RefusedError(
            Reason.MALFORMED, f"the document is damaged: {error}", hint=FETCH
        ) from error


def _valid_signer(signers: list[TrustedKey], document: Document) -> TrustedKey:
    completed = _moment(document.completed)
    for signer in signers:
        if signer.fingerprint != document.signer:
            raise RefusedError(
                Reason.MISMATCH, "the document names another signer than it has", hint=FETCH
            )
        if signer.valid_at(completed):
            return signer
    raise RefusedError(
        Reason.KEY_NOT_VALID,
        f"the signing key was not valid on {document.completed}",
        hint="look at valid-after and valid-before in your allowed signers",
        detail=tuple(signer.fingerprint for signer in signers),
    )


def _check_events(document: Document, chain: Chain) -> None:
    if (chain.session, chain.nonce) != (document.session, document.nonce):
        raise RefusedError(Reason.MISMATCH, "the event log is of another run", hint=FETCH)
    if chain.count < document.chain_count:
        raise RefusedError(
            Reason.TRUNCATED,
            f"the event log has {chain.count} of {document.chain_count} events",
            hint=FETCH,
        )
    if (chain.head, chain.count) != (document.chain_head, document.chain_count):
        raise RefusedError(
            Reason.EVENTS, "the event log is not the one that was signed", hint=FETCH
        )
    ends = (chain.started, chain.completed, chain.status)
    if ends != (document.started, document.completed, document.status):
        raise RefusedError(
            Reason.MISMATCH, "the event log and the document tell different stories", hint=FETCH
        )


def _check_attestation(document: Document, raw: bytes, signer: TrustedKey, data: bytes) -> None:
    try:
        envelope = statement.parse_envelope(data)
    except DamagedError as error:
        raise _attestation(f"is damaged: {error}") from error
    signed = statement.pre_authentication(envelope.payload_type, envelope.payload)
    if not signer.verifies(envelope.signature, signed):
        raise _attestation("was changed, or signed by another key than the document")
    if envelope.keyid != signer.fingerprint:
        raise _attestation("names another key than the one that signed it")
    _check_types(envelope)
    expected = statement.statement_bytes(document, hashlib.sha256(raw).hexdigest())
    if envelope.payload != expected:
        raise RefusedError(Reason.MISMATCH, "the attestation is of another run", hint=FETCH)


def _check_types(envelope: statement.Envelope) -> None:
    try:
        types = statement.types_of(envelope.payload)
    except DamagedError as error:
        raise _attestation(f"holds a damaged statement: {error}") from error
    known = (statement.STATEMENT_TYPE, statement.PREDICATE_TYPE)
    if envelope.payload_type != statement.PAYLOAD_TYPE or types != known:
        raise RefusedError(
            Reason.UNKNOWN_VERSION,
            "the attestation is of a type or version that this rave does not know",
            hint="verify it with the version of rave that wrote it",
        )


def _check_ssh_signature(raw: bytes, signer: TrustedKey, data: bytes) -> None:
    try:
        found = sshsig.parse(data)
    except DamagedError as error:
        raise _ssh_signature(f"is damaged: {error}") from error
    if found.namespace != sshsig.NAMESPACE:
        raise _ssh_signature(f"is not for {sshsig.NAMESPACE}")
    if found.public != sshsig.public_blob(signer.public):
        raise _ssh_signature("was made by another key than the document's")
    if not signer.verifies(found.signature, sshsig.signed_bytes(raw, sshsig.NAMESPACE)):
        raise _ssh_signature("does not fit the document")


def _check_times(
    document: Document, completed: datetime, now: datetime, limits: list[timedelta | None]
) -> None:
    if completed > now + CLOCK_SKEW:
        raise RefusedError(
            Reason.FUTURE,
            f"the run completed on {document.completed}, which has not come yet",
            hint="date -u; is one of the clocks wrong?",
        )
    limit = min((limit for limit in limits if limit is not None), default=None)
    if limit is not None and now - completed > limit:
        raise RefusedError(
            Reason.TOO_OLD,
            f"the run completed on {document.completed}, more than {limit} ago",
            hint="rave smoke run",
        )


def _check_status(document: Document) -> None:
    if document.status == "FAILED":
        raise RefusedError(
            Reason.FAILED,
            "the record is genuine, and it says that the run failed",
            hint="rave smoke run",
            detail=tuple(
                f"{id_}: {document.checks[id_]}" for id_ in document.having("fail", "error")
            ),
        )


def _check_identity(
    document: Document, nonce: str | None, profiles: list[str | None], bases: list[str | None]
) -> None:
    if nonce is not None and nonce != document.nonce:
        raise RefusedError(
            Reason.NONCE,
            "the run does not carry the nonce that you asked for; it may be a replay",
            hint="rave smoke run --nonce NONCE",
        )
    for what, demanded, found in (
        *(("profile", profile, document.profile) for profile in profiles),
        *(("base", base, document.base) for base in bases),
    ):
        if demanded is not None and demanded != found:
            raise RefusedError(
                Reason.PROFILE,
                f"the run was of the {what} {found!r}, not {demanded!r}",
                hint=f"rave smoke run --{what} {demanded}",
            )


def _check_policy(document: Document, demands: Policy) -> None:
    shortfalls = demands.shortfalls(document)
    if shortfalls:
        raise RefusedError(
            Reason.POLICY,
            f"the run falls short of the policy in {len(shortfalls)} places",
            hint="rave smoke run",
            detail=tuple(shortfalls),
        )


def _check_image(document: Document, image: Path | None) -> None:
    before, after = document.image["sha256"], document.image["sha256_after"]
    if before != after:
        raise RefusedError(
            Reason.IMAGE_CHANGED,
            "the image was changed while the run went on",
            hint="rave vm build-image, then rave smoke run",
            detail=(f"before: {before}", f"after:  {after}"),
        )
    if image is None:
        return
    with refusing(image), image.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != before:
        raise RefusedError(
            Reason.IMAGE,
            f"the run was about another image than {image.name}",
            hint="rave smoke run",
            detail=(f"the run's: {before}", f"this one:  {found}"),
        )


def _moment(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError as error:
        raise RefusedError(
            Reason.MALFORMED, "the document is damaged: a time cannot be read", hint=FETCH
        ) from error


def _aborted() -> RefusedError:
    return RefusedError(
        Reason.ABORTED, "the run was aborted; it proves nothing", hint="rave smoke run"
    )


def _attestation(what: str) -> RefusedError:
    return RefusedError(Reason.ATTESTATION, f"the attestation (.dsse.json) {what}", hint=FETCH)


def _ssh_signature(what: str) -> RefusedError:
    return RefusedError(Reason.SSH_SIGNATURE, f"the SSH signature (.sshsig) {what}", hint=FETCH)
