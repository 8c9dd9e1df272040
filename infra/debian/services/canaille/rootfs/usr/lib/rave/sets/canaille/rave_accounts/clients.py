"""The clients of single sign-on: what services of this machine need, registered at each start.

What is wanted are records of the catalog (`oidcClient`); a line "ID SHA-256" is there for each
whose secret is installed. A client is registered as its record says, as often as that is done; one
without a secret, or whose record is gone, is none. The database has a secret's hash alone: it is
random and long, so that there is nothing to guess.
"""

from __future__ import annotations

import datetime
import hashlib
import hmac
from typing import TYPE_CHECKING, Any

from canaille.app import models
from canaille.backends import Backend
from canaille.oidc.models import Client
from flask import current_app

if TYPE_CHECKING:
    from flask import Flask

# What is ours among the clients: nobody else registers any, but somebody might by hand.
MARK = "rave"
KEY = "RAVE_CLIENTS"
# Hashes that clients are known by besides, by their ids, while a secret is renewed.
ALSO = "RAVE_CLIENTS_ALSO"


def below(origin: str, site: str | None) -> str:
    """Return the address of a site below the machine's public origin, or of what is at the origin
    itself; empty without one.
    """
    scheme, _, place = origin.partition("://")
    return f"{scheme}://{f'{site}.' if site else ''}{place}" if place else ""


def keep(app: Flask, wanted: list[dict[str, Any]], hashes: str, origin: str) -> None:
    """Register what is wanted, and let nothing else be registered."""
    known = dict(line.split() for line in hashes.splitlines())
    app.config[ALSO] = {}
    app.config[KEY] = [
        record
        | {"redirects": [below(origin, record["site"]) + path for path in record["redirects"]]}
        for record in wanted
    ]
    Client.check_client_secret = _check(Client.check_client_secret)
    with app.app_context(), Backend.instance.session():
        there = {client.client_id: client for client in _ours()}
        for record in app.config[KEY] if origin else ():
            if record["id"] in known:
                client = there.pop(record["id"], None) or models.Client(client_id=record["id"])
                _register(client, record, known[record["id"]])
        for client in there.values():
            Backend.instance.delete(client)


def _register(client: Any, record: dict[str, Any], secret: str) -> None:
    facts = {
        "client_name": record["title"],
        "client_secret": secret,
        "redirect_uris": record["redirects"],
        "scope": record["scopes"],
        "grant_types": ["authorization_code"],
        "response_types": ["code"],
        "token_endpoint_auth_method": "client_secret_basic",
        "software_id": MARK,
    }
    if all(getattr(client, name) == value for name, value in facts.items()):
        return
    if client.client_id_issued_at is None:
        client.client_id_issued_at = datetime.datetime.now(datetime.UTC)
    for name, value in facts.items():
        setattr(client, name, value)
    Backend.instance.save(client)
    client.audience = [client]
    Backend.instance.save(client)


def _check(before: Any) -> Any:
    def check(client: Any, secret: str) -> bool:
        if client.software_id != MARK:
            return bool(before(client, secret))
        shown = hashlib.sha256(secret.encode()).hexdigest()
        known = (client.client_secret, *current_app.config[ALSO].get(client.client_id, ()))
        return any(hmac.compare_digest(shown, one) for one in known)

    return check


def _ours() -> list[Any]:
    return list(Backend.instance.query(models.Client, software_id=MARK))


def listing(wanted: list[dict[str, Any]]) -> dict[str, Any]:
    """Return what is wanted, and whether it is registered, with its secret's hash in short."""
    there = {client.client_id: client for client in _ours()}
    return {
        "clients": [
            {
                "id": record["id"],
                "service": record["service"],
                "redirects": record["redirects"],
                "scopes": record["scopes"],
                "secret": record["secret"],
                "registered": record["id"] in there,
            }
            for record in wanted
        ]
    }


def take(identifier: str, sha256: str) -> bool:
    """Know a client by another secret, and by the one of before until that is forgotten; return
    whether there is such a client.
    """
    client = _ours_of(identifier)
    if client is None:
        return False
    before = client.client_secret
    if before != sha256:
        also = current_app.config[ALSO]
        also[identifier] = {*also.get(identifier, ()), before} - {sha256}
        client.client_secret = sha256
        Backend.instance.save(client)
    return True


def forget(identifier: str, sha256: str) -> None:
    """Know a client no longer by a secret of before."""
    also = current_app.config[ALSO]
    also[identifier] = set(also.get(identifier, ())) - {sha256}


def _ours_of(identifier: str) -> Any:
    found = Backend.instance.get(models.Client, client_id=identifier)
    return found if found is not None and found.software_id == MARK else None


def end(identifier: str) -> int | None:
    """Revoke all codes and tokens of a client; return how many, None if there is no such client."""
    client = Backend.instance.get(models.Client, client_id=identifier)
    if client is None:
        return None
    issued = [
        one
        for kind in (models.AuthorizationCode, models.Token)
        for one in Backend.instance.query(kind, client=client)
    ]
    for one in issued:
        Backend.instance.delete(one)
    return len(issued)
