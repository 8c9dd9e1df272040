"""What a verifier may demand of a run, and whom it may trust: image, age, nonce, policy, keys."""

from __future__ import annotations

import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from tests.transcripts import (
    COMPLETED,
    IMAGE_SHA256,
    Run,
    begin,
    make_check,
    make_key,
    make_record,
    make_run,
    make_subject,
    place,
    reason,
    refusal,
    tell,
)

from rave_cli.app import cli
from rave_cli.errors import ExitCode, RaveError
from rave_cli.transcript import (
    EventLog,
    ImageDigests,
    PackageOrigin,
    Reason,
    sshsig,
    verify,
    write,
)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a good transcript, which no test here changes."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"now": COMPLETED - timedelta(minutes=6)}, Reason.FUTURE),
        ({"max_age": timedelta(minutes=9)}, Reason.TOO_OLD),
        ({"nonce": "e" * 32}, Reason.NONCE),
        ({"nonce": ""}, Reason.NONCE),
        ({"profile": "production"}, Reason.PROFILE),
        ({"base": "nixos"}, Reason.PROFILE),
    ],
)
def test_a_run_that_is_not_the_one_asked_for(
    run: Run, options: dict[str, Any], expected: Reason
) -> None:
    assert reason(run, **options) is expected


def test_clocks_may_differ_by_a_few_minutes(run: Run) -> None:
    assert run.verify(now=COMPLETED - timedelta(minutes=4)).age_seconds == 0
    assert run.verify(max_age=timedelta(minutes=10)).age_seconds == 600


def test_another_image_is_refused(run: Run, tmp_path: Path) -> None:
    other = tmp_path / "other.qcow2"
    other.write_bytes(b"another image")
    error = refusal(lambda: run.verify(image=other))
    assert error.reason is Reason.IMAGE
    assert IMAGE_SHA256 in error.detail[0]


def test_an_image_that_is_not_there_is_a_fault_of_the_host(run: Run, tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="No such file") as caught:
        run.verify(image=tmp_path / "missing.qcow2")
    assert caught.value.exit_code is ExitCode.HOST


def test_an_image_that_changed_during_the_run_is_refused(tmp_path: Path) -> None:
    record = make_record(digests=ImageDigests(IMAGE_SHA256, "0" * 64))
    assert reason(make_run(tmp_path, record=record)) is Reason.IMAGE_CHANGED


def test_an_image_that_was_not_the_one_that_was_built_is_refused(tmp_path: Path) -> None:
    record = make_record(digests=ImageDigests("0" * 64, "0" * 64))
    error = refusal(make_run(tmp_path, record=record).verify)
    assert error.reason is Reason.IMAGE_CHANGED
    assert error.detail[0] == f"built: {IMAGE_SHA256}"


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ('valid-before="20260124143101Z"', Reason.KEY_NOT_VALID),
        ('valid-after="20260124143103Z"', Reason.KEY_NOT_VALID),
        ('valid-before="20260124143102Z"', None),
        ('valid-after="20260124143102Z"', None),
        ('valid-after="20260101Z",valid-before="20260201Z"', None),
    ],
)
def test_a_key_must_have_been_valid_when_the_run_completed(
    run: Run, tmp_path: Path, limits: str, expected: Reason | None
) -> None:
    signers = tmp_path / "allowed_signers"
    signers.write_text(f"ops@example.org {limits} {sshsig.public_line(run.key.public)}\n")
    if expected is None:
        assert run.verify(allowed_signers=signers).principals == "ops@example.org"
    else:
        assert reason(run, allowed_signers=signers) is expected


def test_of_two_entries_for_one_key_the_valid_one_counts(run: Run, tmp_path: Path) -> None:
    line = sshsig.public_line(run.key.public)
    signers = tmp_path / "allowed_signers"
    signers.write_text(f'old valid-before="20250101Z" {line}\nnew valid-after="20260101Z" {line}\n')
    assert run.verify(allowed_signers=signers).principals == "new"


POLICY = """\
version: 1
required: [image.integrity, redis.ping]
profile: demo
base: debian
max_age: 1h
format: 3
configuration:
  flake.lock: {digest}
"""


def test_a_policy_that_is_met(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(digest="ab" * 32))
    assert run.verify(policy=path).policy_checked


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("redis.ping", "oidc.login", Reason.POLICY),
        ("redis.ping", "never.heard", Reason.POLICY),
        ("ab" * 32, "cd" * 32, Reason.POLICY),
        ("flake.lock", "suite", Reason.POLICY),
        ("demo", "production", Reason.PROFILE),
        ("debian", "nixos", Reason.PROFILE),
        ("1h", "5m", Reason.TOO_OLD),
    ],
)
def test_a_policy_that_is_not_met(
    run: Run, tmp_path: Path, old: str, new: str, expected: Reason
) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(digest="ab" * 32).replace(old, new))
    assert reason(run, policy=path) is expected


TRUSTED = ("0A" * 20, "0F" * 20)
ALSO_TRUSTED = "archive_keys: the image's build trusted {}, too"
UNKNOWN = "archive_keys: the transcript does not say whom the image's build trusted"
OTHER_LOCK = "lock: the image's packages are those of another one, or of none"


@pytest.mark.parametrize(
    ("origin", "demand", "detail"),
    [
        (PackageOrigin("cd" * 32, ()), {"archive_keys": [], "lock": "cd" * 32}, ()),
        (PackageOrigin("cd" * 32, TRUSTED), {"archive_keys": list(TRUSTED)}, ()),
        (PackageOrigin("cd" * 32, TRUSTED), {"lock": "cd" * 32}, ()),
        (PackageOrigin("cd" * 32, TRUSTED), {"archive_keys": []},
         tuple(ALSO_TRUSTED.format(key) for key in TRUSTED)),
        (PackageOrigin("cd" * 32, TRUSTED), {"archive_keys": [TRUSTED[0]]},
         (ALSO_TRUSTED.format(TRUSTED[1]),)),
        (PackageOrigin("cd" * 32, ()), {"lock": "ce" * 32}, (OTHER_LOCK,)),
        (PackageOrigin(None, ()), {"archive_keys": [], "lock": "cd" * 32}, (OTHER_LOCK, UNKNOWN)),
    ],
)  # fmt: skip
def test_a_policy_says_which_packages_and_whose_archives_will_do(
    tmp_path: Path, origin: PackageOrigin, demand: dict[str, Any], detail: tuple[str, ...]
) -> None:
    run = make_run(tmp_path, record=make_record(subject=make_subject(packages=origin)))
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"version": 1, "required": ["redis.ping"]} | demand))
    if detail:
        error = refusal(lambda: run.verify(policy=path))
        assert (error.reason, error.detail) == (Reason.POLICY, detail)
    else:
        found = run.verify(policy=path)
        assert (found.lock_sha256, found.trusted_archive_keys) == (origin.lock, origin.trusted)


@pytest.mark.parametrize(
    ("said", "known"),
    [
        ({}, None),
        ({"updated_from": f"sha256:{'cd' * 32}"}, "cd" * 32),
        ({"updated_from": "sha256:\x1b[2J"}, None),
        ({"updated_from": 7}, None),
    ],
)
def test_verify_says_which_image_an_update_began_with(
    tmp_path: Path, home: Path, said: dict[str, Any], known: str | None
) -> None:
    record = make_record(system_info={"hostname": "host"} | said)
    run = make_run(tmp_path / "run", record=record)
    assert run.verify().updated_from == known
    argv = ["smoke", "verify", str(run.files.document), "--key", str(run.key.public_file)]
    told = CliRunner().invoke(cli, argv).output
    assert ("which took the place of" in told) == (known is not None)
    if known is not None:
        assert f"took the place of image sha256:{known}" in told


def test_verify_says_which_packages_the_image_has_and_whom_its_build_trusted(
    tmp_path: Path, home: Path
) -> None:
    record = make_record(subject=make_subject(packages=PackageOrigin("cd" * 32, TRUSTED)))
    run = make_run(tmp_path / "run", record=record)
    argv = ["smoke", "verify", str(run.files.document), "--key", str(run.key.public_file)]
    done = CliRunner().invoke(cli, argv)
    assert done.exit_code == 0, done.output
    assert f"packages of the lock sha256:{'cd' * 32}\n" in done.output
    assert f"by the distribution's keys, and {TRUSTED[0]}, and {TRUSTED[1]}\n" in done.output


# --- whose the files are that say whom to trust


@pytest.mark.parametrize("option", ["key", "allowed_signers", "policy"])
@pytest.mark.parametrize("mode", [0o666, 0o646])
def test_what_says_whom_to_trust_may_be_nobody_else_s(
    tmp_path: Path, option: str, mode: int
) -> None:
    run = make_run(tmp_path)
    signers, policy = tmp_path / "allowed_signers", tmp_path / "policy.yaml"
    signers.write_text(f"ops {sshsig.public_line(run.key.public)}\n")
    policy.write_text("version: 1\nrequired: [redis.ping]\n")
    place = {"key": run.key.public_file, "allowed_signers": signers, "policy": policy}[option]
    options: dict[str, Any] = {option: place}
    assert run.verify(**options)
    place.chmod(mode)
    with pytest.raises(RaveError, match="can be changed by anybody") as caught:
        run.verify(**options)
    assert caught.value.exit_code is ExitCode.USAGE
    assert caught.value.hint == f"chmod go-w {place}"


def test_the_stricter_age_counts(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "policy.yaml"
    path.write_text(POLICY.format(digest="ab" * 32))
    assert reason(run, policy=path, max_age=timedelta(minutes=5)) is Reason.TOO_OLD


@pytest.mark.parametrize("allowed", [True, False])
def test_a_warning_counts_as_passed_only_if_the_policy_says_so(
    tmp_path: Path, allowed: bool
) -> None:
    checks = (*make_record().checks, make_check("tls.expiry", "warn", phase="security"))
    run = make_run(tmp_path, record=make_record(checks=checks))
    path = tmp_path / "policy.json"
    path.write_text(json.dumps({"version": 1, "required": ["tls.expiry"], "allow_warn": allowed}))
    if allowed:
        assert run.verify(policy=path).policy_checked
    else:
        error = refusal(lambda: run.verify(policy=path))
        assert (error.reason, error.detail) == (Reason.POLICY, ("tls.expiry: warn",))


# --- trust from outside, and what must be named


@pytest.mark.parametrize("options", [{}, {"both": True}, {"key": True, "principal": "rave"}])
def test_one_source_of_trust_is_needed(run: Run, options: dict[str, Any]) -> None:
    chosen: dict[str, Any] = {}
    if options.get("both"):
        chosen = {
            "key": run.key.public_file,
            "allowed_signers": run.key.allowed_signers_file,
        }
    elif options:
        chosen = {"key": run.key.public_file, "principal": "rave"}
    with pytest.raises(RaveError) as caught:
        verify(run.files.document, **chosen)
    assert caught.value.exit_code is ExitCode.USAGE


@pytest.mark.parametrize("name", ["events", "dsse", "sshsig"])
def test_the_document_must_be_named(run: Run, name: str) -> None:
    with pytest.raises(RaveError, match="not the document") as caught:
        verify(place(run, name), key=run.key.public_file)
    assert caught.value.exit_code is ExitCode.USAGE


def test_nothing_there_at_all(tmp_path: Path, run: Run) -> None:
    found = refusal(lambda: verify(tmp_path / "x.json", key=run.key.public_file))
    assert found.reason is Reason.MISSING


def test_a_message_never_carries_what_was_not_verified(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    text = run.files.document.read_text()
    evil = "\\u001b[2J SUCCESS"
    run.files.document.write_text(text.replace('"demo"', f'"{evil}"'))
    error = refusal(run.verify)
    assert "SUCCESS" not in error.message + "".join(error.detail)


def test_every_reason_is_documented() -> None:
    page = Path(__file__).resolve().parents[3] / "docs/reference/transcript-format.md"
    text = page.read_text()
    assert [word for word in Reason if f"| `{word}` |" not in text] == []


def test_verification_is_fast(tmp_path: Path) -> None:
    """A typical run: some hundred checks and events. The promise is 0.3 s of the processor."""
    checks = tuple(make_check(f"check.{n}", "pass", detail="x" * 200) for n in range(150))

    def happen(events: EventLog) -> None:
        for n in range(250):
            events.append("services", "output", {"id": f"check.{n}", "stdout": "x" * 200})

    run = make_run(tmp_path, record=make_record(checks=checks), happen=happen)
    took = []
    for _ in range(3):
        began = time.process_time()
        assert run.verify().status == "SUCCESS"
        took.append(time.process_time() - began)
    assert min(took) < 0.3


def test_writing_twice_is_refused(tmp_path: Path) -> None:
    key = make_key(tmp_path / "keys")
    with begin(tmp_path) as events:
        write(tell(events, make_record()), events, key)
        with pytest.raises(RaveError, match="closed"):
            write(make_record(), events, key)
