"""Sign-in, by the name under which Pagure asks for it: what it uses of Flask-OIDC, by Authlib.

Flask-OIDC itself is in no package that the guest has. It would look up the provider by its public
name, which leads nowhere in here, and read the client's secret from a file of its own.
Sources: OpenID Connect Core 1.0; RFC 7636 (PKCE).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from authlib.integrations.base_client import OAuthError
from authlib.integrations.flask_client import OAuth
from flask import abort, redirect, request, session, url_for
from requests import RequestException

if TYPE_CHECKING:
    from collections.abc import Iterable

    from flask import Flask
    from werkzeug.wrappers import Response

PROFILE, BACK = "rave_profile", "rave_back"
# Of our own programs: nobody signs in as them (rave_forge/accounts.py).
RESERVED = {"rave"}


class OpenIDConnect:
    """People are who the provider says that they are."""

    _client: Any

    def init_app(self, app: Flask) -> None:
        """Let people of an application sign in, as its setting RAVE_OIDC says where."""
        self._client = OAuth(app).register(
            name="rave",
            client_kwargs={
                "scope": "openid profile email groups",
                "code_challenge_method": "S256",
                "timeout": 60,
            },
            **app.config["RAVE_OIDC"],
        )
        app.add_url_rule("/authorize", "rave_authorize", self.come_back)

    def redirect_to_auth_server(self, back: str) -> Response:
        """Send somebody to where they sign in; afterwards they come to `back`."""
        session[BACK] = back
        return self._client.authorize_redirect(url_for("rave_authorize", _external=True))

    def come_back(self) -> Response:
        """Take somebody in who comes from there."""
        try:
            token = self._client.authorize_access_token()
        except OAuthError as error:
            abort(403, f"You are not signed in: {error.description or error.error}")
        except RequestException:
            abort(502, "Where people sign in does not answer")
        who = {**token["userinfo"], **self._client.userinfo(token=token)}
        if who["sub"] in RESERVED:
            abort(403, "This name is one of the machine's own")
        # Pagure knows nobody without an address; no mail is sent.
        who["email"] = who.get("email") or f"{who['sub']}@{request.host.partition(':')[0]}"
        session[PROFILE] = {name: who.get(name) for name in ("sub", "name", "email", "groups")}
        return redirect(session.pop(BACK, url_for("ui_ns.index")))

    @property
    def user_loggedin(self) -> bool:
        """Whether somebody has come back."""
        return PROFILE in session

    def user_getinfo(self, fields: Iterable[str]) -> dict[str, Any]:
        """Return what is known of who has, of these fields."""
        known = session[PROFILE]
        return {name: known[name] for name in fields if known.get(name) is not None}

    def logout(self) -> None:
        """Forget them."""
        session.pop(PROFILE, None)
