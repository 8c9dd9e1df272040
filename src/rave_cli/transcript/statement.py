"""The same run as an in-toto statement in a DSSE envelope, for tools that are not ours.

The statement says nothing that the document does not: it is derived from it, and verification
derives it again and compares the bytes.

Sources: in-toto Attestation Framework v1 (Statement, ResourceDescriptor, DigestSet), predicate
test-result v0.1.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from rave_cli.transcript.canonical import line_bytes, to_json
from rave_cli.transcript.dsse import STATEMENT_TYPE
from rave_cli.transcript.formats import FIRST

if TYPE_CHECKING:
    from rave_cli.transcript.document import Document

PREDICATE_TYPE = "https://in-toto.io/attestation/test-result/v0.1"
RESULT = {"SUCCESS": "PASSED", "WARNING": "WARNED", "FAILED": "FAILED"}


def statement_bytes(document: Document, sha256: str) -> bytes:
    """Return the statement about a completed run.

    Args:
        document: the transcript.
        sha256: hex digest of the transcript's file.
    """
    first = document.format is FIRST
    predicate = {
        "result": RESULT[document.status],
        "configuration": [
            {"name": name, "digest": {"sha256": digest}}
            for name, digest in document.configuration.items()
        ],
        "passedTests": document.having("pass"),
        "warnedTests": document.having("warn"),
        "failedTests": document.having("fail", "error"),
        f"rave_run_v{document.format.version}": _extension(document, sha256),
    }
    return line_bytes(
        to_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": _first_subjects(document) if first else [_qcow2(document)],
                "predicateType": PREDICATE_TYPE,
                "predicate": predicate,
            }
        )
    )


def _qcow2(document: Document) -> dict[str, object]:
    """Return the one subject. Verifiers refuse digests of algorithms that they do not know, so the
    narHash is not among the subjects: sigstore-python knows SHA-2 and SHA-3 alone.
    """
    return {"name": document.image["name"], "digest": {"sha256": document.image["sha256"]}}


def _first_subjects(document: Document) -> list[dict[str, object]]:
    """Return the subjects that the first format had."""
    digest = {"nix_nar_sha256": nar_hex(document.image["nar_hash"])}
    return [_qcow2(document), {"name": document.image["store_path"], "digest": digest}]


def _extension(document: Document, sha256: str) -> dict[str, object]:
    image = document.image
    found: dict[str, object] = {
        "transcript": {"sha256": sha256},
        "session": document.session,
        "nonce": document.nonce,
        "profile": document.profile,
        "base": document.base,
        "events": {"count": document.chain_count, "head": document.chain_head},
        "guest_boot_id": document.guest_boot_id,
        "image": {"before": image["sha256"], "after": image["sha256_after"]},
        "skipped_tests": document.having("skip"),
        "tools": document.tools,
        "redactions": document.redactions,
    }
    if document.format is not FIRST:
        found["image"] = {name: image[name] for name in document.format.image if name != "name"}
        found["machine"] = document.members["machine"]
        found["mode"] = document.mode
    if document.packages is not None:
        found["packages"] = document.members["packages"]
    return found


def nar_hex(nar_hash: str) -> str:
    """Return a narHash (`sha256-<base64>`) in the lowercase hex that a DigestSet wants."""
    return base64.b64decode(nar_hash.removeprefix("sha256-")).hex()
