"""Reads the files of a transcript: they must be genuine, of one run, and agree with each other.

What a verifier demands of that run besides is not asked here: see `verification`.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.paths import refusing
from rave_cli.transcript import agreement, dsse, sshsig, statement
from rave_cli.transcript import document as documents
from rave_cli.transcript.canonical import DamagedError, parse
from rave_cli.transcript.chain import LARGEST as LARGEST_LOG
from rave_cli.transcript.chain import read_chain
from rave_cli.transcript.formats import BY_DOCUMENT
from rave_cli.transcript.refusal import Reason, RefusedError
from rave_cli.transcript.writer import siblings

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from rave_cli.transcript.chain import Chain
    from rave_cli.transcript.document import Document
    from rave_cli.transcript.trust import TrustedKey

LARGEST_ENVELOPE = 2 * documents.LARGEST
LARGEST_SIGNATURE = 4096

FETCH = "get the files again from where the run was"
ANOTHER_RUN = "do not rely on this run; make another: rave smoke run"
OTHER_KEY = "compare the fingerprint with the signer's: ssh-keygen -l -f KEY.pub"


def read_evidence(file: Path, trusted: tuple[TrustedKey, ...]) -> tuple[Document, TrustedKey]:
    """Return the document and who signed it, once all files of the set agree.

    Args:
        file: the document; the other files must lie beside it.
        trusted: the keys of which one must have signed.

    Raises:
        RefusedError: with its reason, if the files are not genuine, not of one run, or say what
            cannot be.
        RaveError: HOST if a file cannot be read; USAGE if `file` names another file of the set.
    """
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
    chain = read_chain(_read(files.events, LARGEST_LOG))
    _check_events(document, chain)
    _check_attestation(document, raw, signer, _read(files.dsse, LARGEST_ENVELOPE))
    _check_ssh_signature(raw, signer, _read(files.sshsig, LARGEST_SIGNATURE))
    _check_agreement(document, chain)
    return document, signer


def completion(document: Document) -> datetime:
    """Return when the run completed, in UTC.

    Raises:
        RefusedError: MALFORMED if the document names no time.
    """
    try:
        return agreement.moment(document.completed)
    except ValueError as error:
        raise RefusedError(
            Reason.MALFORMED, "the document is damaged: a time cannot be read", hint=FETCH
        ) from error


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
    schema = _claims(raw, "schema")
    if schema is not None and str(schema) not in BY_DOCUMENT:
        raise RefusedError(
            Reason.UNKNOWN_VERSION,
            f"the document is not of a kind that this rave knows: {', '.join(BY_DOCUMENT)}",
            hint="verify it with the version of rave that wrote it",
        )
    try:
        return documents.parse(raw)
    except DamagedError as error:
        raise RefusedError(
            Reason.MALFORMED, f"the document is damaged: {error}", hint=FETCH
        ) from error


def _valid_signer(signers: list[TrustedKey], document: Document) -> TrustedKey:
    completed = completion(document)
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
    ends = chain.ends
    if (ends.session, ends.nonce) != (document.session, document.nonce):
        raise RefusedError(Reason.MISMATCH, "the event log is of another run", hint=FETCH)
    if ends.count < document.chain_count:
        raise RefusedError(
            Reason.TRUNCATED,
            f"the event log has {ends.count} of {document.chain_count} events",
            hint=FETCH,
        )
    if (ends.head, ends.count) != (document.chain_head, document.chain_count):
        raise RefusedError(
            Reason.EVENTS, "the event log is not the one that was signed", hint=FETCH
        )
    if chain.format is not document.format:
        raise RefusedError(
            Reason.MISMATCH, "the event log and the document are of different formats", hint=FETCH
        )


def _check_agreement(document: Document, chain: Chain) -> None:
    if faults := agreement.differences(document, chain):
        raise RefusedError(
            Reason.MISMATCH,
            "the event log and the document tell different stories",
            hint=ANOTHER_RUN,
            detail=agreement.shown(faults),
        )
    if faults := agreement.impossibilities(document, chain):
        raise RefusedError(
            Reason.TIMES,
            "the record is genuine, and its times cannot be",
            hint=ANOTHER_RUN,
            detail=agreement.shown(faults),
        )


def _check_attestation(document: Document, raw: bytes, signer: TrustedKey, data: bytes) -> None:
    try:
        envelope = dsse.parse_envelope(data)
    except DamagedError as error:
        raise _attestation(f"is damaged: {error}") from error
    if not envelope.signed_by(signer):
        raise _attestation("was changed, or signed by another key than the document")
    if envelope.keyid != signer.fingerprint:
        raise _attestation("names another key than the one that signed it")
    _check_types(envelope)
    expected = statement.statement_bytes(document, hashlib.sha256(raw).hexdigest())
    if envelope.payload != expected:
        raise RefusedError(Reason.MISMATCH, "the attestation is of another run", hint=FETCH)


def _check_types(envelope: dsse.Envelope) -> None:
    try:
        types = dsse.types_of(envelope.payload)
    except DamagedError as error:
        raise _attestation(f"holds a damaged statement: {error}") from error
    known = (dsse.STATEMENT_TYPE, statement.PREDICATE_TYPE)
    if envelope.payload_type != dsse.PAYLOAD_TYPE or types != known:
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


def _aborted() -> RefusedError:
    return RefusedError(
        Reason.ABORTED, "the run was aborted; it proves nothing", hint="rave smoke run"
    )


def _attestation(what: str) -> RefusedError:
    return RefusedError(Reason.ATTESTATION, f"the attestation (.dsse.json) {what}", hint=FETCH)


def _ssh_signature(what: str) -> RefusedError:
    return RefusedError(Reason.SSH_SIGNATURE, f"the SSH signature (.sshsig) {what}", hint=FETCH)
