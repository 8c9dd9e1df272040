"""The proof of a job: a signed statement of what was asked for, where it ran and what came of it.

An in-toto statement in a DSSE envelope, made by whoever serves the pool in the transaction in which
the job ends, so that none is over without. Verifying it is making it again from what the store says
and comparing the bytes: what was changed in either is seen. The agent's word is believed as to what
happened in the machine; that a guest was told the truth by its command is not claimed.
"""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rave_cli import __version__
from rave_cli.pool.jobs.job import Artifact
from rave_cli.pool.jobs.work import work_said
from rave_cli.transcript import Reason, RefusedError
from rave_cli.transcript.canonical import DamagedError, Json, line_bytes, parse_line, to_json
from rave_cli.transcript.dsse import PAYLOAD_TYPE, STATEMENT_TYPE, parse_envelope, types_of

if TYPE_CHECKING:
    from rave_cli.pool.jobs.job import Job, Printout
    from rave_cli.transcript.dsse import Envelope
    from rave_cli.transcript.trust import TrustedKey

PREDICATE_TYPE = "urn:rave:pool-job:v1"

# A job may leave a thousand files, each of which is named twice.
LARGEST = 8 << 20

NOT_IT = "do not rely on it; compare with a copy of the pool's files from before"


@dataclass(frozen=True)
class ProvenJob:
    """A job whose proof is genuine and fits what the store says of it.

    Attributes:
        name: of the job.
        result: how it ended.
        signer: fingerprint of the key that signed.
        principals: the names that the trusted key signs as.
        digest: sha256 of what was asked for.
        image: sha256 of the image of its machine; empty if no machine came to its end.
        template: digest of the template that the machine was started from; empty likewise.
        version: of the rave that signed.
    """

    name: str
    result: str
    signer: str
    principals: str
    digest: str
    image: str
    template: str
    version: str


@dataclass(frozen=True)
class ToldJob:
    """What the proof of a job says: its name, how it ended, who signed, and what it left."""

    name: str
    result: str
    signer: str
    artifacts: tuple[Artifact, ...]


def job_digest(job: Job) -> str:
    """Return the sha256 of what was asked for, and when."""
    return hashlib.sha256(line_bytes(_asked(job))).hexdigest()


def statement_bytes(job: Job, printout: Printout, version: str = __version__) -> bytes:
    """Return the statement about a job that is over.

    Args:
        job: the job.
        printout: what is kept of the output of its last attempt.
        version: of the rave that says so.
    """
    facts = job.facts
    machine = {"image": {"sha256": facts.image}, "template": {"sha256": facts.template}}
    subjects = [
        {"name": f"job-{job.name}", "digest": {"sha256": job_digest(job)}},
        # Of nothing there is no digest: any empty file would pass for it.
        *(
            {"name": f"job-{job.name}.{stream}", "digest": {"sha256": kept.sha256}}
            for stream, kept in printout.streams
            if kept.size
        ),
        *(
            {"name": f"job-{job.name}/{one.path}", "digest": {"sha256": one.sha256}}
            for one in facts.artifacts
            if one.size
        ),
    ]
    predicate: dict[str, object] = {
        "job": _asked(job),
        "result": job.state,
        "exitStatus": job.exit_status,
        "why": job.why,
        "attempt": job.attempt,
        "failed": job.failed,
        "lost": job.lost,
        "agent": job.agent,
        "machine": machine if facts.image else None,
        "output": {
            stream: {"sha256": kept.sha256, "bytes": kept.size, "passedOn": passed_on}
            for (stream, kept), passed_on in zip(printout.streams, facts.printed, strict=True)
        },
        "artifacts": [asdict(one) for one in facts.artifacts],
        **_cache(job),
        **({"executable": list(facts.executable)} if facts.executable else {}),
        "times": {
            "submitted": _utc(job.submitted),
            "began": _utc(job.began),
            "ended": _utc(job.ended),
            "startingSeconds": facts.starting,
            "runSeconds": facts.ran,
        },
        "version": version,
    }
    return line_bytes(
        to_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": subjects,
                "predicateType": PREDICATE_TYPE,
                "predicate": predicate,
            }
        )
    )


def verify(
    job: Job, printout: Printout, raw: bytes | None, trusted: tuple[TrustedKey, ...]
) -> ProvenJob:
    """Verify the proof of a job with keys that come from elsewhere.

    Args:
        job: the job as the store has it.
        printout: likewise.
        raw: its proof; None if there is none.
        trusted: the keys of which one must have signed.

    Raises:
        RefusedError: with its reason, if anything is not as it was signed.
    """
    if not job.over:
        raise RefusedError(
            Reason.MISSING,
            f"job {job.name} is not over, so nothing is signed yet",
            hint=f"rave pool logs {job.name} --follow",
        )
    if raw is None:
        raise RefusedError(
            Reason.MISSING,
            f"job {job.name} has no proof; it ended under a rave that made none, or it was removed",
            hint=f"rave pool show {job.name}",
        )
    envelope = _envelope(raw)
    signer = _signer(envelope, trusted)
    version = _version(envelope)
    if envelope.payload != statement_bytes(job, printout, version):
        raise RefusedError(
            Reason.MISMATCH,
            f"what the pool says of job {job.name} is not what was signed",
            hint=NOT_IT,
        )
    if not signer.valid_at(datetime.fromtimestamp(job.ended or 0.0, UTC)):
        raise RefusedError(
            Reason.KEY_NOT_VALID,
            f"the signing key was not valid when job {job.name} ended",
            hint="look at valid-after and valid-before in your allowed signers",
            detail=(signer.fingerprint,),
        )
    return ProvenJob(
        name=job.name,
        result=job.state,
        signer=signer.fingerprint,
        principals=signer.principals,
        digest=job_digest(job),
        image=job.facts.image,
        template=job.facts.template,
        version=version,
    )


def told(raw: bytes, trusted: tuple[TrustedKey, ...]) -> ToldJob:
    """Return what the proof of a job says, where the pool that had it cannot be asked.

    Args:
        raw: the proof.
        trusted: the keys of which one must have signed.

    Raises:
        RefusedError: with its reason, if none has, or it says something else.
    """
    envelope = _envelope(raw)
    signer = _signer(envelope, trusted)
    _version(envelope)
    match parse_line(envelope.payload):
        case {
            "predicate": {
                "job": {"name": str(name)},
                "result": str(result),
                "artifacts": list(left),
                "times": {"ended": str(ended)},
            }
        }:
            pass
        case _:
            raise RefusedError(Reason.MALFORMED, "the proof does not say what the job left")
    if not signer.valid_at(datetime.fromisoformat(ended)):
        raise RefusedError(
            Reason.KEY_NOT_VALID, f"the signing key was not valid when job {name} ended"
        )
    return ToldJob(name, result, signer.fingerprint, tuple(map(_artifact, left)))


def _artifact(said: Json) -> Artifact:
    match said:
        case {"path": str(path), "size": int(size), "sha256": str(sha256)}:
            return Artifact(path, size, sha256)
    raise RefusedError(Reason.MALFORMED, "the proof does not say what the job left")


def _envelope(raw: bytes) -> Envelope:
    if len(raw) > LARGEST:
        raise RefusedError(Reason.OVERSIZED, f"the proof is larger than {LARGEST >> 10} KiB")
    try:
        return parse_envelope(raw)
    except DamagedError as error:
        raise _damaged(error) from error


def _signer(envelope: Envelope, trusted: tuple[TrustedKey, ...]) -> TrustedKey:
    for key in trusted:
        if envelope.signed_by(key):
            if envelope.keyid != key.fingerprint:
                raise RefusedError(
                    Reason.MISMATCH, "the proof names another key than the one that signed it"
                )
            return key
    if envelope.keyid in {key.fingerprint for key in trusted}:
        raise RefusedError(
            Reason.SIGNATURE, "the proof was changed after it was signed", hint=NOT_IT
        )
    raise RefusedError(
        Reason.WRONG_KEY,
        "the proof was not signed by a key that you trust",
        hint="compare the fingerprint with the signer's: ssh-keygen -l -f KEY.pub",
        detail=tuple(f"trusted: {key.fingerprint} {key.principals}".strip() for key in trusted),
    )


def _version(envelope: Envelope) -> str:
    """Return the version of the rave that made a statement whose signature is good."""
    try:
        types = types_of(envelope.payload)
        statement = parse_line(envelope.payload)
    except DamagedError as error:
        raise _damaged(error) from error
    if envelope.payload_type != PAYLOAD_TYPE or types != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise RefusedError(
            Reason.UNKNOWN_VERSION,
            "the proof is of a type or version that this rave does not know",
            hint="verify it with the version of rave that made it",
        )
    match statement:
        case {"predicate": {"version": str(version)}}:
            return version
    raise RefusedError(Reason.MALFORMED, "the proof does not say which rave made it")


def _damaged(error: DamagedError) -> RefusedError:
    return RefusedError(Reason.MALFORMED, f"the proof is damaged: {error}", hint=NOT_IT)


def _cache(job: Job) -> dict[str, object]:
    """Return what is said of the cache of a job that has one."""
    if not job.work.cache:
        return {}
    said = {"key": job.work.cache, "from": job.facts.cache or None, "kept": job.facts.cached}
    return {"cache": said}


def _asked(job: Job) -> Json:
    asked = {"name": job.name, "submitted": _utc(job.submitted), "work": work_said(job.work)}
    # Of one that an older rave took in nobody knows; what that signed says nothing of it.
    return to_json(asked | ({"owner": job.owner} if job.owner else {}))


def _utc(at: float | None) -> str | None:
    """Return a time as RFC 3339 has it, to the microsecond."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="microseconds")
