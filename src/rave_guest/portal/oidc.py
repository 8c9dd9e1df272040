"""Signs somebody in by OpenID Connect: the code flow with PKCE, and what ends a session.

Sources: RFC 6749, 7636 (PKCE), 9207 (`iss`); OpenID Connect Core 1.0, 3.1; RP-Initiated Logout 1.0;
Back-Channel Logout 1.0.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import time
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, urlencode

from rave_guest import report
from rave_guest.wire import http, tokens

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

BACK = "/portal/callback"
LEEWAY = 60  # seconds by which two clocks may differ
ANSWERS = 30.0  # seconds; a provider on an emulated processor takes its time
ENDED = "http://schemas.openid.net/event/backchannel-logout"


class NotSignedIn(Exception):  # noqa: N818 - it reads as what happened
    """Somebody could not be signed in, and why, for them to read."""


class SignInProvider:
    """Who signs people in, as the portal is its client."""

    def __init__(self, wanted: Mapping[str, Any], origin: str) -> None:
        """Know it.

        Args:
            wanted: the addresses of the provider, of which those for browsers follow from the
                origin, and the client (portal.json).
            origin: the machine's public origin.
        """
        scheme, _, place = origin.partition("://")
        self.name, self.origin = wanted["name"], origin
        self._client, self._secret = wanted["client"], wanted["secret"]
        self._scopes = wanted["scopes"]
        self._token, self._keys = wanted["token"], wanted["jwks"]
        self._issuer, self._authorize, self._end = (
            wanted[one].format(scheme=scheme, place=place) for one in ("issuer", "authorize", "end")
        )

    def begin(self) -> tuple[str, dict[str, str]]:
        """Return where somebody is sent to sign in, and what must be known when they come back."""
        known = {name: os.urandom(32).hex() for name in ("state", "nonce", "verifier")}
        digest = hashlib.sha256(known["verifier"].encode()).digest()
        wanted = {
            "client_id": self._client, "redirect_uri": f"{self.origin}{BACK}",
            "response_type": "code", "scope": " ".join(self._scopes),
            "state": known["state"], "nonce": known["nonce"], "code_challenge_method": "S256",
            "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
        }  # fmt: skip
        return f"{self._authorize}?{urlencode(wanted)}", known

    def finish(self, answer: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
        """Return who has come back: `user`, `name`, and the `hint` by which they sign out.

        Args:
            answer: the query with which they came.
            known: what `begin` returned for them.

        Raises:
            NotSignedIn: it is not proven who they are.
        """
        if not hmac.compare_digest(answer.get("state", "").encode(), known["state"].encode()):
            raise NotSignedIn("this sign-in was begun by somebody else")
        if answer.get("iss", self._issuer) != self._issuer:
            raise NotSignedIn("this answer is of somebody else")
        if "code" not in answer:
            raise NotSignedIn(f"{self.name} did not sign you in")
        try:
            token = self._redeem(answer["code"], known["verifier"])
            claims = self._verified(token)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise NotSignedIn(f"{self.name} does not confirm who you are") from error
        if claims.get("nonce") != known["nonce"] or not claims.get("sub"):
            raise NotSignedIn("this answer is for somebody else")
        user = str(claims["sub"])
        return {"user": user, "name": str(claims.get("name") or user), "hint": token}

    def out(self, hint: str) -> str:
        """Return where somebody signs out of the provider; empty if it has no such place."""
        return f"{self._end}?{urlencode({'id_token_hint': hint})}" if self._end else ""

    def ended(self, token: str) -> str:
        """Return whose sessions a token of the provider's ends.

        Raises:
            ValueError: it is none, or none for this.
            OSError: the provider's keys cannot be had.
        """
        try:
            claims = self._verified(token)
            # One with a nonce is of a sign-in (Back-Channel Logout 1.0, 2.4).
            if ENDED not in claims["events"] or "nonce" in claims:
                raise ValueError("it ends nothing")
            return str(claims["sub"])
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError("it is no token that ends sessions") from error

    def _redeem(self, code: str, verifier: str) -> str:
        secret = report.read(self._secret)
        if not secret:
            raise ValueError("the client's secret is not installed")
        fields = {
            "grant_type": "authorization_code", "code": code,
            "redirect_uri": f"{self.origin}{BACK}", "code_verifier": verifier,
        }  # fmt: skip
        # RFC 6749, 2.3.1: both are encoded first.
        basic = b64encode(f"{quote(self._client)}:{quote(secret)}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"}
        answer = http.post(self._token, urlencode(fields), headers, ANSWERS)
        return str(json.loads(answer.body)["id_token"])

    def _verified(self, token: str) -> dict[str, Any]:
        """Return the claims of a token that is the provider's, for this client, and in time."""
        claims = tokens.verified(token, json.loads(http.get(self._keys, ANSWERS).body)["keys"])
        audience = claims["aud"] if isinstance(claims["aud"], list) else [claims["aud"]]
        if claims["iss"] != self._issuer or self._client not in audience:
            raise ValueError("the token is of or for somebody else")
        if claims["exp"] < time.time() - LEEWAY:
            raise ValueError("the token has expired")
        return claims
