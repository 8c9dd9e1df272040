"""Why a transcript is not believed: one code word per reason, and the error that carries it."""

from __future__ import annotations

from enum import StrEnum

from rave_cli.errors import ExitCode, RaveError


class Reason(StrEnum):
    """The code words of `rave smoke verify`, listed in docs/reference/transcript-format.md."""

    MISSING = "missing"
    OVERSIZED = "oversized"
    MALFORMED = "malformed"
    UNKNOWN_VERSION = "unknown-version"
    WRONG_KEY = "wrong-key"
    KEY_NOT_VALID = "key-not-valid"
    SIGNATURE = "signature"
    EVENTS = "events"
    TRUNCATED = "truncated"
    ATTESTATION = "attestation"
    SSH_SIGNATURE = "ssh-signature"
    MISMATCH = "mismatch"
    TIMES = "times"
    ABORTED = "aborted"
    FAILED = "failed"
    IMAGE = "image"
    IMAGE_CHANGED = "image-changed"
    FUTURE = "future"
    TOO_OLD = "too-old"
    NONCE = "nonce"
    PROFILE = "profile"
    POLICY = "policy"


class RefusedError(RaveError):
    """A transcript that does not verify (exit code 7).

    Args:
        reason: the code word; the message starts with it, and `reason` carries it for programs.
        message: what was found, as one sentence without a final full stop.
        hint: what to do next.
        detail: further lines, such as the checks a policy misses.
    """

    reason: Reason

    def __init__(
        self,
        reason: Reason,
        message: str,
        *,
        hint: str | None = None,
        detail: tuple[str, ...] = (),
    ) -> None:
        super().__init__(
            f"{reason}: {message}", hint=hint, exit_code=ExitCode.VERIFICATION, detail=detail
        )
        self.reason = reason
