"""Somebody visits the portal: signs in, sees what that opens, signs out; and what it refuses.

One journey, step by step, with an account that is made for it and deleted afterwards. Each step is
a check of its own.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from urllib.parse import parse_qs, urlencode, urlsplit

from rave_guest import journey as journeys
from rave_guest.journey import expect
from rave_guest.refusal import Refused
from rave_guest.verdict import Verdict, passed
from rave_guest.wire.browser import Browser

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from http.client import HTTPConnection
    from typing import Any

    Accounts = Callable[[str, Mapping[str, Any]], dict[str, Any]]

USER, NAME = "rave-smoke-portal", "Smoke at the portal"
BEGIN, BACK = "/portal/sign-in", "/portal/callback"
CLOSED = "/prometheus/api/v1/query?query=up"


class Visit:
    """What the steps know of each other."""

    def __init__(
        self, site: str, accounts_site: str, accounts: Accounts,
        connect: Callable[[str], HTTPConnection],
    ) -> None:  # fmt: skip
        """Begin.

        Args:
            site: the machine's public origin.
            accounts_site: where people sign in.
            accounts: carries out actions on accounts.
            connect: opens a connection to whatever serves a site.
        """
        self.site, self.accounts_site, self.accounts = site, accounts_site, accounts
        self._connect = connect
        self.here, self.there = self.browser(site), self.browser(accounts_site)
        # With what they came back.
        self.came = ""

    def browser(self, site: str) -> Browser:
        """Return a browser that has not been at a site yet."""
        return Browser(site, lambda: self._connect(site), {"Accept": "text/html"})

    def send(self, here: Browser, path: str = BEGIN) -> str:
        """Return where somebody is sent who is to sign in."""
        here.open(f"{self.site}{path}")
        expect(here.url.startswith(f"{self.accounts_site}/"), f"one is not sent on: {here.status}")
        return here.url

    def come_back(self, there: Browser) -> str:
        """Agree if that is asked, and return the address to which somebody is sent back."""
        if there.here:
            there.submit(answer="accept")
        expect(there.url.startswith(f"{self.site}{BACK}?"), "nobody is sent back")
        return there.url


def closed(visit: Visit) -> Verdict:
    """Whoever has not signed in sees the page, and is sent to sign in for what is behind it."""
    stranger = visit.browser(visit.site)
    stranger.open("/")
    expect(stranger.status == 200 and BEGIN in stranger.page, "the page offers no sign-in")
    visit.send(stranger, CLOSED)
    return passed("the page is there for everybody, Prometheus is not")


def sign_in(visit: Visit) -> Verdict:
    """Somebody signs in, and the page says who they are."""
    wanted = {"user": USER, "name": NAME, "email": "", "groups": [], "password": True}
    one_time = visit.accounts("add", wanted)["password"]
    began, password = time.monotonic(), os.urandom(12).hex()
    there = visit.there.open(visit.send(visit.here))
    there.submit(login=USER).submit(password=one_time)
    there.submit(password=password, confirmation=password)
    visit.came = visit.come_back(there)
    visit.here.open(visit.came)
    expect(visit.here.url == f"{visit.site}/", f"they are not let in: {visit.here.status}")
    expect(NAME in visit.here.page, "the page does not say who they are")
    return passed(f"signed in within {time.monotonic() - began:.1f} s")


def opened(visit: Visit) -> Verdict:
    """Whoever has signed in sees Prometheus, and changes nothing there."""
    visit.here.open(f"{visit.site}{CLOSED}")
    expect(visit.here.status == 200 and '"success"' in visit.here.page, "it does not open")
    visit.here.open(f"{visit.site}{CLOSED}", {"query": "up"})
    expect(visit.here.status == 403, f"something may be sent there: {visit.here.status}")
    return passed("it answers, and takes nothing")


def wrong_state(visit: Visit) -> Verdict:
    """A code that came with a sign-in that somebody else has begun lets nobody in."""
    other = visit.browser(visit.site)
    came = visit.come_back(visit.there.open(visit.send(other)))
    query = {name: values[0] for name, values in parse_qs(urlsplit(came).query).items()}
    return refused(visit, other, f"{BACK}?{urlencode({**query, 'state': os.urandom(32).hex()})}")


def reused_code(visit: Visit) -> Verdict:
    """With what somebody came back nobody comes in again, neither they nor another browser."""
    refused(visit, visit.browser(visit.site), visit.came)
    visit.here.open(visit.came)
    expect(visit.here.status == 400, f"it is taken again: {visit.here.status}")
    return passed("answered with 400")


def wrong_redirect(visit: Visit) -> Verdict:
    """Nobody is sent, with a code, to an address that is not the portal's."""
    sent = urlsplit(visit.send(visit.browser(visit.site)))
    query = {name: values[0] for name, values in parse_qs(sent.query).items()}
    query["redirect_uri"] = f"{visit.site}/elsewhere"
    there = visit.there.open(f"{visit.accounts_site}{sent.path}?{urlencode(query)}")
    expect(there.here, "somebody is sent to another address")
    expect(there.status == 400, f"it answers {there.status}")
    return passed("answered with 400, and sent nowhere")


def sign_out(visit: Visit) -> Verdict:
    """Whoever signs out is asked who they are, here and where the accounts are."""
    visit.here.open(f"{visit.site}/")
    visit.here.open("/portal/sign-out", {})
    expect(visit.here.status == 200, f"it is answered with {visit.here.status}")
    address = visit.here.page.partition('<a href="')[2].partition('"')[0].replace("&amp;", "&")
    visit.there.open(address)
    with suppress(ValueError):
        visit.there.submit(answer="logout")
    visit.there.open(visit.send(visit.here, CLOSED))
    expect(visit.there.here and "/login" in visit.there.url, "they are signed in")
    return passed("they are asked who they are")


STEPS: Mapping[str, Callable[[Visit], Verdict]] = {
    "closed": closed,
    "sign-in": sign_in,
    "open": opened,
    "wrong-state": wrong_state,
    "reused-code": reused_code,
    "wrong-redirect": wrong_redirect,
    "sign-out": sign_out,
}
GROUND = ("sign-in",)


def travel(visit: Visit) -> dict[str, Verdict]:
    """Make the visit; returns a verdict for each step. Its account is deleted afterwards."""
    with suppress(Refused):
        # One that a visit which was broken off has left.
        visit.accounts("delete", {"user": USER})
    verdicts = journeys.travel(visit, STEPS, GROUND)
    with suppress(Refused):
        visit.accounts("delete", {"user": USER})
    return verdicts


def refused(visit: Visit, who: Browser, address: str) -> Verdict:
    """Return that somebody does not come in by an address.

    Raises:
        Broken: they do.
    """
    who.open(f"{visit.site}{urlsplit(address).path}?{urlsplit(address).query}")
    expect(who.status == 400, f"it is answered with {who.status}")
    visit.send(who, CLOSED)
    return passed("answered with 400")
