"""Writing: all files or none, no secret in any of them, and what third parties expect in them."""

from __future__ import annotations

import base64
import errno
import hashlib
import json
import math
import os
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from securesystemslib.dsse import Envelope as OtherEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]
from tests.transcripts import (
    IMAGE_SHA256,
    NONCE,
    make_check,
    make_key,
    make_record,
    make_run,
    make_subject,
)

from rave_cli.errors import ExitCode, RaveError
from rave_cli.transcript import CheckResult, EventLog, ImageDigests, Redactor, skipped
from rave_cli.transcript.check import MEMBERS as CHECK_MEMBERS
from rave_cli.transcript.document import split_signature
from rave_cli.transcript.formats import CURRENT
from rave_cli.transcript.redaction import MARK

if TYPE_CHECKING:
    from pathlib import Path

# The fields that operators know, as the platform's requirements list them.
KNOWN_FIELDS = (
    "test_session_id", "rave_version", "start_time", "completion_time", "duration_seconds",
    "overall_status", "system_info", "test_summary", "validation_results", "service_health",
    "authentication_tests", "agent_control_tests", "sandbox_tests", "performance_metrics",
    "security_validation", "image_digest", "signature",
)  # fmt: skip


def document_of(directory: Path, **options: Any) -> dict[str, Any]:
    members: dict[str, Any] = json.loads(make_run(directory, **options).files.document.read_bytes())
    return members


def test_the_document_has_the_fields_that_operators_know(tmp_path: Path) -> None:
    document = document_of(tmp_path)
    assert set(KNOWN_FIELDS) <= set(document)
    assert list(document) == list(CURRENT.members)
    assert list(document)[-1] == "signature"
    assert document["test_session_id"] == "spinup-20260124-143052"
    assert document["start_time"] == "2026-01-24T14:30:52Z"
    assert document["completion_time"] == "2026-01-24T14:31:02Z"
    assert document["overall_status"] == "SUCCESS"
    assert document["image_digest"] == f"sha256:{IMAGE_SHA256}"
    assert document["test_summary"] == {
        "total_tests": 3, "passed": 2, "failed": 0, "warned": 0, "skipped": 1,
    }  # fmt: skip
    assert document["authentication_tests"] == skipped("this base has no GitLab")


def test_the_files_are_named_after_the_second_the_run_began(tmp_path: Path) -> None:
    names = {path.name for path in make_run(tmp_path).paths}
    stem = "boot_transcript_20260124T143052Z"
    assert names == {f"{stem}.json", f"{stem}.events.ndjson", f"{stem}.dsse.json", f"{stem}.sshsig"}


def test_the_same_run_is_written_the_same(tmp_path: Path) -> None:
    one, two = make_run(tmp_path / "one"), make_run(tmp_path / "two")
    assert [path.read_bytes() for path in one.paths] == [path.read_bytes() for path in two.paths]


def test_the_signature_covers_the_document_with_that_value_empty(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    raw = run.files.document.read_bytes()
    value = json.loads(raw)["signature"]
    unsigned, signature = split_signature(raw)
    assert unsigned == raw.replace(value.encode(), b"")
    assert unsigned.endswith(b'\n  "signature": ""\n}\n')
    assert signature == base64.b64decode(value)
    run.key.public.verify(signature, unsigned)


def test_an_independent_library_verifies_the_attestation(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    assert run.files.dsse is not None
    key = SSlibKey.from_crypto(run.key.public, keyid=run.key.fingerprint)
    envelope = OtherEnvelope.from_dict(json.loads(run.files.dsse.read_bytes()))
    assert envelope.verify([key], threshold=1) == {run.key.fingerprint: key}

    other = SSlibKey.from_crypto(
        make_key(tmp_path / "other", seed=2).public, keyid=run.key.fingerprint
    )
    with pytest.raises(VerificationError):
        envelope.verify([other], threshold=1)
    envelope.payload += b" "
    with pytest.raises(VerificationError):
        envelope.verify([key], threshold=1)


def test_the_statement_is_an_in_toto_test_result(tmp_path: Path) -> None:
    checks = (
        *make_record().checks,
        make_check("a.warn", "warn", phase="x"),
        make_check("a.fail", "fail", phase="x"),
        make_check("a.error", "error", phase="x"),
    )
    run = make_run(tmp_path, record=make_record(checks=checks))
    assert run.files.dsse is not None
    envelope = json.loads(run.files.dsse.read_bytes())
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert json.loads(base64.b64decode(envelope["payload"])) == {
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [
            {"name": "demo-debian.qcow2", "digest": {"sha256": IMAGE_SHA256}},
        ],
        "predicateType": "https://in-toto.io/attestation/test-result/v0.1",
        "predicate": {
            "result": "FAILED",
            "configuration": [{"name": "flake.lock", "digest": {"sha256": "ab" * 32}}],
            "passedTests": ["image.integrity", "redis.ping"],
            "warnedTests": ["a.warn"],
            "failedTests": ["a.fail", "a.error"],
            "rave_run_v3": {
                "transcript": {
                    "sha256": hashlib.sha256(run.files.document.read_bytes()).hexdigest()
                },
                "session": "spinup-20260124-143052",
                "nonce": NONCE,
                "profile": "demo",
                "base": "debian",
                "events": {
                    "count": 14,
                    "head": hashlib.sha256(
                        run.files.events.read_bytes().splitlines(keepends=True)[-1]
                    ).hexdigest(),
                },
                "guest_boot_id": "7e4bd0c2-5a6e-4d2c-9c29-0d6f7a3f1f10",
                "image": {
                    "sha256": IMAGE_SHA256,
                    "sha256_after": IMAGE_SHA256,
                    "sha256_built": IMAGE_SHA256,
                    "store_path": "/nix/store/00000000000000000000000000000000-rave-demo-debian",
                    "nar_hash": "sha256-47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=",
                },
                "skipped_tests": ["oidc.login"],
                "tools": {"qemu": "7.2.0", "sops": "3.11.0"},
                "redactions": 0,
                "machine": {"name": "demo", "instance": "0f" * 16, "network": "isolated"},
                "mode": "safe",
                "packages": {"lock": "cd" * 32, "trusted": []},
            },
        },
    }


# --- secrets


def test_no_secret_is_in_any_file(tmp_path: Path) -> None:
    secret = b"correct-horse-battery"
    encoded = base64.b64encode(b"x" + secret).decode()

    def happen(events: EventLog) -> None:
        events.append("services", "output", {"stdout": secret.hex()})

    checks = (make_check("redis.ping", "pass", detail=f"AUTH {secret.decode()} ok"),)
    run = make_run(
        tmp_path,
        record=make_record(
            checks=checks,
            system_info={"env": [f"P={secret.decode()}"]},
            security_validation={"header": f"Basic {encoded}"},
        ),
        redactor=Redactor([secret]),
        happen=happen,
    )
    for path in run.paths:
        content = path.read_bytes()
        assert secret not in content
        assert encoded.encode()[2:-4] not in content
        assert secret.hex().encode() not in content
    document = json.loads(run.files.document.read_bytes())
    assert document["validation_results"][0]["detail"] == f"AUTH {MARK} ok"
    assert document["redactions"] == 4
    assert run.verify().status == "SUCCESS"


def test_a_secret_learned_too_late_is_not_published(tmp_path: Path) -> None:
    redactor = Redactor()

    def happen(events: EventLog) -> None:
        events.append("services", "output", {"stdout": "correct-horse-battery"})
        redactor.learn([b"correct-horse-battery"])

    with pytest.raises(RaveError, match="a secret value stands in the record") as caught:
        make_run(tmp_path, redactor=redactor, happen=happen)
    assert caught.value.exit_code is ExitCode.SECRETS
    assert caught.value.detail[0].startswith("line 11 of ")
    assert "correct-horse" not in "".join([caught.value.message, *caught.value.detail])
    assert [path.suffix for path in (tmp_path / "artifacts").iterdir()] == [".ndjson"]


def test_a_secret_that_is_one_of_our_own_words_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="a secret value stands in the record"):
        make_run(tmp_path, redactor=Redactor([b"redis.ping"]))


# --- full disks and other accidents


@pytest.mark.parametrize("failing", [".dsse.json", ".sshsig", "52Z.json"])
@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_full_disk_leaves_nothing_that_looks_valid(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failing: str, call: str
) -> None:
    from rave_cli import paths
    from rave_cli.transcript import writer

    real = paths.atomic_write

    def atomic_write(path: Path, data: bytes, *, mode: int = 0o644) -> None:
        if not path.name.endswith(failing):
            real(path, data, mode=mode)
            return
        with pytest.MonkeyPatch.context() as patch:

            def full(*_: object) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            if call == "write":
                patch.setattr(os, "fdopen", full)
            else:
                patch.setattr(os, call, full)
            real(path, data, mode=mode)

    monkeypatch.setattr(writer, "atomic_write", atomic_write)
    with pytest.raises(RaveError, match="no space left") as caught:
        make_run(tmp_path)
    assert caught.value.exit_code is ExitCode.HOST
    assert [path.suffix for path in (tmp_path / "artifacts").iterdir()] == [".ndjson"]


def test_a_log_that_somebody_exchanged_is_not_signed(tmp_path: Path) -> None:
    def happen(events: EventLog) -> None:
        other = make_run(tmp_path / "other", nonce="e" * 32).files.events
        other.replace(events.path)

    with pytest.raises(RaveError, match="is not what this run wrote to it"):
        make_run(tmp_path, happen=happen)
    assert not list((tmp_path / "artifacts").glob("*Z.json"))


def test_a_log_that_somebody_edited_is_not_signed(tmp_path: Path) -> None:
    def happen(events: EventLog) -> None:
        events.path.write_bytes(events.path.read_bytes().replace(b"kernel", b"kernal"))

    with pytest.raises(RaveError, match="does not follow the line before it"):
        make_run(tmp_path, happen=happen)
    assert not list((tmp_path / "artifacts").glob("*Z.json"))


# --- a guest that says too much


def test_endless_and_bottomless_answers_are_cut(tmp_path: Path) -> None:
    nested: Any = "bottom"
    for _ in range(5000):
        nested = [nested]
    secret = b"correct-horse-battery"
    answer = "x" * (16 * 1024 - 10) + secret.decode() + "y" * 10_000
    run = make_run(
        tmp_path,
        record=make_record(system_info={"nested": nested, "long": answer}),
        redactor=Redactor([secret]),
    )
    assert run.verify().status == "SUCCESS"
    document = json.loads(run.files.document.read_bytes())
    assert document["system_info"]["long"].endswith(" more characters]")
    assert "correct" not in document["system_info"]["long"]
    assert "[nested too deeply]" in json.dumps(document["system_info"]["nested"])


@pytest.mark.parametrize("boot_id", [["x"], 7, "x" * 36, "", "correct-horse-battery"])
def test_a_boot_id_that_is_none_is_not_recorded(tmp_path: Path, boot_id: Any) -> None:
    run = make_run(tmp_path, record=make_record(guest_boot_id=boot_id))
    assert json.loads(run.files.document.read_bytes())["guest_boot_id"] is None
    assert run.verify().status == "SUCCESS"


def test_a_record_that_no_verifier_would_read_is_not_written(tmp_path: Path) -> None:
    flood = {"lines": ["x" * 16_000] * 1100}
    with pytest.raises(RaveError, match="too large to be verified"):
        make_run(tmp_path, record=make_record(system_info=flood))
    assert [path.suffix for path in (tmp_path / "artifacts").iterdir()] == [".ndjson"]


# --- what a record cannot be


@pytest.mark.parametrize(
    "changes",
    [
        {"id": "a b"},
        {"id": ""},
        {"id": "x" * 200},
        {"id": "a\n"},
        {"phase": ""},
        {"phase": "Boot phase"},
        {"status": "ok"},
        {"severity": "low"},
        {"viewpoint": "moon"},
        {"seconds": -0.001},
        {"seconds": math.inf},
        {"seconds": math.nan},
        {"attempts": -1},
        {"attempts": 10**9},
    ],
)
def test_a_check_has_no_value_that_is_none_of_its_field(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="check"):
        replace(make_check("a"), **changes)


@pytest.mark.parametrize("name", CHECK_MEMBERS)
def test_no_field_of_a_check_can_be_forgotten(name: str) -> None:
    members = {field: getattr(make_check("a"), field) for field in CHECK_MEMBERS if field != name}
    with pytest.raises(TypeError, match=f"'{name}'"):
        CheckResult(**members)


def test_two_checks_of_one_id_are_refused() -> None:
    check = make_check("a", "pass", phase="b")
    with pytest.raises(ValueError, match="appear twice: a"):
        make_record(checks=(check, replace(check, status="fail")))


def test_a_completed_run_has_read_its_image() -> None:
    with pytest.raises(ValueError, match="has read its image"):
        make_record(digests=None)


def test_a_completed_run_has_a_result_for_every_check_of_its_suite() -> None:
    with pytest.raises(ValueError, match="not those of its suite"):
        replace(make_record(), checks=make_record().checks[1:])


def test_digests_are_in_the_form_that_is_said() -> None:
    image = make_subject().image
    for changes in ({"sha256": "sha256:x"}, {"nar_hash": "x"}):
        with pytest.raises(ValueError, match="is not a"):
            replace(image, **changes)
    for before, after in ((IMAGE_SHA256, "A" * 64), ("", IMAGE_SHA256)):
        with pytest.raises(ValueError, match="is not a"):
            ImageDigests(before, after)
    with pytest.raises(ValueError, match="digest of 'suite'"):
        make_subject(configuration={"suite": "x"})


@pytest.mark.parametrize("name", ["profile", "base", "mode"])
def test_names_are_names(name: str) -> None:
    with pytest.raises(ValueError, match=f"is not the name of a {name}"):
        replace(make_subject(), **{name: "\x1b[2J"})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (["pass"], "SUCCESS"),
        (["pass", "skip"], "SUCCESS"),
        (["pass", "warn"], "WARNING"),
        (["pass", "warn", "fail"], "FAILED"),
        (["pass", "error"], "FAILED"),
        (["skip"], "FAILED"),
        (["warn"], "FAILED"),
        ([], "FAILED"),
    ],
)
def test_the_verdict_follows_from_the_checks(statuses: list[Any], expected: str) -> None:
    checks = tuple(make_check(f"check.{n}", status) for n, status in enumerate(statuses))
    record = make_record(checks=checks)
    assert record.status == expected
    assert replace(record, aborted="interrupted").status == "ABORTED"
