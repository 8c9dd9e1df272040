"""Transcripts to test with: a made-up run of the demo profile, written by the real code."""

from __future__ import annotations

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from rave_cli.errors import ExitCode
from rave_cli.transcript import (
    CheckResult,
    EventLog,
    ImageDigests,
    ImageRecord,
    MachineRecord,
    PackageOrigin,
    Reason,
    Redactor,
    RefusedError,
    RunRecord,
    RunSubject,
    SigningKey,
    TranscriptFiles,
    Verified,
    canonical,
    dsse,
    signing,
    skipped,
    sshsig,
    statement,
    verify,
    write,
)
from rave_cli.transcript import document as documents
from rave_cli.transcript.chain import GENESIS
from rave_cli.transcript.parts import health_part, security_part

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rave_cli.transcript.check import Status

# Events of the run below, each of which takes a second.
EVENTS = 11
STARTED = datetime(2026, 1, 24, 14, 30, 52, tzinfo=UTC)
COMPLETED = STARTED + timedelta(seconds=EVENTS - 1)
NOW = COMPLETED + timedelta(minutes=10)
NONCE = "0123456789abcdef0123456789abcdef"
BOOT_ID = "7e4bd0c2-5a6e-4d2c-9c29-0d6f7a3f1f10"
IMAGE = b"the bytes of a qcow2"
IMAGE_SHA256 = hashlib.sha256(IMAGE).hexdigest()


class Clock:
    """A clock that advances one second each time it is read."""

    def __init__(self, start: datetime = STARTED) -> None:
        self.next = start

    def __call__(self) -> datetime:
        moment, self.next = self.next, self.next + timedelta(seconds=1)
        return moment


def make_key(directory: Path, name: str = "id_ed25519", seed: int = 1) -> SigningKey:
    """Return a signing key that is the same in every run, with its public files beside it."""
    directory.mkdir(parents=True, exist_ok=True)
    private = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    path = directory / name
    path.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()))
    path.chmod(0o600)
    key = signing.load(path)
    signing.publish(key)
    return key


def make_check(id_: str, status: Status = "pass", **more: Any) -> CheckResult:
    """Return a check that ended so; a skipped one was not tried."""
    asked = status != "skip"
    values: dict[str, Any] = {
        "phase": "services", "title": f"{id_} is as it should be", "severity": "critical",
        "viewpoint": "guest", "seconds": 0.5 * asked, "attempts": int(asked), "detail": "",
        "data": {},
    }  # fmt: skip
    return CheckResult(id=id_, status=status, **(values | more))


SUBJECT = RunSubject(
    profile="demo",
    base="debian",
    mode="safe",
    machine=MachineRecord("demo", "0f" * 16, "isolated"),
    image=ImageRecord(
        name="demo-debian.qcow2",
        sha256=IMAGE_SHA256,
        store_path="/nix/store/00000000000000000000000000000000-rave-demo-debian",
        nar_hash="sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
    ),
    packages=PackageOrigin("cd" * 32, ()),
    tools={"qemu": "7.2.0", "sops": "3.11.0"},
    configuration={"flake.lock": "ab" * 32},
    checks=(),
)
CHECKS = (
    make_check("image.integrity", phase="image", viewpoint="host", seconds=0.2),
    make_check("redis.ping", detail="PONG", attempts=2, data={"milliseconds": [1, 2.5]}),
    make_check("oidc.login", "skip", phase="oidc", detail="no GitLab"),
)


def make_subject(checks: Sequence[CheckResult] = CHECKS, **changes: Any) -> RunSubject:
    """Return what a run of these checks is about."""
    return replace(SUBJECT, checks=tuple(check.id for check in checks), **changes)


def make_record(**changes: Any) -> RunRecord:
    """Return the record of a run in which all is well and one check was skipped."""
    checks = changes.get("checks", CHECKS)
    values: dict[str, Any] = {
        "subject": make_subject(checks),
        "checks": checks,
        "digests": ImageDigests(IMAGE_SHA256, IMAGE_SHA256),
        "guest_boot_id": BOOT_ID,
        "system_info": {"hostname": "host", "kernel": "6.1", "arch": "x86_64", "cpu_cores": 2},
        "service_health": {"redis": health_part([c for c in checks if c.id[:6] == "redis."])},
        "authentication_tests": skipped("this base has no GitLab"),
        "agent_control_tests": skipped("this base has no Mattermost"),
        "sandbox_tests": skipped("this base has no agents"),
        "performance_metrics": {"checks_seconds": 7.5, "phase_seconds": {"image": 0.2}}
        | {f"{c.id}_ms": c.data["milliseconds"] for c in checks if "milliseconds" in c.data},
        "security_validation": security_part([c for c in checks if c.phase == "image"]),
        "aborted": None,
    }
    return RunRecord(**(values | changes))


@dataclass(frozen=True)
class Run:
    """A written transcript with what is needed to verify it."""

    files: TranscriptFiles
    key: SigningKey
    image: Path

    def verify(self, **options: Any) -> Verified:
        """Verify it shortly after it completed, by its own signer's public key."""
        if "allowed_signers" not in options:
            options.setdefault("key", self.key.public_file)
        return verify(self.files.document, **({"now": NOW} | options))

    @property
    def paths(self) -> list[Path]:
        """The files of the set."""
        assert self.files.dsse is not None
        assert self.files.sshsig is not None
        return [self.files.document, self.files.events, self.files.dsse, self.files.sshsig]


def make_run(
    directory: Path,
    *,
    record: RunRecord | None = None,
    key: SigningKey | None = None,
    start: datetime = STARTED,
    nonce: str = NONCE,
    redactor: Redactor | None = None,
    happen: Callable[[EventLog], None] | None = None,
) -> Run:
    """Write a transcript into `directory`/artifacts."""
    key = key or make_key(directory / "keys")
    directory.mkdir(parents=True, exist_ok=True)
    image = directory / "demo-debian.qcow2"
    image.write_bytes(IMAGE)
    record = record or make_record()
    with begin(directory / "artifacts", start=start, nonce=nonce, redactor=redactor) as events:
        record = tell(events, record)
        if happen is not None:
            happen(events)
        files = write(record, events, key)
    return Run(files, key, image)


def begin(directory: Path, *, start: datetime = STARTED, **options: Any) -> EventLog:
    """Return an event log whose clocks advance one second with each event."""
    ticks = iter(range(10_000))
    return EventLog.begin(
        directory, clock=Clock(start), monotonic=lambda: float(next(ticks)), **options
    )


def tell(events: EventLog, record: RunRecord) -> RunRecord:
    """Write to the event log what happened during a run, and return its record.

    The checks end in another order than that of the suite.
    """
    events.subject(record.subject)
    if record.digests is not None:
        events.digest("before", record.digests.before)
    for stage in ("kernel", "systemd"):
        events.append("boot", "stage", {"stage": stage})
    events.facts({"boot_id": record.guest_boot_id, "kernel": "6.1"})
    checks = [events.check(check) for check in reversed(record.checks)]
    if record.digests is not None:
        events.digest("after", record.digests.after)
    return replace(record, checks=tuple(reversed(checks)))


def forge(
    run: Run,
    *,
    document: Callable[[dict[str, Any]], None] = lambda _: None,
    events: Callable[[list[dict[str, Any]]], None] = lambda _: None,
) -> None:
    """Change a run and sign everything again with the right key, so that only sense is missing."""
    log = [json.loads(line) for line in run.files.events.read_bytes().splitlines()]
    events(log)
    raw, head = b"", GENESIS
    for number, event in enumerate(log, start=1):
        line = canonical.line_bytes(event | {"seq": number, "prev": head})
        raw, head = raw + line, hashlib.sha256(line).hexdigest()
    run.files.events.write_bytes(raw)
    members = json.loads(run.files.document.read_bytes())
    members["events"] = {"count": len(log), "head": head}
    document(members)
    unsigned = canonical.document_bytes(members | {"signature": ""})
    signed = documents.with_signature(unsigned, run.key.private.sign(unsigned))
    run.files.document.write_bytes(signed)
    place(run, "sshsig").write_bytes(sshsig.sign(run.key.private, signed))
    with suppress(canonical.DamagedError):
        payload = statement.statement_bytes(
            documents.parse(signed), hashlib.sha256(signed).hexdigest()
        )
        covered = dsse.pre_authentication(dsse.PAYLOAD_TYPE, payload)
        envelope = dsse.Envelope(
            dsse.PAYLOAD_TYPE, payload, run.key.fingerprint, run.key.private.sign(covered)
        )
        place(run, "dsse").write_bytes(dsse.envelope_bytes(envelope))


def refusal(verifying: Callable[[], object]) -> RefusedError:
    """Return the error with which a verification is refused, which has the form all must have."""
    with pytest.raises(RefusedError) as caught:
        verifying()
    error = caught.value
    assert error.exit_code is ExitCode.VERIFICATION
    assert error.message.startswith(f"{error.reason}: ")
    assert error.hint
    return error


def reason(run: Run, **options: Any) -> Reason:
    """Return the reason for which a run is refused."""
    return refusal(lambda: run.verify(**options)).reason


def place(run: Run, name: str) -> Path:
    """Return the file of a set by its name in `TranscriptFiles`."""
    path: Path = getattr(run.files, name)
    return path
