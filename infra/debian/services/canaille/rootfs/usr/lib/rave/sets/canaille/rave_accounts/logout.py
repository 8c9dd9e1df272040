"""Services hear at once of an account whose sessions end (OpenID Connect Back-Channel Logout 1.0).

Canaille 0.3.6 has no such thing. All sessions of an account are one here: its `sid` is its own, and
what ends ends everywhere.
"""

from __future__ import annotations

import logging
import secrets
import time
import urllib.request
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from canaille.app import models
from canaille.backends import Backend
from canaille.oidc import provider
from flask import current_app
from joserfc import jwt

from rave_accounts import clients

if TYPE_CHECKING:
    from collections.abc import Mapping

EVENT = "http://schemas.openid.net/event/backchannel-logout"
# Seconds for which such a token is good, and that a service may take to answer.
GOOD_FOR, ANSWERS = 120, 5.0


def name_sessions() -> None:
    """Say in each ID token to whose sessions it belongs."""
    generate = provider.OpenIDCode.generate_user_info

    def generate_named(grant: Any, user: Any, scope: Any) -> Any:
        info = generate(grant, user, scope)
        info["sid"] = _sessions(user)
        return info

    provider.OpenIDCode.generate_user_info = generate_named


def tell(user: Any) -> list[str]:
    """Tell every service that wants to know that an account's sessions have ended.

    Returns:
        The ids of those that could not be told.
    """
    wanted = (one for one in current_app.config[clients.KEY] if one.get("logout"))
    return [one["id"] for one in wanted if not _told(one, user)]


def _told(record: Mapping[str, Any], user: Any) -> bool:
    client = Backend.instance.get(models.Client, client_id=record["id"])
    if client is None:
        # Nobody has signed in there.
        return True
    body = urlencode({"logout_token": _token(client, user)}).encode()
    try:
        # The address is the catalog's.
        with urllib.request.urlopen(record["logout"], body, timeout=ANSWERS):  # noqa: S310
            return True
    except OSError as error:
        logging.warning("%s could not be told that sessions have ended: %s", record["id"], error)
        return False


def _token(client: Any, user: Any) -> str:
    config = provider.get_jwt_config(client)
    now = int(time.time())
    claims = {
        "iss": config["iss"], "aud": client.client_id, "iat": now, "exp": now + GOOD_FOR,
        "jti": secrets.token_hex(16), "events": {EVENT: {}},
        "sub": user.user_name, "sid": _sessions(user),
    }  # fmt: skip
    header = {"alg": config["alg"], "kid": config["kid"], "typ": "logout+jwt"}
    return str(jwt.encode(header, claims, config["key"], [config["alg"]]))


def _sessions(user: Any) -> str:
    return str(user.id)
