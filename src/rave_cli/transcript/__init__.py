"""The signed record of a run: event chain, statement, signatures and verification.

Writing one:

    key = signing_key()                          # key.created: tell the user that it is new
    redactor = Redactor(secret_values)           # redactor.learn([...]) when more become known
    with EventLog.begin(Path("artifacts"), redactor=redactor) as events:
        events.subject(subject)                  # RunSubject: machine, image, ids of all checks
        checks = tuple(events.check(result) for result in ...)        # CheckResult
        ...
        files = write(RunRecord(subject=subject, checks=checks, ...), events, key)

`RunRecord.status` follows from the checks; `aborted="why"` records a run that did not
complete, unsigned. Parts that do not exist are `skipped("why")`. What the events and the record say
must agree, or nothing is signed.

Verifying one, with trust from outside the files:

    verify(files.document, key=Path("id_ed25519.pub"), image=qcow2, policy=Path("policy.yaml"))

raises `RefusedError` (a RaveError with exit code 7 and a `reason`) unless all of it is true.
"""

from rave_cli.transcript.check import CheckResult
from rave_cli.transcript.events import EventLog
from rave_cli.transcript.policy import VerificationPolicy, load_policy, parse_age
from rave_cli.transcript.record import (
    ImageDigests,
    ImageRecord,
    MachineRecord,
    PackageOrigin,
    RunRecord,
    RunSubject,
    skipped,
)
from rave_cli.transcript.redaction import Redactor, redact
from rave_cli.transcript.refusal import Reason, RefusedError
from rave_cli.transcript.signing import SigningKey, signing_key
from rave_cli.transcript.verification import Verified, verify
from rave_cli.transcript.writer import TranscriptFiles, siblings, write

__all__ = [
    "CheckResult",
    "EventLog",
    "ImageDigests",
    "ImageRecord",
    "MachineRecord",
    "PackageOrigin",
    "Reason",
    "Redactor",
    "RefusedError",
    "RunRecord",
    "RunSubject",
    "SigningKey",
    "TranscriptFiles",
    "VerificationPolicy",
    "Verified",
    "load_policy",
    "parse_age",
    "redact",
    "siblings",
    "signing_key",
    "skipped",
    "verify",
    "write",
]
