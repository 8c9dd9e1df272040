"""Where the provider tells that somebody's sessions have ended (OpenID Connect Back-Channel Logout
1.0, 2.6). Their API tokens end, too: whoever is disabled pushes nothing any more.
"""

from __future__ import annotations

import datetime
import logging
from typing import TYPE_CHECKING, Any

import requests
from authlib.jose import JsonWebKey, JsonWebToken
from authlib.jose.errors import JoseError
from flask import current_app, g, request
from pagure.lib import query

if TYPE_CHECKING:
    from collections.abc import Mapping

    from flask import Flask

EVENT = "http://schemas.openid.net/event/backchannel-logout"
LEEWAY = 60  # seconds
TIMEOUT = 20.0  # seconds


def serve(app: Flask) -> None:
    """Take logout tokens at /rave/logout, which nginx serves to nobody."""
    app.add_url_rule("/rave/logout", "rave_logout", logout, methods=["POST"])


def logout() -> tuple[str, int]:
    """End what is open of whom the token names."""
    provider = current_app.config["RAVE_OIDC"]
    try:
        keys = requests.get(provider["jwks_uri"], timeout=TIMEOUT).json()
        claims = verified(request.form.get("logout_token", ""), keys, provider)
    except (JoseError, ValueError, requests.RequestException) as error:
        logging.warning("a logout token is refused: %s", error)
        return "refused", 400
    end_everything(g.session, claims["sub"])
    return "", 200


def verified(token: str, keys: Mapping[str, Any], provider: Mapping[str, str]) -> Mapping[str, Any]:
    """Return what a logout token says.

    Raises:
        JoseError: nobody signed it, or it is not for us, or not for now.
        ValueError: it is no logout token.
    """
    wanted = {
        "iss": {"essential": True, "value": provider["issuer"]},
        "aud": {"essential": True, "value": provider["client_id"]},
        "sub": {"essential": True},
        "iat": {"essential": True},
    }
    key_set = JsonWebKey.import_key_set(keys)
    claims = JsonWebToken(["RS256"]).decode(token, key_set, claims_options=wanted)
    claims.validate(leeway=LEEWAY)
    if EVENT not in claims.get("events", {}) or "nonce" in claims:
        raise ValueError("it is no logout token")
    found: Mapping[str, Any] = claims
    return found


def end_everything(session: Any, username: str) -> None:
    """Refuse sessions that began before now, and end the API tokens of an account."""
    user = query.search_user(session, username=username)
    if user is None:
        return
    now = datetime.datetime.now(datetime.UTC).replace(tzinfo=None)
    user.refuse_sessions_before = now
    for token in user.tokens:
        token.expiration = min(token.expiration, now)
    session.commit()
