"""That something was pushed: a signed statement, which lies in the registry beside what it is about
and here.

A job's proof and an image's transcript are signed before anything is pushed, and their bytes cannot
change: so what was pushed where is a statement of its own, whose subject is the manifest's digest.
It is an in-toto statement in a DSSE envelope, as they are.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rave_cli import __version__, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry import places
from rave_cli.registry.content import Descriptor, digest_of, of_bytes
from rave_cli.registry.manifest import CREATED, EMPTY, EMPTY_DATA, PREDICATE, Manifest
from rave_cli.transcript.canonical import DamagedError, Json, line_bytes, parse_line, to_json
from rave_cli.transcript.dsse import PAYLOAD_TYPE, STATEMENT_TYPE, parse_envelope, seal, types_of
from rave_cli.transcript.refusal import Reason, RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from rave_cli.registry.reference import Reference
    from rave_cli.registry.repository import Repository
    from rave_cli.transcript.signing import SigningKey
    from rave_cli.transcript.trust import TrustedKey

PREDICATE_TYPE = "urn:rave:push:v1"
ARTIFACT = "application/vnd.rave.push.v1"
# Of DSSE's envelope (DSSE v1, envelope.md).
ENVELOPE = "application/vnd.dsse.envelope.v1+json"
# Statements about one manifest that are read: anybody who may push can add some.
MOST = 100
MOST_SAID = 64 << 10


@dataclass(frozen=True)
class Pushed:
    """What was pushed.

    Attributes:
        reference: where it is, with the digest of its manifest.
        what: the thing, in words for programs: `kind` (`image` or `job`), and what tells it from
            others.
        sent: bytes that the registry did not have.
        total: bytes of all content.
        statement: the signed statement, as it is kept.
    """

    reference: Reference
    what: Mapping[str, str]
    sent: int
    total: int
    statement: Path

    def document(self) -> dict[str, object]:
        """Return it as JSON-ready values."""
        return {
            "reference": str(self.reference),
            "digest": self.reference.digest,
            **self.what,
            "sentBytes": self.sent,
            "bytes": self.total,
            "statement": str(self.statement),
        }


@dataclass(frozen=True)
class Vouched:
    """Who has signed that a manifest was pushed, and as what.

    Attributes:
        signer: fingerprint of the key.
        principals: the names that the trusted key signs as.
        what: the thing, as in `Pushed`.
        pushed: when, RFC 3339.
    """

    signer: str
    principals: str
    what: Mapping[str, str]
    pushed: str


def artifact(
    subject: Descriptor, artifact_type: str, layers: Sequence[Descriptor],
    annotations: Mapping[str, str],
) -> Manifest:  # fmt: skip
    """Return the manifest of an artifact that says something about another."""
    config = Descriptor(EMPTY, digest_of(EMPTY_DATA), len(EMPTY_DATA))
    return Manifest(config, tuple(layers), artifact_type, subject, annotations)


def attach_statement(
    repository: Repository, subject: Descriptor, artifact_type: str, envelope: bytes,
    *, predicate: str, created: str,
) -> Descriptor:  # fmt: skip
    """Push a signed statement as a referrer of what it is about.

    Raises:
        RaveError: as pushing.
    """
    content = of_bytes(envelope)
    layer = content.described(ENVELOPE)
    said = {CREATED: created, PREDICATE: predicate}
    return repository.attach(artifact(subject, artifact_type, (layer,), said), (content,))


def vouch(
    repository: Repository, manifest: Manifest, subject: Descriptor, what: Mapping[str, str],
    key: SigningKey,
) -> Path:  # fmt: skip
    """Sign that a manifest was pushed; the statement goes beside it, and is kept here.

    Raises:
        RaveError: as pushing; HOST if it cannot be kept.
    """
    now = datetime.now(UTC).isoformat(timespec="seconds")
    where = repository.reference
    payload = line_bytes(
        to_json(
            {
                "_type": STATEMENT_TYPE,
                "subject": [_subject(where, subject.digest)],
                "predicateType": PREDICATE_TYPE,
                "predicate": {
                    "what": dict(what),
                    "reference": str(where.at(subject.digest)),
                    "artifactType": manifest.artifact_type,
                    "bytes": sum(layer.size for layer in manifest.layers),
                    "pushed": now,
                    "version": __version__,
                },
            }
        )
    )
    envelope = seal(payload, key)
    attach_statement(repository, subject, ARTIFACT, envelope, predicate=PREDICATE_TYPE, created=now)
    paths.private_dir(places.folder())
    place = places.statement_file(what["kind"], what["name"], where.at(subject.digest))
    paths.atomic_write(place, envelope)
    return place


def vouched(repository: Repository, subject: Descriptor, trusted: Sequence[TrustedKey]) -> Vouched:
    """Return who of those that are trusted has signed that a manifest was pushed.

    Raises:
        RefusedError: nobody has.
        RaveError: as asking.
    """
    why = "nobody has signed for it"
    for entry in repository.referrers(subject.digest, ARTIFACT)[:MOST]:
        envelope = envelope_of(repository, entry)
        if envelope is None:
            continue
        try:
            return read(envelope, subject.digest, trusted)
        except RefusedError as refusal:
            why = refusal.message
    raise RefusedError(
        Reason.WRONG_KEY,
        f"no key that you trust has signed for {repository.reference.at(subject.digest)}: {why}",
        hint="compare the fingerprint with the signer's: ssh-keygen -l -f KEY.pub",
        detail=tuple(f"trusted: {key.fingerprint} {key.principals}".strip() for key in trusted),
    )


def envelope_of(repository: Repository, entry: Descriptor, most: int = MOST_SAID) -> bytes | None:
    """Return the envelope in a referrer of at most so many bytes; None if there is none in it:
    whoever may push can put anything there.

    Raises:
        RaveError: as asking.
    """
    raw = bytearray()
    try:
        found, _ = repository.manifest(entry.digest)
        if len(found.layers) != 1 or found.layers[0].size > most:
            return None
        repository.pull(found.layers[0], raw.extend)
    except RaveError as error:
        if error.exit_code not in (ExitCode.VERIFICATION, ExitCode.USAGE):
            raise
        return None
    return bytes(raw)


def read(raw: bytes, digest: str, trusted: Sequence[TrustedKey]) -> Vouched:
    """Read a statement that a trusted key must have signed, about the manifest of a digest.

    Raises:
        RefusedError: it is anything else.
    """
    try:
        envelope = parse_envelope(raw)
        signer = next((key for key in trusted if envelope.signed_by(key)), None)
        if signer is None:
            raise RefusedError(Reason.WRONG_KEY, "it was signed by another")
        types, statement = types_of(envelope.payload), parse_line(envelope.payload)
    except DamagedError as error:
        raise RefusedError(Reason.MALFORMED, f"it is damaged: {error}") from error
    if envelope.payload_type != PAYLOAD_TYPE or types != (STATEMENT_TYPE, PREDICATE_TYPE):
        raise RefusedError(Reason.UNKNOWN_VERSION, "it says something that this rave does not know")
    match statement:
        case {
            "subject": [{"digest": {"sha256": str(about)}}],
            "predicate": {"what": dict(what), "pushed": str(pushed)},
        } if all(isinstance(value, str) for value in what.values()):
            pass
        case _:
            raise RefusedError(Reason.MALFORMED, "it does not say what was pushed")
    if f"sha256:{about}" != digest:
        raise RefusedError(Reason.MISMATCH, "it is about something else")
    if not signer.valid_at(_moment(pushed)):
        raise RefusedError(Reason.KEY_NOT_VALID, "the signing key was not valid then")
    return Vouched(
        signer.fingerprint,
        signer.principals,
        {name: str(value) for name, value in what.items()},
        pushed,
    )


def _subject(where: Reference, digest: str) -> dict[str, Json]:
    return {
        "name": f"{where.registry}/{where.repository}",
        "digest": {"sha256": digest.removeprefix("sha256:")},
    }


def _moment(said: str) -> datetime:
    try:
        # In any zone; without one it would be none.
        return datetime.fromisoformat(said).astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise RefusedError(Reason.MALFORMED, "it does not say when") from error
