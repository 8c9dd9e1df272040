"""Somebody signs in to a service: the code flow of OpenID Connect, and what it must refuse.

One journey, step by step, with an account that is made for it and deleted afterwards. Each step is
a check of its own. Sources: RFC 6749, 7636 (PKCE), 9207 (`iss`); OpenID Connect Core 1.0, Discovery
1.0, RP-Initiated Logout 1.0.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from base64 import b64encode, urlsafe_b64encode
from contextlib import suppress
from urllib.parse import parse_qs, urlencode, urlsplit

from rave_guest import journey as journeys
from rave_guest.journey import Broken, expect
from rave_guest.refusal import Refused
from rave_guest.verdict import Verdict, passed
from rave_guest.wire import tokens
from rave_guest.wire.browser import Browser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from http.client import HTTPConnection
    from typing import Any

    Accounts = Callable[[str, Mapping[str, Any]], dict[str, Any]]

USER = "rave-smoke"
DISCOVERY = "/.well-known/openid-configuration"


class Journey:
    """What the steps know of each other."""

    def __init__(
        self, site: str, client: Mapping[str, Any], secret: str, accounts: Accounts, *,
        connect: Callable[[], HTTPConnection], headers: Mapping[str, str] = {},
    ) -> None:  # fmt: skip
        """Begin one.

        Args:
            site: where the provider is, as people write it.
            client: the service's record (`oidcClient`), with `back`, where it is returned to.
            secret: by which the service proves to be itself.
            accounts: carries out actions on accounts.
            connect: opens a connection to whatever serves the site.
            headers: sent with every request.
        """
        self.site, self.client, self.accounts = site, client, accounts
        self._secret, self._connect, self._headers = secret, connect, headers
        self.password = ""
        self.known: dict[str, Any] = {}
        self.code = ""
        self.tokens: dict[str, Any] = {}
        self.somebody = self.browser()
        self.nonce, self.state = os.urandom(16).hex(), os.urandom(16).hex()
        self.verifier = os.urandom(32).hex()

    def browser(self) -> Browser:
        """Return somebody who has not been here yet."""
        return Browser(self.site, self._connect, self._headers, self.client["back"])

    def authorize(self, **more: str) -> str:
        """Return the address to which the service sends whoever wants to sign in."""
        digest = hashlib.sha256(self.verifier.encode()).digest()
        wanted = {
            "client_id": self.client["id"], "redirect_uri": self.client["back"],
            "response_type": "code", "scope": " ".join(self.client["scopes"]),
            "state": self.state, "nonce": self.nonce, "code_challenge_method": "S256",
            "code_challenge": urlsafe_b64encode(digest).rstrip(b"=").decode(),
        }  # fmt: skip
        return f"{self.known['authorization_endpoint']}?{urlencode({**wanted, **more})}"

    def ask(
        self, address: str, form: Mapping[str, str] | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, Any]:  # fmt: skip
        """Ask as the service does; returns the status, and the document that was answered."""
        asking = Browser(self.site, self._connect, {**self._headers, **headers})
        asking.open(address, form)
        try:
            return asking.status, json.loads(asking.page)
        except ValueError:
            return asking.status, {}

    def redeem(self, code: str, **more: str) -> tuple[int, Any]:
        """Redeem a code, as the service does."""
        fields = {
            "grant_type": "authorization_code", "code": code, "redirect_uri": self.client["back"],
            "code_verifier": self.verifier,
        }  # fmt: skip
        basic = b64encode(f"{self.client['id']}:{self._secret}".encode()).decode()
        headers = {"Authorization": f"Basic {basic}"}
        return self.ask(self.known["token_endpoint"], {**fields, **more}, headers)

    def come_back(self, browser: Browser) -> str:
        """Agree if that is asked, and return the code with which somebody is sent back.

        Raises:
            Broken: they are sent elsewhere, or without one.
        """
        if browser.here:
            browser.submit(answer="accept")
        query = parse_qs(urlsplit(browser.url).query)
        expect(browser.url.startswith(f"{self.client['back']}?"), "nobody is sent back")
        expect(query.get("state") == [self.state], "the state is another one")
        expect(query.get("iss") in ([self.site], None), "the code is somebody else's")
        expect("code" in query, f"there is no code but {', '.join(sorted(query))}")
        return query["code"][0]

    def new_code(self) -> str:
        """Return another code for whoever has signed in already."""
        return self.come_back(self.somebody.open(self.authorize()))

    def who(self) -> int:
        """Return how the address that tells who somebody is answers to the service's token."""
        headers = {"Authorization": f"Bearer {self.tokens['access_token']}"}
        return self.ask(self.known["userinfo_endpoint"], None, headers)[0]


def discovery(journey: Journey) -> str:
    """The provider says where everything is, below the machine's public origin."""
    status, journey.known = journey.ask(f"{journey.site}{DISCOVERY}")
    expect(status == 200, f"it answers {status}")
    known = journey.known
    expect(known["issuer"] == journey.site, f"the issuer is {known['issuer']}")
    elsewhere = [name for name in known if name.endswith(("_endpoint", "_uri")) and known[name]
                 and not known[name].startswith(f"{journey.site}/")]  # fmt: skip
    expect(not elsewhere, f"{', '.join(elsewhere)} are elsewhere")
    expect("S256" in known["code_challenge_methods_supported"], "it does not know PKCE")
    return f"the issuer is {journey.site}"


def sign_in(journey: Journey) -> str:
    """A one-time password is changed first; then a code, a signed token, and who it is."""
    began = time.monotonic()
    one_time = journey.accounts(
        "add", {"user": USER, "name": "Smoke", "email": "", "groups": [], "password": True}
    )["password"]
    journey.password = os.urandom(12).hex()
    somebody = journey.somebody.open(journey.authorize())
    somebody.submit(login=USER).submit(password=one_time)
    expect(f"/reset/{USER}" in somebody.url, "a one-time password need not be changed")
    somebody.submit(password=journey.password, confirmation=journey.password)
    journey.code = journey.come_back(somebody)
    status, journey.tokens = journey.redeem(journey.code)
    expect(status == 200, f"the code is answered with {status}")
    _, keys = journey.ask(journey.known["jwks_uri"])
    claims = verified(journey.tokens["id_token"], keys["keys"])
    wanted = {"iss": journey.site, "sub": USER, "nonce": journey.nonce}
    wrong = [name for name, value in wanted.items() if claims.get(name) != value]
    expect(not wrong, f"{', '.join(wrong)} of the token is another one")
    expect(journey.client["id"] in claims["aud"], "the token is for another service")
    expect(claims["exp"] > time.time(), "the token has expired")
    expect(journey.who() == 200, "the access token opens nothing")
    return f"signed in within {time.monotonic() - began:.1f} s, a one-time password changed first"


def reused_code(journey: Journey) -> str:
    """A code is worth something once."""
    code = journey.new_code()
    expect(journey.redeem(code)[0] == 200, "the code is refused the first time")
    return refused(journey.redeem(code), "a code that was used")


def wrong_verifier(journey: Journey) -> str:
    """A code is worth nothing to whoever did not ask for it."""
    return refused(journey.redeem(journey.new_code(), code_verifier="x" * 43), "another verifier")


def wrong_redirect(journey: Journey) -> str:
    """Nobody is sent, with a code, to an address that is not the service's."""
    elsewhere = f"{journey.site.replace('://', '://elsewhere.')}/"
    somebody = journey.somebody.open(journey.authorize(redirect_uri=elsewhere))
    expect(somebody.here, "somebody is sent to another address")
    expect(somebody.status == 400, f"it answers {somebody.status}")
    return "answered with 400, and sent nowhere"


def expired_token(journey: Journey) -> str:
    """A token opens nothing once its time is over."""
    status, journey.tokens = journey.redeem(journey.new_code())
    expect(status == 200, f"the code is answered with {status} {journey.tokens}")
    expect(journey.who() == 200, "the access token opens nothing")
    journey.accounts("expire", {"user": USER})
    status = journey.who()
    expect(status == 401, f"a token that has expired is answered with {status}")
    return "answered with 401"


def sign_out(journey: Journey) -> str:
    """Whoever signs out is asked who they are the next time."""
    somebody = journey.somebody
    hint = urlencode({"id_token_hint": journey.tokens["id_token"]})
    somebody.open(f"{journey.known['end_session_endpoint']}?{hint}")
    with suppress(ValueError):
        somebody.submit(answer="logout")
    return stays_out(journey, somebody)


def disabled(journey: Journey) -> str:
    """Whoever is disabled does not come in."""
    journey.accounts("disable", {"user": USER})
    somebody = journey.browser().open(journey.authorize())
    somebody.submit(login=USER).submit(password=journey.password)
    journey.accounts("enable", {"user": USER})
    return stays_out(journey, somebody)


def wrong_password(journey: Journey) -> str:
    """A wrong password opens nothing."""
    somebody = journey.browser().open(journey.authorize())
    somebody.submit(login=USER).submit(password=os.urandom(12).hex())
    return stays_out(journey, somebody)


# In this order: the first two make what the others use, and a wrong password lets an account wait.
STEPS: Mapping[str, Callable[[Journey], str]] = {
    "discovery": discovery,
    "code-flow": sign_in,
    "reused-code": reused_code,
    "wrong-verifier": wrong_verifier,
    "wrong-redirect": wrong_redirect,
    "expired-token": expired_token,
    "sign-out": sign_out,
    "disabled": disabled,
    "wrong-password": wrong_password,
}
GROUND = ("discovery", "code-flow")


def travel(journey: Journey) -> dict[str, Verdict]:
    """Make a journey; returns a verdict for each step. Its account is deleted afterwards."""
    with suppress(Refused):
        # One that a journey which was broken off has left.
        journey.accounts("delete", {"user": USER})
    verdicts = journeys.travel(journey, {name: _told(step) for name, step in STEPS.items()}, GROUND)
    with suppress(Refused):
        journey.accounts("delete", {"user": USER})
    return verdicts


def _told(step: Callable[[Journey], str]) -> Callable[[Journey], Verdict]:
    return lambda journey: passed(step(journey))


def stays_out(journey: Journey, somebody: Browser) -> str:
    """Return that somebody is asked who they are.

    Raises:
        Broken: they are not.
    """
    expect(somebody.here, "they come in")
    somebody.open(journey.authorize())
    expect(somebody.here and "/login" in somebody.url, "they are signed in")
    return "they are asked who they are"


def refused(answer: tuple[int, Any], what: str) -> str:
    """Return that a code was refused.

    Raises:
        Broken: it was not.
    """
    status, document = answer
    expect(status == 400 and document.get("error") == "invalid_grant", f"{what}: {status}")
    return f"{what} is answered with invalid_grant"


def verified(token: str, keys: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the claims of a token that one of the provider's keys signed.

    Raises:
        Broken: none did.
    """
    try:
        return tokens.verified(token, keys)
    except ValueError as error:
        raise Broken(str(error)) from error
