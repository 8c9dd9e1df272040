"""Transcripts of rave 0.1.0 verify by the rules of their time, and nothing newer passes for one."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.transcripts import NOW, Run, forge, make_key, make_run, refusal

from rave_cli.app import cli
from rave_cli.transcript import (
    Reason,
    TranscriptFiles,
    Verified,
    dsse,
    siblings,
    sshsig,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Callable

FIXTURES = Path(__file__).resolve().parents[2] / "fixtures"
FIXTURE = FIXTURES / "released-0.1.0"
SECOND = FIXTURES / "transcript_v2"
NAMES = ("document", "events", "dsse", "sshsig")
IMAGE = b"QFI\xfb" + bytes(60)


@pytest.fixture
def files(tmp_path: Path) -> TranscriptFiles:
    """Return a copy of the transcript that was released."""
    for path in FIXTURE.glob("boot_transcript_*"):
        shutil.copy(path, tmp_path)
    (document,) = tmp_path.glob("*Z.json")
    return siblings(document)


def check(files: TranscriptFiles, **options: Any) -> Verified:
    now = datetime(2026, 11, 25, 18, tzinfo=UTC)
    defaults: dict[str, Any] = {"key": FIXTURE / "id_ed25519.pub", "now": now}
    return verify(files.document, **(defaults | options))


def test_a_released_transcript_verifies(files: TranscriptFiles, tmp_path: Path) -> None:
    image = tmp_path / "image"
    image.write_bytes(IMAGE)
    found = check(files, image=image, profile="demo", base="debian")
    assert (found.format, found.status) == (1, "SUCCESS")
    assert (len(found.passed), len(found.skipped)) == (103, 4)
    trusted = {"key": None, "allowed_signers": FIXTURE / "allowed_signers", "principal": "rave"}
    assert check(files, **trusted).principals == "rave"


def test_it_is_as_wrong_as_it_was(files: TranscriptFiles) -> None:
    """Were it any better, this would not be the shape that was released."""
    document = json.loads(files.document.read_bytes())
    results = document["validation_results"]
    assert Counter(check["viewpoint"] for check in results) == {"guest": 107}
    assert Counter(check["attempts"] for check in results) == {1: 107}
    assert [check for check in results if check["data"]] == []
    events = [json.loads(line) for line in files.events.read_bytes().splitlines()]
    logged = [event["data"] for event in events if event["kind"] == "check"]
    assert len({check["viewpoint"] for check in logged}) == 3
    assert {check["attempts"] for check in logged} == {1, 2}


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(NAMES), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_any_changed_byte_of_it_is_refused(
    files: TranscriptFiles, name: str, where: float, mask: int
) -> None:
    path: Path = getattr(files, name)
    good = path.read_bytes()
    at = int(where * len(good))
    try:
        path.write_bytes(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
        refusal(lambda: check(files))
    finally:
        path.write_bytes(good)


def test_a_policy_may_demand_the_newer_format(files: TranscriptFiles, tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text("version: 1\nrequired: [redis.roundtrip]\n")
    assert check(files, policy=policy).policy_checked
    policy.write_text("version: 1\nrequired: [redis.roundtrip]\nformat: 2\n")
    error = refusal(lambda: check(files, policy=policy))
    assert error.reason is Reason.POLICY
    assert error.detail == ("format: it is 1, and may not be below 2",)


# --- the second format, in which nobody said what an image was assembled from


def second(tmp_path: Path) -> Callable[..., Verified]:
    """Return what verifies a copy of a transcript of the second format."""
    for path in SECOND.glob("boot_transcript_*"):
        shutil.copy(path, tmp_path)
    (document,) = tmp_path.glob("*Z.json")
    return partial(verify, document, key=SECOND / "id_ed25519.pub", now=NOW)


def test_a_transcript_of_the_second_format_verifies(tmp_path: Path) -> None:
    found = second(tmp_path)()
    assert (found.format, found.status) == (2, "SUCCESS")
    assert (found.lock_sha256, found.trusted_archive_keys) == (None, None)


def test_it_meets_no_policy_that_asks_whom_the_build_trusted(tmp_path: Path) -> None:
    policy = tmp_path / "policy.yaml"
    policy.write_text(f"version: 1\nrequired: [redis.ping]\narchive_keys: []\nlock: {'cd' * 32}\n")
    error = refusal(partial(second(tmp_path), policy=policy))
    assert error.detail == (
        "lock: the image's packages are those of another one, or of none",
        "archive_keys: the transcript does not say whom the image's build trusted",
    )


# --- nothing newer passes for it


def as_first(members: dict[str, Any]) -> None:
    """Make a document look as the first format did."""
    members["schema"] = "rave-transcript@v1"
    del members["machine"]
    del members["packages"]
    del members["image"]["sha256_built"]


def test_without_the_key_no_document_passes_for_an_older_one(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    raw = run.files.document.read_bytes()
    members = json.loads(raw)
    signature = members["signature"]
    as_first(members)
    text = json.dumps(members, indent=2) + "\n"
    assert signature in text
    run.files.document.write_text(text)
    assert refusal(run.verify).reason is Reason.SIGNATURE


def test_even_with_the_key_a_document_and_a_log_of_two_formats_do_not_go_together(
    tmp_path: Path,
) -> None:
    older = make_run(tmp_path / "older")
    forge(older, document=as_first)
    assert refusal(older.verify).message.endswith("are of different formats")

    newer = make_run(tmp_path / "newer")
    forge(newer, events=lambda log: log[0]["data"].update(schema="rave-events@v1"))
    assert refusal(newer.verify).message.endswith("are of different formats")


# --- nonsense that was well signed in its time


@pytest.fixture
def forged(files: TranscriptFiles, tmp_path: Path) -> Run:
    """Return the released transcript, signed again by a key that we have."""
    run = Run(files, make_key(tmp_path / "keys"), tmp_path / "image")
    forge(run, document=lambda members: members.update(signer=run.key.fingerprint))
    assert verified(run).format == 1
    return run


def verified(run: Run) -> Verified:
    return check(run.files, key=run.key.public_file)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"duration_seconds": -1.0}, Reason.TIMES),
        ({"duration_seconds": 1e9}, Reason.TIMES),
        ({"completion_time": "2026-11-25T13:99:00Z"}, Reason.MALFORMED),
        ({"start_time": "2020-01-01T00:00:00Z"}, Reason.MISMATCH),
        ({"profile": "production"}, Reason.MISMATCH),
        ({"base": "nixos"}, Reason.MISMATCH),
        ({"mode": "full"}, Reason.MISMATCH),
    ],
)
def test_nonsense_of_the_first_format_is_refused(
    forged: Run, change: dict[str, Any], expected: Reason
) -> None:
    forge(forged, document=lambda members: members.update(change))
    assert refusal(lambda: verified(forged)).reason is expected


@pytest.mark.parametrize("name", ["profile", "base", "mode", "image"])
def test_a_log_of_the_first_format_about_something_else_is_refused(forged: Run, name: str) -> None:
    forge(forged, events=lambda log: log[1]["data"].update({name: "other"}))
    error = refusal(lambda: verified(forged))
    assert error.detail == (f"{name}: the event log names another",)


def test_its_attestation_keeps_the_subjects_of_its_time(files: TranscriptFiles) -> None:
    assert files.dsse is not None
    envelope = dsse.parse_envelope(files.dsse.read_bytes())
    found = json.loads(envelope.payload)
    assert [list(subject["digest"]) for subject in found["subject"]] == [
        ["sha256"], ["nix_nar_sha256"],
    ]  # fmt: skip
    assert "rave_run_v1" in found["predicate"]
    assert files.sshsig is not None
    assert sshsig.parse(files.sshsig.read_bytes()).namespace == "rave-transcript@v1"


def test_the_command_verifies_it_and_says_what_it_does_not_know(
    files: TranscriptFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime(2026, 11, 25, 18, tzinfo=UTC)
    monkeypatch.setattr("rave_cli.transcript.verification.utc_now", lambda: now)
    words = ["smoke", "verify", str(files.document), "--key", str(FIXTURE / "id_ed25519.pub")]
    done = CliRunner().invoke(cli, words)
    assert done.exit_code == 0
    assert "SUCCESS: demo on debian" in done.stdout
    assert "of the first format" in done.stderr
    assert json.loads(CliRunner().invoke(cli, [*words, "--json"]).stdout)["format"] == 1
