"""DSSE envelopes around in-toto statements: what is signed, and how it is read back.

Sources: DSSE protocol v1, in-toto Attestation Framework v1 (Statement).
"""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.transcript.canonical import (
    DamagedError,
    Json,
    document_bytes,
    parse_document,
    parse_line,
)

if TYPE_CHECKING:
    from rave_cli.transcript.signing import SigningKey
    from rave_cli.transcript.trust import TrustedKey

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"


@dataclass(frozen=True)
class Envelope:
    """A DSSE envelope with one signature."""

    payload_type: str
    payload: bytes
    keyid: str
    signature: bytes

    def signed_by(self, key: TrustedKey) -> bool:
        """Return whether the signature is a key's over this type and payload."""
        covered = pre_authentication(self.payload_type, self.payload)
        return key.verifies(self.signature, covered)


def seal(payload: bytes, key: SigningKey) -> bytes:
    """Return the envelope of a statement, signed, as its JSON file."""
    covered = pre_authentication(PAYLOAD_TYPE, payload)
    return envelope_bytes(
        Envelope(PAYLOAD_TYPE, payload, key.fingerprint, key.private.sign(covered))
    )


def pre_authentication(payload_type: str, payload: bytes) -> bytes:
    """Return the bytes that a DSSE signature covers (PAE of the DSSE protocol, version 1)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def envelope_bytes(envelope: Envelope) -> bytes:
    """Return an envelope as its JSON file."""
    return document_bytes(
        {
            "payload": base64.b64encode(envelope.payload).decode(),
            "payloadType": envelope.payload_type,
            "signatures": [
                {
                    "keyid": envelope.keyid,
                    "sig": base64.b64encode(envelope.signature).decode(),
                }
            ],
        }
    )


def parse_envelope(raw: bytes) -> Envelope:
    """Read an envelope that must be written exactly as `envelope_bytes` writes it.

    Raises:
        DamagedError: if it is anything else.
    """
    match parse_document(raw):
        case {
            "payload": str(payload),
            "payloadType": str(payload_type),
            "signatures": [{"keyid": str(keyid), "sig": str(signature)}],
        }:
            pass
        case _:
            raise DamagedError("it is not an envelope with one signature")
    try:
        envelope = Envelope(
            payload_type=payload_type,
            payload=base64.b64decode(payload, validate=True),
            keyid=keyid,
            signature=base64.b64decode(signature, validate=True),
        )
    except binascii.Error as error:
        raise DamagedError("it holds something that is not base64") from error
    if envelope_bytes(envelope) != raw:
        raise DamagedError("it is not written in the canonical form")
    return envelope


def types_of(payload: bytes) -> tuple[Json, Json]:
    """Return the statement type and the predicate type that a payload names.

    Raises:
        DamagedError: if the payload is not a JSON object in canonical form.
    """
    statement = parse_line(payload)
    return statement.get("_type"), statement.get("predicateType")
