"""Verifiers and readers of in-toto statements that others wrote take what rave signs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from google.protobuf import json_format  # type: ignore[import-untyped]
from in_toto_attestation.v1 import statement_pb2  # type: ignore[import-untyped]
from in_toto_attestation.v1.statement import (  # type: ignore[import-untyped]
    Statement as InTotoStatement,
)
from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]
from sigstore.dsse import Statement as SigstoreStatement
from sigstore.errors import Error
from sigstore.hashes import Hashed
from sigstore_models.bundle.v1 import Bundle
from sigstore_models.common.v1 import HashAlgorithm
from tests.integration.transcript.test_transcript_tools import follow, recipe
from tests.transcripts import IMAGE, Run, make_key, make_run

from rave_cli.transcript.dsse import parse_envelope

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.integration

RELEASED = Path(__file__).resolve().parents[2] / "fixtures/released-0.1.0"


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def payload(run: Run) -> bytes:
    assert run.files.dsse is not None
    return parse_envelope(run.files.dsse.read_bytes()).payload


def sha256(data: bytes) -> Hashed:
    return Hashed(algorithm=HashAlgorithm.SHA2_256, digest=hashlib.sha256(data).digest())


# --- the statement


def test_sigstore_takes_the_statement_and_finds_the_image(payload: bytes) -> None:
    statement = SigstoreStatement(payload)
    assert statement._matches_digest(sha256(IMAGE))
    assert not statement._matches_digest(sha256(b"another image"))


def test_sigstore_did_not_take_the_statement_of_the_first_format() -> None:
    """What the second format mends: one digest that it does not know, and all is refused."""
    (file,) = RELEASED.glob("*.dsse.json")
    with pytest.raises(Error, match="nix_nar_sha256"):
        SigstoreStatement(parse_envelope(file.read_bytes()).payload)


def test_in_toto_takes_the_statement(payload: bytes) -> None:
    found = json_format.Parse(payload, statement_pb2.Statement())
    statement = InTotoStatement.copy_from_pb(found)
    statement.validate()
    (subject,) = statement.pb.subject
    assert dict(subject.digest) == {"sha256": hashlib.sha256(IMAGE).hexdigest()}
    assert statement.pb.predicate["result"] == "PASSED"


def test_every_digest_of_a_subject_is_of_a_common_algorithm(payload: bytes) -> None:
    subjects = json.loads(payload)["subject"]
    assert [list(subject["digest"]) for subject in subjects] == [["sha256"]]


# --- the recipe's bundle


def made_by_the_recipe(run: Run, work: Path) -> dict[str, Any]:
    """Follow the recipe up to the block that makes the bundle, and return the bundle."""
    (at,) = [number for number, block in enumerate(recipe()) if "bundle.sigstore.json" in block]
    done = follow(run, work, "\n".join(recipe()[: at + 1]))
    assert done.returncode == 0, done.stderr
    bundle: dict[str, Any] = json.loads((work / "bundle.sigstore.json").read_bytes())
    return bundle


def test_the_bundle_of_the_recipe_is_one(run: Run, tmp_path: Path) -> None:
    bundle = Bundle.from_json(json.dumps(made_by_the_recipe(run, tmp_path / "work")))
    assert bundle.dsse_envelope is not None
    assert bundle.dsse_envelope.payload_type == "application/vnd.in-toto+json"
    assert len(bundle.dsse_envelope.signatures) == 1


@pytest.mark.parametrize(
    ("change", "good"),
    [
        (lambda envelope: None, True),
        (lambda envelope: envelope.update(payload=envelope["payload"][:-4] + "AAAA"), False),
        (lambda envelope: envelope.update(payloadType="application/json"), False),
    ],
)
def test_the_envelope_in_the_bundle_is_verified(
    run: Run, tmp_path: Path, change: Callable[[dict[str, Any]], None], good: bool
) -> None:
    found = made_by_the_recipe(run, tmp_path / "work")["dsseEnvelope"]
    change(found)
    ours = SSlibKey.from_crypto(run.key.public, keyid=run.key.fingerprint)
    other = SSlibKey.from_crypto(make_key(tmp_path, seed=2).public, keyid=run.key.fingerprint)
    envelope = Envelope.from_dict(found)
    if good:
        assert envelope.verify([ours], threshold=1) == {run.key.fingerprint: ours}
    else:
        with pytest.raises(VerificationError):
            envelope.verify([ours], threshold=1)
    with pytest.raises(VerificationError):
        envelope.verify([other], threshold=1)


def test_the_recipe_of_cosign_names_the_digest_rather_than_the_image() -> None:
    """cosign reads no file above 128 MiB; rave's images are larger."""
    from tests.docs import blocks
    from tests.integration.transcript.test_transcript_tools import PAGE

    (call,) = [block.script for block in blocks(PAGE) if block.script.startswith("cosign")]
    assert "$image" not in call
    for option in ('--bundle "$bundle"', '--digest "$digest"', "--digestAlg sha256", "--key"):
        assert option in call
