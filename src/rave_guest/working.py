"""Somebody signs in to the forge, as people and their programs do.

One visit, step by step, with an account that is made for it and deleted afterwards; each step is
a check of its own. What it leaves in Pagure is a name without a session or a token.
"""

from __future__ import annotations

import os
import re
import time
from contextlib import suppress

from rave_guest.journey import Broken, expect, travel
from rave_guest.refusal import Refused
from rave_guest.verdict import Verdict, passed
from rave_guest.wire.browser import Browser
from rave_guest.wire.forge import PagureError, tomorrow

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from http.client import HTTPConnection
    from typing import Any

    from rave_guest.wire.forge import PagureUser

    Accounts = Callable[[str, Mapping[str, Any]], dict[str, Any]]

USER = "rave-smoke-forge"
# How Pagure's page of settings shows a new token.
TOKEN = re.compile(r"\b[0-9A-Z]{64}\b")


class ForgeVisit:
    """What the steps know of each other."""

    def __init__(
        self, site: str, accounts_site: str, accounts: Accounts, *,
        connect: Callable[[str], HTTPConnection], forge: Callable[[str], PagureUser],
        headers: Mapping[str, str] = {},
    ) -> None:  # fmt: skip
        """Begin.

        Args:
            site: where the forge is, as people write it.
            accounts_site: where people sign in.
            accounts: carries out actions on accounts.
            connect: opens a connection to whatever serves a site.
            forge: of somebody's token, a program's way to the forge.
            headers: sent with every request.
        """
        self.site, self.accounts_site, self.accounts = site, accounts_site, accounts
        self.forge = forge
        self._connect, self._headers = connect, headers
        self.password = os.urandom(12).hex()
        self.here = self.browser(site)
        self.token = ""

    def browser(self, site: str) -> Browser:
        """Return a browser at a site."""
        return Browser(site, lambda: self._connect(site), self._headers)


def sign_in(visit: ForgeVisit) -> Verdict:
    """A one-time password is changed first; then the forge knows who it is."""
    one_time = visit.accounts("add", _account())["password"]
    began = time.monotonic()
    here = visit.here.open("/login/")
    there = visit.browser(visit.accounts_site)
    expect(here.url.startswith(f"{there.site}/"), f"one is not sent to sign in: {here.status}")
    there.open(here.url).submit(login=USER).submit(password=one_time)
    there.submit(password=visit.password, confirmation=visit.password)
    if there.here:
        there.submit(answer="accept")
    expect(there.url.startswith(f"{visit.site}/"), "nobody is sent back")
    here.open(there.url)
    expect(here.here and here.status == 200, f"the forge lets nobody in: {here.status}")
    seconds = round(time.monotonic() - began, 2)
    here.open("/settings")
    expect(here.status == 200 and USER in here.page, f"it does not know who it is: {here.status}")
    return passed(f"within {seconds} s, a one-time password changed first", seconds=seconds)


def token(visit: ForgeVisit) -> Verdict:
    """A token that they make on a page is theirs."""
    here = visit.here.open("/settings")
    before = set(TOKEN.findall(here.page))
    here.open("/settings/token/new")
    here.submit(acls="create_project", description="smoke", expiration_date=tomorrow())
    made = set(TOKEN.findall(here.page)) - before
    expect(len(made) == 1, f"{len(made)} new tokens are shown: {here.status}")
    (visit.token,) = made
    known = visit.forge(visit.token).whoami()
    expect(known == USER, f"it is {known or 'nobody'}'s")
    return passed("made on a page, and theirs")


def disabled(visit: ForgeVisit) -> Verdict:
    """What is open of somebody ends where they are disabled."""
    untold = visit.accounts("disable", {"user": USER})["untold"]
    expect("pagure" not in untold, "the forge could not be told")
    # The first answer ends the session, the next is a stranger's.
    visit.here.open("/settings").open("/settings")
    expect(not visit.here.here, "the session goes on")
    expect(visit.forge(visit.token).whoami() is None, "the token goes on")
    return passed("they are sent to sign in, and their token is nobody's")


# In this order.
STEPS: Mapping[str, Callable[[ForgeVisit], Verdict]] = {
    "sign-in": sign_in,
    "token": token,
    "disabled": disabled,
}
GROUND = ("sign-in", "token")


def make(visit: ForgeVisit) -> dict[str, Verdict]:
    """Make the journey; returns a verdict for each step. Its account is deleted before it, for one
    that was broken off, and afterwards.
    """
    _forget(visit)
    steps = {name: _refused(carry_out) for name, carry_out in STEPS.items()}
    try:
        return travel(visit, steps, GROUND)
    finally:
        _forget(visit)


def _refused(carry_out: Callable[[ForgeVisit], Verdict]) -> Callable[[ForgeVisit], Verdict]:
    """Return a step that breaks where Pagure refuses what it must not."""

    def carried_out(visit: ForgeVisit) -> Verdict:
        try:
            return carry_out(visit)
        except PagureError as error:
            raise Broken(f"Pagure answers {error}") from error

    return carried_out


def _forget(visit: ForgeVisit) -> None:
    with suppress(Refused):
        visit.accounts("delete", {"user": USER})


def _account() -> dict[str, Any]:
    return {"user": USER, "name": "Smoke", "email": "", "groups": [], "password": True}
