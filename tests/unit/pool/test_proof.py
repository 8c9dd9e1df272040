"""A job is proven by what was signed when it ended: whatever is changed afterwards is refused."""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli.pool.jobs.job import ENDINGS, Artifact, AttemptFacts, Job, Kept, Printed, Printout
from rave_cli.pool.jobs.job import Ended as End
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.jobs.work import JobInput, Work
from rave_cli.pool.proof import PREDICATE_TYPE, statement_bytes, verify
from rave_cli.transcript import Reason, RefusedError, SigningKey, signing_key
from rave_cli.transcript.dsse import (
    Envelope,
    envelope_bytes,
    parse_envelope,
    pre_authentication,
    seal,
)
from rave_cli.transcript.trust import TrustedKey

if TYPE_CHECKING:
    from rave_cli.pool.jobs.job import Happening

EMPTY = Kept(0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")

JOB = Job(
    name="0123456789ab",
    work=Work(("sh", "-c", "echo ä"), timeout=5.0, retries=2, cache="k"),
    submitted=1_800_000_000.25,
    state="failure",
    attempt=3,
    failed=3,
    lost=1,
    agent="host-1",
    began=1_800_000_001.5,
    ended=1_800_000_004.75,
    exit_status=7,
    why="x",
    facts=AttemptFacts("1" * 64, "2" * 64, 0.5, 2.25, (3, 0)),
    owner="token:ci",
)
PRINTOUT = Printout(Kept(3, "3" * 64), EMPTY)

words = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
numbers = st.integers(0, 1 << 40)
moments = st.floats(0, 4e9)
names = st.from_regex(r"[a-z]{1,6}", fullmatch=True)
digests = st.from_regex(r"[0-9a-f]{64}", fullmatch=True)
works = st.builds(
    Work,
    st.lists(words, min_size=1).map(tuple),
    timeout=moments,
    retries=numbers,
    most_output=numbers,
    expires=st.none() | moments,
    script=words,
    environment=st.lists(st.tuples(names, words), max_size=2).map(tuple),
    secrets=st.lists(names, max_size=2).map(tuple),
    given=st.none() | st.builds(JobInput, digests, numbers, words),
    artifacts=st.lists(names, max_size=2, unique=True).map(tuple),
    most_artifacts=numbers,
    most_disk=numbers,
    memory_mib=st.sampled_from([None, 1024, 4096]),
    cpus=st.sampled_from([None, 1, 2]),
    cache=st.sampled_from(["", "k"]),
    keeps_cache=st.booleans(),
    allow=st.sampled_from([(), ("a.example:443",)]),
)
facts = st.builds(
    AttemptFacts,
    words,
    words,
    st.none() | moments,
    st.none() | moments,
    st.tuples(numbers, numbers),
    st.lists(st.builds(Artifact, names, numbers, digests), max_size=2).map(tuple),
    executable=st.lists(names, max_size=2).map(tuple),
)
# What of a job is said in its proof, with what else it could be.
CHANGES: dict[str, st.SearchStrategy[Any]] = {
    "name": st.from_regex(r"[0-9a-f]{12}", fullmatch=True),
    "work": works,
    "submitted": moments,
    "state": st.sampled_from(ENDINGS),
    "attempt": numbers,
    "failed": numbers,
    "lost": numbers,
    "agent": words,
    "began": st.none() | moments,
    "ended": moments,
    "exit_status": st.none() | numbers,
    "why": words,
    "facts": facts,
    "owner": words,
}
# What is over is no more, and lacks nothing; a trace is nobody's word.
NOT_SAID = {"until", "cancelling", "lacking", "trace"}


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        return signing_key()


def trusted(key: SigningKey) -> tuple[TrustedKey]:
    return (TrustedKey(key.public),)


def sealed(key: SigningKey, job: Job = JOB, printout: Printout = PRINTOUT) -> bytes:
    return seal(statement_bytes(job, printout), key)


def refused(key: SigningKey, raw: bytes | None, job: Job = JOB, out: Printout = PRINTOUT) -> Reason:
    with pytest.raises(RefusedError) as found:
        verify(job, out, raw, trusted(key))
    return found.value.reason


def test_what_was_signed_is_proven(key: SigningKey) -> None:
    proven = verify(JOB, PRINTOUT, sealed(key), trusted(key))
    assert (proven.name, proven.result, proven.signer) == (JOB.name, "failure", key.fingerprint)
    assert (proven.image, proven.template) == ("1" * 64, "2" * 64)


def test_each_field_of_a_job_is_said_or_has_no_say() -> None:
    assert set(CHANGES) | NOT_SAID == {field.name for field in fields(Job)}


@pytest.mark.parametrize("name", CHANGES)
def test_a_job_that_was_changed_is_refused(key: SigningKey, name: str) -> None:
    raw = sealed(key)

    @settings(max_examples=25, deadline=None)
    @given(CHANGES[name])
    def changed(value: Any) -> None:
        job = replace(JOB, **{name: value})
        if statement_bytes(job, PRINTOUT) == statement_bytes(JOB, PRINTOUT):
            # Nothing that is said to the microsecond.
            assert value == pytest.approx(getattr(JOB, name), abs=1e-6)
        else:
            assert refused(key, raw, job) == Reason.MISMATCH

    changed()


@given(st.sampled_from(["work", "facts"]), st.data())
@settings(max_examples=60, deadline=None)
def test_each_member_of_what_was_asked_and_seen_counts(where: str, data: st.DataObject) -> None:
    before = getattr(JOB, where)
    name = data.draw(st.sampled_from([field.name for field in fields(before)]))
    value = getattr(data.draw(CHANGES[where]), name)
    after = replace(JOB, **{where: replace(before, **{name: value})})
    same = statement_bytes(after, PRINTOUT) == statement_bytes(JOB, PRINTOUT)
    assert same == (value == getattr(before, name))


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("kept", [Kept(3, "4" * 64), Kept(4, "3" * 64)])
def test_output_that_was_changed_is_refused(key: SigningKey, stream: str, kept: Kept) -> None:
    other = replace(PRINTOUT, **{stream: kept})
    assert refused(key, sealed(key), out=other) == Reason.MISMATCH


def test_a_proof_is_refused_whichever_byte_of_it_was_changed(key: SigningKey) -> None:
    raw = sealed(key)
    for at in range(len(raw)):
        for bit in (0, 5):
            changed = raw[:at] + bytes([raw[at] ^ (1 << bit)]) + raw[at + 1 :]
            assert refused(key, changed) in Reason
    for end in range(0, len(raw), 7):
        assert refused(key, raw[:end]) == Reason.MALFORMED


def test_another_jobs_proof_is_refused(key: SigningKey) -> None:
    other = replace(JOB, name="ba9876543210")
    assert refused(key, sealed(key, other)) == Reason.MISMATCH


def test_anothers_signature_is_refused(key: SigningKey, tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path))
        other = signing_key()
    assert refused(key, sealed(other)) == Reason.WRONG_KEY
    payload = statement_bytes(JOB, PRINTOUT)
    forged = replace(parse_envelope(sealed(other)), keyid=key.fingerprint)
    assert forged.payload == payload
    assert refused(key, envelope_bytes(forged)) == Reason.SIGNATURE
    wrong = replace(parse_envelope(sealed(key)), keyid=other.fingerprint)
    assert refused(key, envelope_bytes(wrong)) == Reason.MISMATCH


def test_a_statement_of_another_kind_is_refused(key: SigningKey) -> None:
    def signed(payload: bytes, kind: str = "application/vnd.in-toto+json") -> bytes:
        signature = key.private.sign(pre_authentication(kind, payload))
        return envelope_bytes(Envelope(kind, payload, key.fingerprint, signature))

    payload = statement_bytes(JOB, PRINTOUT)
    other = payload.replace(PREDICATE_TYPE.encode(), b"urn:rave:pool-job:v9")
    assert refused(key, signed(other)) == Reason.UNKNOWN_VERSION
    assert refused(key, signed(payload, "text/plain")) == Reason.UNKNOWN_VERSION
    assert refused(key, signed(b"{}\n")) == Reason.UNKNOWN_VERSION
    assert refused(key, signed(b"no JSON")) == Reason.MALFORMED


def test_a_key_counts_for_its_time_only(key: SigningKey) -> None:
    from datetime import UTC, datetime

    late = TrustedKey(key.public, valid_after=datetime(2030, 1, 1, tzinfo=UTC))
    with pytest.raises(RefusedError) as found:
        verify(JOB, PRINTOUT, sealed(key), (late,))
    assert found.value.reason == Reason.KEY_NOT_VALID


def test_what_is_not_over_and_what_has_no_proof_is_said(key: SigningKey) -> None:
    assert refused(key, None, replace(JOB, state="running")) == Reason.MISSING
    assert refused(key, None) == Reason.MISSING


def test_what_an_older_rave_signed_is_said_so_still() -> None:
    given = JobInput("3" * 64, 7, "folder x")
    facts = AttemptFacts("1" * 64, "2" * 64, 0.5, 2.25, (3, 0), (Artifact("out", 1, "4" * 64),))
    work = replace(JOB.work, environment=(("A", "b"),), given=given, artifacts=("out",), cache="")
    old = replace(JOB, work=work, facts=facts, owner="")
    said = hashlib.sha256(statement_bytes(old, PRINTOUT, "0.1")).hexdigest()
    # Of the rave before jobs had owners, sizes and caches.
    assert said == "e5e01e4df98e2d37c5f0e43b04f114d035cd5ad750299e6ed7be2f95a1e07948"


def test_nothing_that_was_printed_is_no_subject() -> None:
    statement = json.loads(statement_bytes(JOB, PRINTOUT))
    names = [subject["name"] for subject in statement["subject"]]
    assert names == ["job-0123456789ab", "job-0123456789ab.stdout"]


def test_a_job_ends_with_its_proof_or_not_at_all(tmp_path: Path, key: SigningKey) -> None:
    with JobStore(tmp_path / "pool/jobs.sqlite") as store:
        one, other = (job.name for job in store.accept([Work(("true",))] * 2))
        end = End(2.0, 1, "success", 0, "", 0, 0)

        def fails(_job: Job, _printout: Printout) -> bytes:
            raise OSError("the key is gone")

        with pytest.raises(OSError, match="gone"):
            store.record([(one, end)], "7-0", seal=fails)
        assert not store.load(one).over
        assert store.seen == "0-0"

        def seals(job: Job, printout: Printout) -> bytes:
            return sealed(key, job, printout)

        # What is told in the same breath as the end is part of what is proven.
        told: list[tuple[str, Happening]] = [
            (one, Printed(1, 1, b"a")),
            (one, Printed(1, 2, b"bc")),
            (one, end),
        ]
        store.record(told, "7-0", seal=seals)
        job = store.load(one)
        assert store.printout(job).stderr.size == 2
        assert verify(job, store.printout(job), store.proof(one), trusted(key)).result == "success"
        assert store.proof(other) is None
        store.record([(one, Printed(1, 1, b"late"))], seal=seals)
        assert verify(job, store.printout(job), store.proof(one), trusted(key))


def test_the_reference_names_every_member_of_the_predicate() -> None:
    page = Path(__file__).parents[3] / "docs/reference/job-proof.md"
    named = {
        word
        for line in page.read_text().splitlines()
        if line.startswith("| `")
        for word in re.findall(r"`(\w+)`", line.split("|")[1])
    }
    assert set(json.loads(statement_bytes(JOB, PRINTOUT))["predicate"]) <= named
