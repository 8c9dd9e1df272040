"""Who asks: whoever can open the pool's socket is its owner, anybody else has a token."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.api.limits import RateLimit
from rave_cli.pool.api.tokens import Role, Tokens, may
from rave_cli.pool.jobs.submission import holder_owner, local_owner

if TYPE_CHECKING:
    from starlette.requests import HTTPConnection

# Questions of one token, and tokens of one address that are not good.
ASKS_PER_SECOND, ASKS_AT_ONCE = 50.0, 200
GUESSES_PER_SECOND, GUESSES_AT_ONCE = 0.5, 20


@dataclass(frozen=True)
class Caller:
    """Whoever asks; `number` is that of the token, empty for the owner."""

    name: str
    role: Role
    number: str = ""

    @property
    def owner(self) -> str:
        """Who owns what they submit."""
        return holder_owner(self.name) if self.number else local_owner()


class RefusedCallerError(RaveError):
    """Whoever asks may not. `status` is that of HTTP; `wait` seconds until it is worth asking."""

    def __init__(self, status: int, message: str, *, hint: str, wait: int = 0) -> None:
        code = ExitCode.NOT_READY if wait else ExitCode.SECRETS
        super().__init__(message, hint=hint, exit_code=code)
        self.status, self.wait = status, wait


class Callers(Protocol):
    """Knows who asks."""

    def of(self, asking: HTTPConnection) -> Caller:
        """Return who asks, and count it.

        Raises:
            RefusedCallerError: they may not ask, or not so often.
        """

    def still(self, caller: Caller) -> bool:
        """Return whether somebody who was let in may still ask."""


class OwnerOnly:
    """Of a socket that only its owner can open."""

    def of(self, asking: HTTPConnection) -> Caller:
        """As Callers."""
        return Caller("owner", "admin")

    def still(self, caller: Caller) -> bool:
        """As Callers."""
        return True


@dataclass(frozen=True)
class TokenHolders:
    """Of the network: whoever has a token."""

    tokens: Tokens = field(default_factory=Tokens)
    asks: RateLimit = field(default_factory=lambda: RateLimit(ASKS_PER_SECOND, ASKS_AT_ONCE))
    guesses: RateLimit = field(
        default_factory=lambda: RateLimit(GUESSES_PER_SECOND, GUESSES_AT_ONCE)
    )

    def of(self, asking: HTTPConnection) -> Caller:
        """As Callers."""
        scheme, _, token = asking.headers.get("authorization", "").partition(" ")
        held = token.strip() if scheme.lower() == "bearer" else ""
        record = self.tokens.holder(held, time.time()) if held else None
        if record is None:
            where = asking.client.host if asking.client else ""
            wait = self.guesses.take(where)
            if wait:
                raise _too_often(wait)
            raise RefusedCallerError(
                401, "there is no token, or none that may be used",
                hint="on the pool's host: rave pool token create NAME; here: RAVE_POOL_TOKEN",
            )  # fmt: skip
        wait = self.asks.take(record.number)
        if wait:
            raise _too_often(wait)
        return Caller(record.name, record.role, record.number)

    def still(self, caller: Caller) -> bool:
        """As Callers."""
        now = time.time()
        known = (one for one in self.tokens.all() if one.number == caller.number)
        return any(one.good(now) for one in known)


def require(caller: Caller, needed: Role) -> None:
    """Refuse somebody who may not do what a role is needed for.

    Raises:
        RefusedCallerError: they may not.
    """
    if not may(caller.role, needed):
        raise RefusedCallerError(
            403, f"this takes the role {needed}; {caller.name} is {caller.role}",
            hint=f"on the pool's host: rave pool token create {caller.name} --role {needed}",
        )  # fmt: skip


def _too_often(wait: int) -> RefusedCallerError:
    return RefusedCallerError(429, "that is too often", hint=f"try again in {wait} s", wait=wait)
