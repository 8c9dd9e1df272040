"""Accounts of people, as the operator's commands see and change them: each returns plain data.

All run in Canaille's process, one at a time (control.py), within its application's context.
"""

from __future__ import annotations

import datetime
import secrets
from typing import TYPE_CHECKING, Any

from canaille.app import models
from canaille.backends import Backend
from flask import current_app

from rave_accounts import clients, logout
from rave_accounts.onetime import DATED_BACK

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

# Bytes from the system's generator: 128 bits, 22 characters.
ONE_TIME = 16


class Refused(Exception):  # noqa: N818 - it reads as what happened
    """What was asked for cannot be done; `reason` is `exists` or `absent`."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


def add(user: str, *, name: str, email: str, groups: list[str], password: bool) -> dict[str, Any]:
    """Make an account; with `password`, one that is used once. The same one again changes nothing.

    Raises:
        Refused: there is another account of that name, or with that address.
    """
    there = found(user)
    if there is not None:
        known = document(there)
        if (known["name"], known["email"], known["groups"]) != (name, email, sorted(groups)):
            raise Refused("exists", f"there is another account {user}")
        return {"changed": False, "user": known}
    if email and Backend.instance.query(models.User, emails=email):
        raise Refused("exists", f"another account has the address {email}")
    given, _, family = name.rpartition(" ")
    made = models.User(
        user_name=user, formatted_name=name, given_name=given or None, family_name=family,
        emails=[email] if email else [],
    )  # fmt: skip
    Backend.instance.save(made)
    made.groups = [group(title) for title in groups]
    Backend.instance.save(made)
    more = {"password": renew_password(made)} if password else {}
    return {"changed": True, "user": document(made), **more}


def listing() -> dict[str, Any]:
    """Return every account, by name."""
    every = Backend.instance.query(models.User)
    return {"users": sorted(map(document, every), key=lambda known: known["id"])}


def show(user: str) -> dict[str, Any]:
    """Return one account.

    Raises:
        Refused: there is none of that name.
    """
    return {"user": document(existing(user))}


def disable(user: str) -> dict[str, Any]:
    """Let nobody sign in with an account any more, and end what is open of it."""
    there = existing(user)
    changed = not there.locked
    if changed:
        there.lock_date = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        Backend.instance.save(there)
    untold = end_everything(there)
    return {"changed": changed, "user": document(there), "untold": untold}


def enable(user: str) -> dict[str, Any]:
    """Lift `disable`."""
    there = existing(user)
    changed = there.lock_date is not None
    if changed:
        there.lock_date = None
        Backend.instance.save(there)
    return {"changed": changed, "user": document(there)}


def delete(user: str) -> dict[str, Any]:
    """Remove an account with all that is open of it; that there is none is no fault."""
    there = found(user)
    if there is None:
        return {"changed": False}
    untold = end_everything(there)
    Backend.instance.delete(there)
    forget_empty_groups()
    return {"changed": True, "untold": untold}


def reset_password(user: str) -> dict[str, Any]:
    """Replace the password of an account by one that is used once."""
    there = existing(user)
    untold = end_everything(there)
    there.password_failure_timestamps = []
    password = renew_password(there)
    return {"changed": True, "password": password, "user": document(there), "untold": untold}


def change_groups(user: str, *, add: list[str], remove: list[str]) -> dict[str, Any]:
    """Put an account into groups, which are made as they are needed, and take it out of others."""
    there = existing(user)
    before = {known.display_name for known in there.groups}
    after = (before | set(add)) - set(remove)
    if after != before:
        there.groups = [group(title) for title in sorted(after)]
        Backend.instance.save(there)
        forget_empty_groups()
    return {"changed": after != before, "user": document(there)}


def list_clients() -> dict[str, Any]:
    """Return the services that sign people in here."""
    return clients.listing(current_app.config[clients.KEY])


def revoke_client(client: str) -> dict[str, Any]:
    """End what a service was issued: it signs people in anew.

    Raises:
        Refused: there is no such client.
    """
    ended = clients.end(client)
    if ended is None:
        raise Refused("absent", f"there is no client {client}")
    return {"changed": ended > 0}


def take_client_secret(client: str, sha256: str) -> dict[str, Any]:
    """Know a service by another secret besides the one that it has, of both the hash alone.

    Raises:
        Refused: there is no such client.
    """
    if not clients.take(client, sha256):
        raise Refused("absent", f"there is no client {client}")
    return {"changed": True}


def forget_client_secret(client: str, sha256: str) -> dict[str, Any]:
    """Know a service by its secret of before no longer."""
    clients.forget(client, sha256)
    return {"changed": True}


def expire(user: str) -> dict[str, Any]:
    """Let the time of an account's tokens be over: the smoke suite does not wait an hour for it. No
    verb of the guest leads here.
    """
    tokens = Backend.instance.query(models.Token, subject=existing(user))
    for token in tokens:
        token.issue_date -= datetime.timedelta(seconds=int(token.lifetime or 0) + 1)
        Backend.instance.save(token)
    return {"changed": bool(tokens)}


ACTIONS: dict[str, Callable[..., dict[str, Any]]] = {
    "add": add,
    "list": listing,
    "show": show,
    "disable": disable,
    "enable": enable,
    "delete": delete,
    "reset-password": reset_password,
    "groups": change_groups,
    "clients": list_clients,
    "revoke-client": revoke_client,
    "take-client-secret": take_client_secret,
    "forget-client-secret": forget_client_secret,
    "expire": expire,
}


def groups_of(user: str) -> dict[str, Any]:
    """Return the groups of an account that may be used; of one that is disabled none.

    Raises:
        Refused: there is none of that name.
    """
    there = existing(user)
    return {"groups": [] if there.locked else document(there)["groups"]}


# What a service of this machine may ask.
QUESTIONS: dict[str, Callable[..., dict[str, Any]]] = {"groups-of": groups_of}


def found(user: str) -> Any:
    """Return the account of a name, or None."""
    return Backend.instance.get(models.User, user_name=user)


def existing(user: str) -> Any:
    """Return the account of a name.

    Raises:
        Refused: there is none.
    """
    there = found(user)
    if there is None:
        raise Refused("absent", f"there is no account {user}")
    return there


def group(title: str) -> Any:
    """Return the group of a name; it is made if there is none."""
    there = Backend.instance.get(models.Group, display_name=title)
    if there is None:
        there = models.Group(display_name=title)
        Backend.instance.save(there)
    return there


def forget_empty_groups() -> None:
    """Delete groups in which nobody is left."""
    for there in Backend.instance.query(models.Group):
        Backend.instance.reload(there)
        if not there.members:
            Backend.instance.delete(there)


def renew_password(there: Any) -> str:
    """Give an account a password that is used once, and return it."""
    password = secrets.token_urlsafe(ONE_TIME)
    Backend.instance.set_user_password(there, password)
    there.password_last_update = datetime.datetime.now(datetime.UTC) - DATED_BACK
    Backend.instance.save(there)
    return password


def end_everything(there: Any) -> list[str]:
    """Revoke the codes and tokens of an account, and end its sessions at services.

    Returns:
        The clients whose service could not be told: sessions go on there until they run out.
    """
    kinds: Iterable[Any] = (models.AuthorizationCode, models.Token)
    for kind in kinds:
        for issued in Backend.instance.query(kind, subject=there):
            Backend.instance.delete(issued)
    return logout.tell(there)


def document(there: Any) -> dict[str, Any]:
    """Return what is told of an account."""
    has_password = there.has_password()
    return {
        "id": there.user_name,
        "name": there.formatted_name or "",
        "email": there.preferred_email or "",
        "groups": sorted(known.display_name for known in there.groups),
        "state": "disabled" if there.locked else "enabled",
        "password": ("one-time" if there.has_expired_password() else "set")
        if has_password
        else "none",
        "created": there.created.isoformat() if there.created else "",
    }
