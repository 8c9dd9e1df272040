"""Verification: a transcript is believed only if every byte of every file is as it was written."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.transcripts import (
    IMAGE_SHA256,
    NONCE,
    NOW,
    STARTED,
    Run,
    make_check,
    make_key,
    make_record,
    make_run,
    place,
    reason,
    refusal,
)

from rave_cli.transcript import (
    CheckResult,
    EventLog,
    Reason,
    dsse,
    siblings,
    sshsig,
    verify,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = ("document", "events", "dsse", "sshsig")


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Return a good transcript; tests that change files take `copy`."""
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def copy(run: Run, tmp_path: Path) -> Run:
    """Return a copy of the good transcript."""
    for path in run.paths:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return replace(run, files=siblings(tmp_path / run.files.document.name))


# --- what is believed


def test_a_good_run_is_believed(run: Run) -> None:
    verified = run.verify(
        image=run.image,
        max_age=timedelta(hours=1),
        nonce=NONCE,
        profile="demo",
        base="debian",
    )
    assert verified.status == "SUCCESS"
    assert verified.passed == ("image.integrity", "redis.ping")
    assert verified.skipped == ("oidc.login",)
    assert verified.image_sha256 == IMAGE_SHA256
    assert verified.image_checked
    assert verified.age_seconds == 600.0
    assert verified.signer == run.key.fingerprint


def test_every_public_form_of_the_key_serves(run: Run) -> None:
    for key in (run.key.public_file, run.key.pem_file):
        assert run.verify(key=key).signer == run.key.fingerprint
    verified = run.verify(allowed_signers=run.key.allowed_signers_file, principal="rave")
    assert verified.principals == "rave"


def test_a_run_with_warnings_is_believed_and_says_so(tmp_path: Path) -> None:
    checks = (*make_record().checks, make_check("tls.expiry", "warn", phase="security"))
    verified = make_run(tmp_path, record=make_record(checks=checks)).verify()
    assert verified.status == "WARNING"
    assert verified.warned == ("tls.expiry",)


def test_renaming_the_whole_set_does_not_matter(copy: Run) -> None:
    document = copy.files.document
    for path in copy.paths:
        path.rename(path.with_name(path.name.replace("boot_transcript", "release-1.2")))
    renamed = document.with_name(document.name.replace("boot_transcript", "release-1.2"))
    assert verify(renamed, key=copy.key.public_file, now=NOW).status == "SUCCESS"


# --- any byte, any line, any file


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(NAMES), st.floats(0, 1, exclude_max=True), st.integers(1, 255))
def test_any_changed_byte_is_refused(copy: Run, name: str, where: float, mask: int) -> None:
    path = place(copy, name)
    good = path.read_bytes()
    at = int(where * len(good))
    try:
        path.write_bytes(good[:at] + bytes([good[at] ^ mask]) + good[at + 1 :])
        refusal(copy.verify)
    finally:
        path.write_bytes(good)


@pytest.mark.parametrize("name", NAMES)
def test_the_change_of_one_bit_is_refused_everywhere(copy: Run, name: str) -> None:
    """Bit 5 is the case of a letter: hex and base64 readers that do not care would miss it."""
    path = place(copy, name)
    good = path.read_bytes()
    for at in range(0, len(good), 1 + len(good) // 400):
        path.write_bytes(good[:at] + bytes([good[at] ^ 0x20]) + good[at + 1 :])
        refusal(copy.verify)


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(NAMES), st.floats(0, 1, exclude_max=True), st.binary(max_size=3))
def test_cut_and_inserted_bytes_are_refused(
    copy: Run, name: str, where: float, more: bytes
) -> None:
    path = place(copy, name)
    good = path.read_bytes()
    at = int(where * len(good))
    try:
        for changed in {good[:at] + more, good[:at] + more + good[at:]} - {good}:
            path.write_bytes(changed)
            refusal(copy.verify)
    finally:
        path.write_bytes(good)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_dropped_and_moved_event_lines_are_refused(copy: Run, data: st.DataObject) -> None:
    good = copy.files.events.read_bytes()
    lines = good.splitlines(keepends=True)
    kept = data.draw(st.permutations(lines))[: data.draw(st.integers(0, len(lines)))]
    if kept != lines:
        try:
            copy.files.events.write_bytes(b"".join(kept))
            assert reason(copy) in (Reason.EVENTS, Reason.TRUNCATED)
        finally:
            copy.files.events.write_bytes(good)


@pytest.mark.parametrize("name", NAMES)
def test_every_file_must_be_there(copy: Run, name: str) -> None:
    place(copy, name).unlink()
    expected = Reason.ABORTED if name == "document" else Reason.MISSING
    assert reason(copy) is expected


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", ["same key", "later run"])
def test_a_file_of_another_run_is_refused(copy: Run, tmp_path: Path, name: str, other: str) -> None:
    """Every file is genuine and well signed, but one is of another run."""
    start = STARTED if other == "same key" else STARTED + timedelta(minutes=5)
    foreign = make_run(tmp_path / "other", start=start, nonce="f" * 32)
    place(copy, name).write_bytes(place(foreign, name).read_bytes())
    found = reason(copy)
    expected = {
        "document": Reason.MISMATCH,
        "events": Reason.MISMATCH,
        "dsse": Reason.MISMATCH,
        "sshsig": Reason.SSH_SIGNATURE,
    }
    assert found is expected[name]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_signed_by_another_key_is_refused(copy: Run, tmp_path: Path, name: str) -> None:
    """The same run written again by somebody else."""
    foreign = make_run(tmp_path / "other", key=make_key(tmp_path / "keys", seed=2))
    place(copy, name).write_bytes(place(foreign, name).read_bytes())
    if name == "events":  # not signed themselves; the head in the document binds them
        assert copy.verify().status == "SUCCESS"
        return
    expected = {
        "document": Reason.WRONG_KEY,
        "dsse": Reason.ATTESTATION,
        "sshsig": Reason.SSH_SIGNATURE,
    }
    assert reason(copy) is expected[name]


def test_another_key_is_refused_and_named(run: Run, tmp_path: Path) -> None:
    other = make_key(tmp_path, seed=2)
    error = refusal(lambda: run.verify(key=other.public_file))
    assert error.reason is Reason.WRONG_KEY
    assert other.fingerprint in error.detail[0]
    assert reason(run, allowed_signers=other.allowed_signers_file) is Reason.WRONG_KEY


def test_a_changed_document_says_so(copy: Run) -> None:
    text = copy.files.document.read_text()
    copy.files.document.write_text(text.replace('"PONG"', '"PING"'))
    assert reason(copy) is Reason.SIGNATURE


@pytest.mark.parametrize(
    ("name", "limit"),
    [("document", 16 << 20), ("events", 64 << 20), ("dsse", 32 << 20), ("sshsig", 4096)],
)
def test_endless_files_are_refused(copy: Run, name: str, limit: int) -> None:
    with place(copy, name).open("r+b") as stream:
        stream.truncate(limit + 1)
    assert reason(copy) is Reason.OVERSIZED


def test_a_directory_or_a_pipe_is_not_waited_for(copy: Run) -> None:
    copy.files.events.unlink()
    copy.files.events.mkdir()
    assert reason(copy) is Reason.MISSING


# --- well signed, and still not evidence


def resign(run: Run, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the document and sign everything again with the right key."""
    from rave_cli.transcript import canonical, document

    members = json.loads(run.files.document.read_bytes())
    change(members)
    del members["signature"]
    unsigned = canonical.document_bytes(members | {"signature": ""})
    raw = document.with_signature(unsigned, run.key.private.sign(unsigned))
    run.files.document.write_bytes(raw)
    place(run, "sshsig").write_bytes(sshsig.sign(run.key.private, raw))


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m.update(schema="rave-transcript@v4"), Reason.UNKNOWN_VERSION),
        (lambda m: m.update(schema=["rave-transcript@v2"]), Reason.UNKNOWN_VERSION),
        (lambda m: m.update(schema="rave-transcript@v1"), Reason.MALFORMED),
        (lambda m: m.pop("tools"), Reason.MALFORMED),
        (lambda m: m.update(nonce=7), Reason.MALFORMED),
        (lambda m: m.update(redactions=True), Reason.MALFORMED),
        (lambda m: m.update(image=None), Reason.MALFORMED),
        (lambda m: m.update(image_digest="sha256:" + "0" * 64), Reason.MALFORMED),
        (lambda m: m.update(completion_time="soon"), Reason.MALFORMED),
        (lambda m: m.update(completion_time="2026-01-24T14:30:51Z"), Reason.MALFORMED),
        (lambda m: m.update(overall_status="WARNING"), Reason.MALFORMED),
        (lambda m: m.update(overall_status="ABORTED"), Reason.MALFORMED),
        (lambda m: m["test_summary"].update(passed=3), Reason.MALFORMED),
        (lambda m: m["validation_results"].append(m["validation_results"][0]), Reason.MALFORMED),
        (lambda m: m["validation_results"][0].update(status="ok"), Reason.MALFORMED),
        (lambda m: m["validation_results"][0].update(id="a b"), Reason.MALFORMED),
        (lambda m: m["validation_results"].append("pass"), Reason.MALFORMED),
        (lambda m: m["image"].update(nar_hash="md5-x"), Reason.MALFORMED),
        (lambda m: m["image"].update(sha256_after="x"), Reason.MALFORMED),
        (lambda m: m["image"].pop("name"), Reason.MALFORMED),
        (lambda m: m.pop("packages"), Reason.MALFORMED),
        (lambda m: m["packages"].pop("trusted"), Reason.MALFORMED),
        (lambda m: m["packages"].update(more=1), Reason.MALFORMED),
        (lambda m: m["packages"].update(lock="x"), Reason.MALFORMED),
        (lambda m: m["packages"].update(trusted=[7]), Reason.MALFORMED),
        (lambda m: m["packages"].update(trusted=["\x1b[2J"]), Reason.MALFORMED),
        (lambda m: m["packages"].update(trusted=["0B" * 20, "0A" * 20]), Reason.MALFORMED),
        (lambda m: m["configuration"].update(suite="x"), Reason.MALFORMED),
        (lambda m: m["tools"].update(qemu=7), Reason.MALFORMED),
        (lambda m: m["events"].update(count="8"), Reason.MALFORMED),
        (lambda m: m.update(events=[]), Reason.MALFORMED),
        (lambda m: m["events"].update(count=12), Reason.TRUNCATED),
        (lambda m: m["events"].update(head="0" * 64), Reason.EVENTS),
        (lambda m: m.update(nonce="f" * 32), Reason.MISMATCH),
        (lambda m: m.update(start_time="2026-01-24T14:30:51Z"), Reason.MISMATCH),
        (lambda m: m.update(signer="SHA256:x"), Reason.MISMATCH),
        (lambda m: m.update(profile="production"), Reason.MISMATCH),
    ],
)
def test_a_well_signed_document_must_also_make_sense(
    copy: Run, change: Callable[[dict[str, Any]], None], expected: Reason
) -> None:
    resign(copy, change)
    assert reason(copy) is expected


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_well_signed_nonsense_makes_it_stumble(copy: Run, data: st.DataObject) -> None:
    """Any value anywhere in the document, with good signatures over it, is refused in order."""
    good = [(path, path.read_bytes()) for path in copy.paths]

    def change(members: dict[str, Any]) -> None:
        place: Any = members
        name = data.draw(st.sampled_from([*list(members)[:-1], "new"]))
        while isinstance(place.get(name), dict) and place[name] and data.draw(st.booleans()):
            place, name = place[name], data.draw(st.sampled_from(list(place[name])))
        was = place.get(name)
        place[name] = data.draw(ANY_JSON.filter(lambda found: json.dumps(found) != json.dumps(was)))

    try:
        resign(copy, change)
        refusal(copy.verify)
    finally:
        for path, raw in good:
            path.write_bytes(raw)


@pytest.mark.parametrize("signer", [[], {}, 7, None, "x"])
def test_whatever_an_unsigned_document_claims_it_is_refused(copy: Run, signer: Any) -> None:
    members = json.loads(copy.files.document.read_bytes()) | {"signer": signer}
    copy.files.document.write_text(json.dumps(members, indent=2) + "\n")
    assert reason(copy) in (Reason.SIGNATURE, Reason.WRONG_KEY)


def test_duplicate_members_are_refused_even_if_signed(copy: Run) -> None:
    from rave_cli.transcript import document

    unsigned, _ = document.split_signature(copy.files.document.read_bytes())
    twice = unsigned.replace(b'  "mode": "safe",\n', b'  "mode": "safe",\n  "mode": "full",\n')
    assert twice != unsigned
    copy.files.document.write_bytes(document.with_signature(twice, copy.key.private.sign(twice)))
    error = refusal(copy.verify)
    assert error.reason is Reason.MALFORMED
    assert "'mode' appears twice" in error.message


def reattest(run: Run, change: Callable[[str], str], **other: Any) -> None:
    """Change the statement and sign the envelope again with the right key."""
    envelope = dsse.parse_envelope(place(run, "dsse").read_bytes())
    payload = change(envelope.payload.decode()).encode()
    kind = other.get("payload_type", envelope.payload_type)
    changed = replace(
        envelope,
        payload=payload,
        signature=run.key.private.sign(dsse.pre_authentication(kind, payload)),
        **other,
    )
    place(run, "dsse").write_bytes(dsse.envelope_bytes(changed))


@pytest.mark.parametrize(
    ("change", "other", "expected"),
    [
        (lambda s: s.replace("test-result/v0.1", "test-result/v0.2"), {}, "unknown-version"),
        (lambda s: s.replace("Statement/v1", "Statement/v0.1"), {}, "unknown-version"),
        (str, {"payload_type": "application/json"}, "unknown-version"),
        (lambda s: s.replace("PASSED", "WARNED"), {}, "mismatch"),
        (lambda s: s.replace(IMAGE_SHA256, "0" * 64), {}, "mismatch"),
        (lambda s: s.replace("demo", "prod"), {}, "mismatch"),
        (lambda s: s.replace("{", "{ ", 1), {}, "attestation"),
        (lambda s: s.replace("{", '{"_type":1,', 1), {}, "attestation"),
        (str, {"keyid": ""}, "attestation"),
    ],
)
def test_a_well_signed_attestation_must_be_of_this_run(
    copy: Run, change: Callable[[str], str], other: dict[str, Any], expected: str
) -> None:
    reattest(copy, change, **other)
    assert reason(copy) == expected


@pytest.mark.parametrize("signatures", [[], ["same", "same"], ["same", "other"]])
def test_an_envelope_has_one_signature(copy: Run, signatures: list[str]) -> None:
    envelope = json.loads(place(copy, "dsse").read_bytes())
    same = envelope["signatures"][0]
    other = same | {"sig": base64.b64encode(bytes(64)).decode()}
    envelope["signatures"] = [same if name == "same" else other for name in signatures]
    place(copy, "dsse").write_text(json.dumps(envelope, indent=2) + "\n")
    assert reason(copy) is Reason.ATTESTATION


def test_base64_with_spare_bits_is_refused(copy: Run) -> None:
    """The last character before `==` has four bits that decoders ignore."""
    raw = copy.files.document.read_bytes()
    found = re.search(rb'(.)==("\n\}\n)\Z', raw)
    assert found is not None
    alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    spare = alphabet[alphabet.index(found[1]) ^ 1 :][:1]
    changed = raw[: found.start()] + spare + raw[found.start() + 1 :]
    assert base64.b64decode(changed[-92:-4]) == base64.b64decode(raw[-92:-4])
    copy.files.document.write_bytes(changed)
    assert reason(copy) is Reason.MALFORMED


@pytest.mark.parametrize("namespace", ["file", "git", "rave-transcript@v2"])
def test_an_ssh_signature_for_another_purpose_is_refused(copy: Run, namespace: str) -> None:
    raw = copy.files.document.read_bytes()
    place(copy, "sshsig").write_bytes(sshsig.sign(copy.key.private, raw, namespace))
    assert reason(copy) is Reason.SSH_SIGNATURE


# --- the run itself


def test_a_failed_run_is_genuine_and_still_refused(tmp_path: Path) -> None:
    checks = (
        make_check("redis.ping", "fail"),
        make_check("nats.ping", "error"),
        make_check("image.integrity", "pass", phase="image"),
    )
    run = make_run(tmp_path, record=make_record(checks=checks))
    error = refusal(run.verify)
    assert error.reason is Reason.FAILED
    assert "genuine" in error.message
    assert error.detail == ("redis.ping: fail", "nats.ping: error")


@pytest.mark.parametrize("checks", [(), (make_check("a", "skip", phase="b"),)])
def test_a_run_in_which_nothing_passed_failed(
    tmp_path: Path, checks: tuple[CheckResult, ...]
) -> None:
    assert reason(make_run(tmp_path, record=make_record(checks=checks))) is Reason.FAILED


def test_an_aborted_run_is_unsigned_and_refused(tmp_path: Path) -> None:
    run = make_run(tmp_path, record=make_record(aborted="interrupted", digests=None))
    assert reason(run) is Reason.ABORTED
    assert run.files.dsse is None
    assert run.files.sshsig is None
    document = json.loads(run.files.document.read_bytes())
    assert document["overall_status"] == "ABORTED"
    assert document["abort_reason"] == "interrupted"
    assert document["signature"] == document["signer"] == ""
    assert '"kind":"end"' not in run.files.events.read_text()
    assert sorted(path.name for path in run.files.events.parent.iterdir()) == [
        run.files.events.name,
        run.files.document.name,
    ]


def test_a_run_that_was_killed_is_refused(tmp_path: Path) -> None:
    events = EventLog.begin(tmp_path)
    events.append("boot", "stage", {"stage": "kernel"})
    document = events.path.with_name(f"{events.session.stem}.json")
    key = make_key(tmp_path / "keys").public_file
    assert refusal(lambda: verify(document, key=key)).reason is Reason.ABORTED
    events.close()


def test_an_aborted_run_that_somebody_signs_is_refused(copy: Run) -> None:
    resign(copy, lambda m: m.update(overall_status="ABORTED", abort_reason="killed"))
    assert reason(copy) is Reason.ABORTED
