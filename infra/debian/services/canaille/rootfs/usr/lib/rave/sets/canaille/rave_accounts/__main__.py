"""Serves Canaille with the secrets that are in force.

Usage: python3 -IS /usr/lib/rave/sets/canaille rave_accounts SECRETS PORT ORIGIN CLIENTS HASHES

The files in SECRETS are read here and kept in memory: neither Canaille's environment nor its
configuration has them. Without secrets it starts nevertheless, with keys that it makes itself and
that end with it. ORIGIN has the machine's public origin, below which it has a site; without
one its address is the one that was asked for. CLIENTS and HASHES are what clients.py registers.
"""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from canaille import create_app
from joserfc.jwk import RSAKey
from waitress import create_server

from rave_accounts import accounts, clients, logout, onetime, tokens
from rave_accounts.control import Control, handed, own

if TYPE_CHECKING:
    from flask import Flask

LOOPBACK = "127.0.0.1"
FORWARDED = {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}


def keys(place: Path) -> dict[str, object]:
    """Return the configuration that is secret; `place`: directory of the secrets."""
    if not place.is_dir():
        return {"SECRET_KEY": secrets.token_hex(32)}
    return {
        "SECRET_KEY": (place / "secret-key").read_text().strip(),
        "CANAILLE_OIDC": {"ACTIVE_JWKS": [signing_key((place / "signing-key").read_text())]},
    }


def public_origin(file: Path) -> str:
    """Return the machine's public origin, which `file` holds; empty if it has none."""
    return file.read_text().strip() if file.exists() else ""


def known_as(app: Flask, name: str) -> None:
    """Give programs of this machine, which ask it by its address, the answers that everybody gets.
    Whoever asks by another name is led to this one by Canaille itself.
    """
    serve = app.wsgi_app

    def named(environ: dict[str, Any], start: Any) -> Any:
        if environ.get("HTTP_HOST", LOOPBACK).partition(":")[0] == LOOPBACK:
            environ |= {"HTTP_HOST": name, "wsgi.url_scheme": "https"}
        return serve(environ, start)

    app.wsgi_app = named


def signing_key(pem: str) -> dict[str, str]:
    """Return the key that signs tokens, as a JSON Web Key named by its thumbprint (RFC 7638)."""
    key = RSAKey.import_key(pem, {"use": "sig", "alg": "RS256"})
    key.ensure_kid()
    return {name: str(value) for name, value in key.as_dict(private=True).items()}


def notify(message: str) -> None:
    """Tell PID 1, as sd_notify(3) does."""
    if address := os.environ.get("NOTIFY_SOCKET"):
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
            channel.sendto(message.encode(), address)


def end(*_: object) -> None:
    """End. Requests that are under way still get their answer: waitress waits 5 s for them."""
    raise SystemExit


def main(place: str, port: str, origin: str, wanted: str, hashes: str) -> None:
    """Serve until the end."""
    base = public_origin(Path(origin))
    told = json.loads(Path(wanted).read_text())
    name = clients.below(base, told["site"]).partition("://")[2]
    app = create_app(keys(Path(place)) | ({"SERVER_NAME": name} if name else {}))
    if name:
        known_as(app, name)
    onetime.enforce(app)
    tokens.tell_apart()
    logout.name_sessions()
    clients.keep(app, told["clients"], Path(hashes).read_text(), base)
    server = create_server(
        app,
        host=LOOPBACK,
        port=int(port),
        # One works while the other waits for the database.
        threads=2,
        # nginx, on this machine, says who asked and by which name.
        trusted_proxy=LOOPBACK,
        trusted_proxy_headers=FORWARDED,
        ident=None,
    )
    Control(app, own(f"{os.environ['RUNTIME_DIRECTORY']}/control"), accounts.ACTIONS).start()
    if listener := handed("groups"):
        Control(app, listener, accounts.QUESTIONS).start()
    signal.signal(signal.SIGTERM, end)
    notify("READY=1")
    server.run()
    # Nothing is left to be put away, and taking its modules apart takes seconds under emulation.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
