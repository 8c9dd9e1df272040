"""Writes the files of a transcript: everything is made in memory, the document comes last."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.paths import atomic_write, refusing
from rave_cli.transcript import document as documents
from rave_cli.transcript import sshsig
from rave_cli.transcript.agreement import differences, impossibilities, shown
from rave_cli.transcript.chain import LARGEST as LARGEST_LOG
from rave_cli.transcript.chain import read_chain
from rave_cli.transcript.dsse import seal
from rave_cli.transcript.statement import statement_bytes

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.transcript.chain import Chain
    from rave_cli.transcript.document import Document
    from rave_cli.transcript.events import EventLog
    from rave_cli.transcript.record import RunRecord
    from rave_cli.transcript.redaction import Redactor
    from rave_cli.transcript.signing import SigningKey


@dataclass(frozen=True)
class TranscriptFiles:
    """Where the files of a transcript lie. An aborted run has no signed ones."""

    document: Path
    events: Path
    dsse: Path | None
    sshsig: Path | None


def siblings(document: Path) -> TranscriptFiles:
    """Return the places of all files of a completed run's transcript."""
    stem = document.name.removesuffix(".json")
    return TranscriptFiles(
        document=document,
        events=document.with_name(f"{stem}.events.ndjson"),
        dsse=document.with_name(f"{stem}.dsse.json"),
        sshsig=document.with_name(f"{stem}.sshsig"),
    )


def write(record: RunRecord, events: EventLog, key: SigningKey) -> TranscriptFiles:
    """Complete a run's event log and write the signed files beside it.

    A run that was aborted gets a document too, but neither an end event nor a signature, so that
    no tool can mistake it for evidence.

    Args:
        record: what the run found.
        events: the log of the run, still open; it is closed.
        key: the key to sign with.

    Raises:
        RaveError: HOST if the disk is full, and then no document is left behind; SECRETS if a
            secret value would be published.
    """
    if record.status == "ABORTED":
        return _write_aborted(record, events)
    ends = events.finish(record.status)
    unsigned = documents.unsigned_bytes(record, ends, key.fingerprint, events.redactor)
    document = documents.with_signature(unsigned, key.private.sign(unsigned))
    chain = read_chain(_checked(events.redactor, events.path, document))
    if chain.ends != ends:
        raise RaveError(
            f"{events.path} is not what this run wrote to it",
            hint=f"lsof {events.path}",
            exit_code=ExitCode.CHECK_FAILED,
        )
    found = documents.parse(document)
    _check_agreement(found, chain)
    payload = statement_bytes(found, hashlib.sha256(document).hexdigest())
    files = siblings(events.path.with_name(f"{events.session.stem}.json"))
    _write_all(
        {
            files.dsse: seal(payload, key),
            files.sshsig: sshsig.sign(key.private, document),
            files.document: document,
        }
    )
    return files


def _check_agreement(document: Document, chain: Chain) -> None:
    """Refuse to publish what no verifier would believe, such as times of a clock that was set."""
    faults = differences(document, chain) + impossibilities(document, chain)
    if faults:
        raise RaveError(
            "the record of the run contradicts itself, so no transcript was written",
            hint="timedatectl status; if the clock was set meanwhile, rave smoke run again",
            exit_code=ExitCode.CHECK_FAILED,
            detail=shown(faults),
        )


def _write_aborted(record: RunRecord, events: EventLog) -> TranscriptFiles:
    events.close()
    ends = events.ends(record.status)
    document = documents.unsigned_bytes(record, ends, "", events.redactor)
    _checked(events.redactor, events.path, document)
    path = events.path.with_name(f"{events.session.stem}.json")
    atomic_write(path, document)
    return TranscriptFiles(document=path, events=events.path, dsse=None, sshsig=None)


def _write_all(files: dict[Path | None, bytes]) -> None:
    """Write every file, the last one last, or leave none of them."""
    paths = [path for path in files if path is not None]
    try:
        for path in paths:
            atomic_write(path, files[path])
    except BaseException:
        for path in paths:
            with suppress(OSError):
                path.unlink(missing_ok=True)
        raise


def _checked(redactor: Redactor, log: Path, document: bytes) -> bytes:
    """Return the event log's bytes, unless no verifier would read the record or a secret is left.

    Redaction misses a secret if an event was written before it was known, or if it is one of
    rave's own words.
    """
    with refusing(log):
        raw = log.read_bytes()
    if len(raw) > LARGEST_LOG or len(document) > documents.LARGEST:
        raise RaveError(
            "the record of the run is too large to be verified, so no transcript was written",
            hint=f"ls -l {log}; a guest that says so much is not in order",
            exit_code=ExitCode.CHECK_FAILED,
        )
    lines = raw.decode().splitlines()
    where = [
        f"line {number} of {log}"
        for number, line in enumerate(lines, start=1)
        if redactor.finds(line)
    ]
    if redactor.finds(document.decode()):
        where.append("the document")
    if where:
        raise RaveError(
            "a secret value stands in the record of the run, so no transcript was written",
            hint="rave secrets edit; give the secret a long random value",
            exit_code=ExitCode.SECRETS,
            detail=tuple(where),
        )
    return raw
