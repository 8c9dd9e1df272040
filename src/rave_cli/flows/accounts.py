"""Who may sign in to a machine's services: asked and changed through the door into its guest."""

from __future__ import annotations

import re
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from rave_cli.flows.provided import ProvidedVerb, operator

ACCOUNTS = ProvidedVerb("accounts", "oidc", "keeps no accounts", "to sign in to")


class Account(BaseModel):
    """Somebody's account: `password` is `set`, `one-time` or `none`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: str
    email: str
    groups: tuple[str, ...]
    state: str
    password: str
    created: str


class SignInClient(BaseModel):
    """A service to which people sign in: `secret` names the secret by which it proves to be itself;
    it is `registered` once that is installed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    service: str
    redirects: tuple[str, ...]
    scopes: tuple[str, ...]
    secret: str
    registered: bool


class AccountAnswer(BaseModel):
    """What became of a request: whether anything changed, and whom it was about.

    `password` is one that is used once; nothing shows it but what was asked to. At the services
    `untold`, sessions that should have ended go on until they run out.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    changed: bool = False
    user: Account | None = None
    users: tuple[Account, ...] = ()
    clients: tuple[SignInClient, ...] = ()
    password: str | None = Field(default=None, repr=False)
    untold: tuple[str, ...] = ()

    def document(self, machine: str) -> dict[str, Any]:
        """Return the answer for JSON, with the password if there is one."""
        found: dict[str, Any] = {"machine": machine, "changed": self.changed}
        if self.untold:
            found["untold"] = list(self.untold)
        if self.user is not None:
            found["user"] = self.user.model_dump()
        return found if self.password is None else found | {"password": self.password}


def ask(name: str, action: str, /, **arguments: Any) -> AccountAnswer:  # noqa: ANN401 - JSON data
    """Let a running machine carry out an action on its accounts.

    Args:
        name: the machine.
        action: one of the guest's (rave_guest/accounts.py).
        arguments: what it takes.

    Raises:
        RaveError: USAGE if the machine keeps no accounts, or there is no such account, or another
            one; NOT_READY if it cannot be reached, or what keeps its accounts does not answer.
    """
    user = arguments.get("user")
    hints = {
        "input": "rave user add --help",
        "exists": f"rave user show {name} {user}; rave user list {name}",
        "absent": f"rave user list {name}" if user else f"rave oauth clients {name}",
    }
    return ACCOUNTS.ask(name, action, arguments, AccountAnswer, hints)


def sessions_left(user: str, answer: AccountAnswer, again: str = "") -> str:
    """Return the warning that sessions of somebody go on; nothing if none do.

    Args:
        user: their account.
        answer: what became of it.
        again: the command that tells those services once more, if there is one.
    """
    if not answer.untold:
        return ""
    where = " and ".join(answer.untold)
    hint = f" Once it answers: {again}" if again else ""
    return f"{where} could not be told: sessions of {user} there go on until they run out.{hint}"


def first(name: str) -> AccountAnswer | None:
    """Make the first account of a running machine, the caller's, with a password that is used once;
    None if there are accounts.

    Raises:
        RaveError: as `ask`.
    """
    if ask(name, "list").users:
        return None
    user = _as_user(operator().partition("@")[0])
    return ask(name, "add", user=user, name=user, email="", groups=["admin"], password=True)


def _as_user(text: str) -> str:
    """Return an account of this host as a name that the guest takes (rave_guest/accounts.py)."""
    kept = re.sub(r"[^a-z0-9._-]+", "", text.lower()).lstrip("0123456789._-")[:32]
    return kept or "operator"
