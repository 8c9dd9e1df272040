"""Decides whether a transcript is evidence: every file, every byte, against trust from outside."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, cast

from rave_cli.paths import refusing
from rave_cli.transcript.agreement import CLOCK_SKEW
from rave_cli.transcript.events import utc_now
from rave_cli.transcript.evidence import completion, read_evidence
from rave_cli.transcript.policy import VerificationPolicy, load_policy
from rave_cli.transcript.refusal import Reason, RefusedError
from rave_cli.transcript.trust import trusted_keys

if TYPE_CHECKING:
    from datetime import datetime, timedelta
    from pathlib import Path

    from rave_cli.transcript.document import Document


DIGEST = re.compile(r"sha256:([0-9a-f]{64})")


@dataclass(frozen=True)
class Verified:
    """A run that is proven, by files that all agree.

    Args:
        format: version of the transcript's format, by whose rules it was verified. The first says
            of no check from where it looked, how often it was tried, or which data it found.
        session: the run's id.
        status: `SUCCESS` or `WARNING`.
        completed: when it completed, in UTC.
        age_seconds: how long ago that was.
        profile: profile of the machine.
        base: base of the image.
        nonce: the run's nonce.
        signer: fingerprint of the key that signed.
        principals: the names that the trusted key signs as, where its file gives any.
        image_sha256: digest of the image.
        store_path: the Nix output that held the image.
        lock_sha256: digest of the lock of its packages; None if there is none or the format does
            not say.
        trusted_archive_keys: fingerprints of the archive keys that its build trusted beside the
            distribution's; None if the format does not say.
        updated_from: digest of the image whose place this one took in the machine; None if it is
            the machine's first, or the transcript does not say.
        events: number of events.
        passed: ids of the checks that passed.
        warned: ids of the checks that warned.
        skipped: ids of the checks that were skipped; nothing is known about them.
        image_checked: whether the image itself was at hand and is the one.
        policy_checked: whether a policy was given and is met.
    """

    format: int
    session: str
    status: str
    completed: str
    age_seconds: float
    profile: str
    base: str
    nonce: str
    signer: str
    principals: str
    image_sha256: str
    store_path: str
    lock_sha256: str | None
    trusted_archive_keys: tuple[str, ...] | None
    updated_from: str | None
    events: int
    passed: tuple[str, ...]
    warned: tuple[str, ...]
    skipped: tuple[str, ...]
    image_checked: bool
    policy_checked: bool


def verify(
    file: Path,
    *,
    key: Path | None = None,
    allowed_signers: Path | None = None,
    principal: str | None = None,
    image: Path | None = None,
    policy: Path | None = None,
    max_age: timedelta | None = None,
    nonce: str | None = None,
    profile: str | None = None,
    base: str | None = None,
    now: datetime | None = None,
) -> Verified:
    """Verify a transcript and all files that belong to it.

    Exactly one of `key` and `allowed_signers` must be given: a transcript cannot vouch for itself.

    Args:
        file: the document, `boot_transcript_….json`; the other files must lie beside it.
        key: the trusted public key, PEM or OpenSSH.
        allowed_signers: the trusted keys as OpenSSH lists them; a key must have been valid when
            the run completed.
        principal: the name the signer must have in `allowed_signers`.
        image: the qcow2 that the run must have been about.
        policy: file of demands (see `policy.load_policy`).
        max_age: how long ago the run may have completed.
        nonce: the nonce the run must carry.
        profile: the profile it must have been.
        base: the base it must have been.
        now: the time to judge age by; by default the clock's.

    Raises:
        RefusedError: with its reason, if the transcript is not evidence of a run that passed.
        RaveError: USAGE if the trusted key or the policy is unusable; HOST if a file cannot be
            read.
    """
    trusted = trusted_keys(key, allowed_signers, principal)
    demands = load_policy(policy) if policy else VerificationPolicy(required=())
    now = now or utc_now()
    document, signer = read_evidence(file, trusted)
    completed = completion(document)
    _check_times(document, completed, now, [max_age, demands.max_age])
    _check_status(document)
    _check_identity(document, nonce, [profile, demands.profile], [base, demands.base])
    _check_policy(document, demands)
    _check_image(document, image)
    origin = document.packages
    return Verified(
        format=document.format.version,
        session=document.session,
        status=document.status,
        completed=document.completed,
        age_seconds=max(0.0, round((now - completed).total_seconds(), 1)),
        profile=document.profile,
        base=document.base,
        nonce=document.nonce,
        signer=signer.fingerprint,
        principals=signer.principals,
        image_sha256=document.image["sha256"],
        store_path=document.image["store_path"],
        lock_sha256=None if origin is None else origin.lock,
        trusted_archive_keys=None if origin is None else origin.trusted,
        updated_from=_updated_from(document),
        events=document.chain_count,
        passed=tuple(document.having("pass")),
        warned=tuple(document.having("warn")),
        skipped=tuple(document.having("skip")),
        image_checked=image is not None,
        policy_checked=policy is not None,
    )


def _updated_from(document: Document) -> str | None:
    info = cast("dict[str, object]", document.members["system_info"])
    found = DIGEST.fullmatch(str(info.get("updated_from")))
    return None if found is None else found[1]


def _check_times(
    document: Document, completed: datetime, now: datetime, limits: list[timedelta | None]
) -> None:
    if completed > now + CLOCK_SKEW:
        raise RefusedError(
            Reason.FUTURE,
            f"the run completed on {document.completed}, which has not come yet",
            hint="date -u; is one of the clocks wrong?",
        )
    limit = min((limit for limit in limits if limit is not None), default=None)
    if limit is not None and now - completed > limit:
        raise RefusedError(
            Reason.TOO_OLD,
            f"the run completed on {document.completed}, more than {limit} ago",
            hint="rave smoke run",
        )


def _check_status(document: Document) -> None:
    if document.status == "FAILED":
        raise RefusedError(
            Reason.FAILED,
            "the record is genuine, and it says that the run failed",
            hint="rave smoke run",
            detail=tuple(
                f"{id_}: {document.checks[id_].status}" for id_ in document.having("fail", "error")
            ),
        )


def _check_identity(
    document: Document, nonce: str | None, profiles: list[str | None], bases: list[str | None]
) -> None:
    if nonce is not None and nonce != document.nonce:
        raise RefusedError(
            Reason.NONCE,
            "the run does not carry the nonce that you asked for; it may be a replay",
            hint="rave smoke run --nonce NONCE",
        )
    for what, demanded, found in (
        *(("profile", profile, document.profile) for profile in profiles),
        *(("base", base, document.base) for base in bases),
    ):
        if demanded is not None and demanded != found:
            raise RefusedError(
                Reason.PROFILE,
                f"the run was of the {what} {found!r}, not {demanded!r}",
                hint=f"rave smoke run --{what} {demanded}",
            )


def _check_policy(document: Document, demands: VerificationPolicy) -> None:
    shortfalls = demands.shortfalls(document)
    if shortfalls:
        raise RefusedError(
            Reason.POLICY,
            f"the run falls short of the policy in {len(shortfalls)} places",
            hint="rave smoke run",
            detail=tuple(shortfalls),
        )


def _check_image(document: Document, image: Path | None) -> None:
    before, after = document.image["sha256"], document.image["sha256_after"]
    if before != after:
        raise RefusedError(
            Reason.IMAGE_CHANGED,
            "the image was changed while the run went on",
            hint="rave vm build-image, then rave smoke run",
            detail=(f"before: {before}", f"after:  {after}"),
        )
    built = document.image.get("sha256_built", before)
    if before != built:
        raise RefusedError(
            Reason.IMAGE_CHANGED,
            "the image was not the one that was built",
            hint="rave vm build-image, then rave smoke run",
            detail=(f"built: {built}", f"found: {before}"),
        )
    if image is None:
        return
    with refusing(image), image.open("rb") as stream:
        found = hashlib.file_digest(stream, "sha256").hexdigest()
    if found != before:
        raise RefusedError(
            Reason.IMAGE,
            f"the run was about another image than {image.name}",
            hint="rave smoke run",
            detail=(f"the run's: {before}", f"this one:  {found}"),
        )
