"""Tokens with which others may ask the pool: who they are, what they may, and until when.

A token is a JWT (RFC 7519) that says no more than its number and its end; what it may stands with
the pool, where it can be revoked at once. The key that signs them never leaves the pool.
"""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, get_args

import jwt

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.jobs.database import folder
from rave_cli.records import RecordFormat

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager
    from pathlib import Path

    from jwt.types import Options

# Each may do what those before it may, too.
Role = Literal["viewer", "submitter", "operator", "admin"]
ROLES: tuple[Role, ...] = get_args(Role)

# RFC 7518, 3.2: a key of HS256 is as long as its hash at least.
ALGORITHM = "HS256"
KEY_BYTES = 32
ISSUER = "rave-pool"

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")

# Hours: a token that outlives its use is one that somebody finds.
MOST_HOURS = 7 * 24
# Seconds for which one that is over is still listed.
LISTED = 30 * 86400.0

# When it began and ends is judged by what stands with the pool.
_CHECKED: Options = {
    "require": ["iss", "jti", "exp"], "verify_exp": False, "verify_iat": False, "verify_nbf": False,
}  # fmt: skip

# Characters: ours have fewer than 300.
LONGEST = 1024


@dataclass(frozen=True)
class TokenRecord:
    """A token, but for the words that prove it. Times are seconds since the epoch.

    Attributes:
        number: 12 hex digits, which the token carries.
        name: whose it is.
        role: what it may.
        created: when it was made.
        expires: when it ends.
        revoked: when it was revoked; None if it was not.
    """

    number: str
    name: str
    role: Role
    created: float
    expires: float
    revoked: float | None = None

    def good(self, now: float) -> bool:
        """Whether it may be used."""
        return self.revoked is None and now < self.expires


@dataclass(frozen=True)
class TokensRecord:
    """The content of tokens.json."""

    tokens: tuple[TokenRecord, ...] = ()


TOKENS = RecordFormat(title="the pool's tokens", shape=TokensRecord, version=1)


def may(role: Role, needed: Role) -> bool:
    """Return whether a role may do what another is needed for."""
    return ROLES.index(role) >= ROLES.index(needed)


class Tokens:
    """The tokens of the pool of whoever calls."""

    def __init__(self) -> None:
        self._seen: tuple[int, int, int] | None = None
        self._known: dict[str, TokenRecord] = {}
        self._key_bytes = b""

    def create(self, name: str, role: Role, hours: float, now: float) -> tuple[TokenRecord, str]:
        """Make a token; return what is known of it, and the token, which is kept nowhere.

        Raises:
            RaveError: USAGE if the name or the time is none; HOST if it cannot be kept.
        """
        if not NAME.fullmatch(name) or not 0 < hours <= MOST_HOURS:
            raise RaveError(
                f"a token has a name of small letters, digits, '.', '_' and '-', and at most"
                f" {MOST_HOURS} hours",
                hint="rave pool token create ci --role submitter --hours 8",
                exit_code=ExitCode.USAGE,
            )
        with _changing():
            kept = [one for one in _read() if max(one.expires, one.revoked or 0) + LISTED > now]
            # Whole seconds, as the token has them.
            ends = float(int(now + hours * 3600))
            record = TokenRecord(secrets.token_hex(6), name, role, now, ends)
            _write([*kept, record])
            words = {
                "iss": ISSUER, "jti": record.number, "sub": name, "iat": int(now), "exp": int(ends),
            }  # fmt: skip
            return record, jwt.encode(words, _key(), algorithm=ALGORITHM)

    def all(self) -> list[TokenRecord]:
        """Return what is known of all, the newest last.

        Raises:
            RaveError: HOST if they cannot be read.
        """
        return list(_read())

    def revoke(self, which: str, now: float) -> list[TokenRecord]:
        """Revoke the token of a number, or all of a name; return them.

        Raises:
            RaveError: USAGE if there is none; HOST if it cannot be kept.
        """
        with _changing():
            tokens = _read()
            found = [one for one in tokens if which in (one.number, one.name) and one.good(now)]
            if not found:
                raise RaveError(
                    f"no token that may be used has the number or the name {which!r}",
                    hint="rave pool token list",
                    exit_code=ExitCode.USAGE,
                )
            gone = {one.number: replace(one, revoked=now) for one in found}
            _write([gone.get(one.number, one) for one in tokens])
            return list(gone.values())

    def holder(self, token: str, now: float) -> TokenRecord | None:
        """Return what is known of a token that may be used; None of any other.

        Raises:
            RaveError: SECRETS or HOST if the tokens cannot be read.
        """
        if len(token) > LONGEST or not token.isascii():
            return None
        self._refresh()
        if not self._key_bytes:
            return None
        # PyJWT compares in constant time (hmac.compare_digest).
        try:
            words = jwt.decode(
                token, self._key_bytes, algorithms=[ALGORITHM], issuer=ISSUER, options=_CHECKED
            )
        except jwt.InvalidTokenError:
            return None
        record = self._known.get(str(words["jti"]))
        return record if record is not None and record.good(now) else None

    def _refresh(self) -> None:
        """Read the tokens again if they are others than before."""
        found = _place().stat() if _place().exists() else None
        seen = found and (found.st_ino, found.st_mtime_ns, found.st_size)
        if seen is None or seen != self._seen:
            self._known = {one.number: one for one in _read()}
            self._key_bytes = _key() if self._known else b""
            self._seen = seen


def _place() -> Path:
    return folder() / "tokens.json"


def _changing() -> AbstractContextManager[None]:
    return paths.lock(paths.private_dir(folder()) / "tokens.lock", busy=None)


def _read() -> Sequence[TokenRecord]:
    if not _place().exists():
        return ()
    hint = f"mv {_place()} {_place()}.damaged; then make new ones: rave pool token create"
    return TOKENS.read(_place(), hint=hint).tokens


def _write(tokens: Sequence[TokenRecord]) -> None:
    TOKENS.write(_place(), TokensRecord(tuple(tokens)), mode=0o600)


def _key() -> bytes:
    """Return the key that signs tokens, made if there is none.

    Raises:
        RaveError: SECRETS if others may read it; HOST if it cannot be read or made.
    """
    place = folder() / "tokens.key"
    if not place.exists():
        paths.atomic_write(place, secrets.token_bytes(KEY_BYTES), mode=0o600)
    found = paths.read_private(place)
    if len(found) != KEY_BYTES:
        raise RaveError(
            f"{place} is no key of the pool's tokens",
            hint=f"mv {place} {place}.damaged; no token of before is good then",
            exit_code=ExitCode.SECRETS,
        )
    return found
