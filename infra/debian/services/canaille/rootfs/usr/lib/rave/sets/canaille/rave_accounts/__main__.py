"""Serves Canaille with the secrets that are in force.

Usage: python3 -IS /usr/lib/rave/sets/canaille rave_accounts SECRETS PORT

The files in SECRETS are read here and kept in memory: neither Canaille's environment nor its
configuration has them. Without secrets it starts nevertheless, with keys that it makes itself and
that end with it.
"""

from __future__ import annotations

import os
import secrets
import signal
import socket
import sys
from pathlib import Path

from canaille import create_app
from joserfc.jwk import RSAKey
from waitress import create_server

from rave_accounts import onetime
from rave_accounts.control import Control

FORWARDED = {"x-forwarded-for", "x-forwarded-host", "x-forwarded-proto"}


def configuration(place: Path) -> dict[str, object]:
    """Return what the configuration file does not say; `place`: directory of the secrets."""
    if not place.is_dir():
        return {"SECRET_KEY": secrets.token_hex(32)}
    return {
        "SECRET_KEY": (place / "secret-key").read_text().strip(),
        "CANAILLE_OIDC": {"ACTIVE_JWKS": [signing_key((place / "signing-key").read_text())]},
    }


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


def main(place: str, port: str) -> None:
    """Serve until the end."""
    app = create_app(configuration(Path(place)))
    onetime.enforce(app)
    server = create_server(
        app,
        host="127.0.0.1",
        port=int(port),
        # One works while the other waits for the database.
        threads=2,
        # nginx, on this machine, says who asked and by which name.
        trusted_proxy="127.0.0.1",
        trusted_proxy_headers=FORWARDED,
        ident=None,
    )
    Control(app, f"{os.environ['RUNTIME_DIRECTORY']}/control").start()
    signal.signal(signal.SIGTERM, end)
    notify("READY=1")
    server.run()
    # Nothing is left to be put away, and taking its modules apart takes seconds under emulation.
    os._exit(0)


if __name__ == "__main__":
    main(*sys.argv[1:])
