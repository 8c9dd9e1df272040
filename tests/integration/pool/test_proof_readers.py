"""Verifiers and readers of in-toto statements that others wrote take the proof of a job."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

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
from sigstore.hashes import Hashed
from sigstore_models.common.v1 import HashAlgorithm

from rave_cli.pool.jobs.work import Work
from rave_cli.transcript.dsse import parse_envelope

if TYPE_CHECKING:
    from .pools import Pool

pytestmark = pytest.mark.integration


@pytest.fixture
def proof(pool: Pool) -> bytes:
    """The proof of a job that printed `out`."""
    (name,) = pool.submit(Work(("echo", "out")))
    pool.agent().turn(0.02)
    pool.turn()
    found = pool.store.proof(name)
    assert found is not None
    return found


def test_they_take_the_statement_and_find_what_was_printed(proof: bytes) -> None:
    payload = parse_envelope(proof).payload
    statement = SigstoreStatement(payload)
    for data, there in ((b"out\n", True), (b"other", False), (b"", False)):
        digest = Hashed(algorithm=HashAlgorithm.SHA2_256, digest=hashlib.sha256(data).digest())
        assert statement._matches_digest(digest) == there
    found = InTotoStatement.copy_from_pb(json_format.Parse(payload, statement_pb2.Statement()))
    found.validate()
    assert found.pb.predicate["result"] == "success"


def test_they_verify_the_signature(pool: Pool, proof: bytes) -> None:
    ours = SSlibKey.from_crypto(pool.key.public, keyid=pool.key.fingerprint)
    document = json.loads(proof)
    assert Envelope.from_dict(document).verify([ours], threshold=1)
    document = json.loads(proof)
    document["payload"] = document["payload"][:-4] + "AAAA"
    with pytest.raises(VerificationError):
        Envelope.from_dict(document).verify([ours], threshold=1)
