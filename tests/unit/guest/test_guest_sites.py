"""Sites of applications that are behind the portal's sign-in: who is let in there, and who not."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rave_guest.portal import program
from tests.unit.guest.test_guest_visitors import LINKS, ORIGIN, WANTED, Canaille, Visitor, canaille

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["canaille"]

BOARD, OTHER = "vibe-kanban", "another"
PLACE = ORIGIN.partition("://")[2]


@pytest.fixture
def portal(tmp_path: Path) -> program.Portal:
    (tmp_path / "secret").write_text("s" * 64)
    wanted = WANTED | {"secret": str(tmp_path / "secret")}
    settings = {
        "prometheus": None, "charts": True, "provider": wanted, "links": LINKS,
        "sites": [BOARD, OTHER],
    }  # fmt: skip
    return program.Portal(settings, str(tmp_path / "run"), ORIGIN)


class Browser(Visitor):
    """One with the cookies of each site apart, as a browser keeps them."""

    def __init__(self, portal: program.Portal) -> None:
        super().__init__(portal)
        self.jars: dict[str, dict[str, str]] = {}

    def at(self, site: str, address: str) -> Any:
        """Ask a site, or the machine's own place."""
        self.cookies = self.jars.setdefault(site, {})
        try:
            return self.ask(address, host=f"{site}.{PLACE}" if site else PLACE)
        finally:
            self.cookies = self.jars.setdefault("", {})

    def led(self, site: str = BOARD) -> str:
        """Return the query with which a site sends somebody to sign in."""
        answer = self.at(site, "/portal/sign-in")
        assert answer.status == 303
        where, _, query = location(answer).partition("?")
        assert where == f"{ORIGIN}/portal/sign-in"
        return query

    def passed(self, query: str) -> str:
        """Return the pass with which somebody who has signed in is sent back."""
        answer = self.at("", f"/portal/sign-in?{query}")
        assert answer.status == 303
        return location(answer).partition("?pass=")[2]

    def enters(self, given: str, site: str = BOARD) -> int:
        return int(self.at(site, f"/portal/enter?pass={given}").status)

    def let_in(self, site: str) -> bool:
        status: int = self.at(site, "/portal/session").status
        return status == 204


def location(answer: Any) -> str:
    return str(dict(answer.headers)["Location"])


@pytest.fixture
def browser(portal: program.Portal, canaille: Canaille) -> Browser:
    """Somebody who has signed in at the machine's own place."""
    found = Browser(portal)
    found.cookies = found.jars.setdefault("", {})
    found.sign_in(canaille)
    assert found.let_in("")
    return found


def test_who_has_signed_in_is_let_in_at_a_site_too(browser: Browser) -> None:
    assert not browser.let_in(BOARD)
    assert browser.enters(browser.passed(browser.led())) == 303
    assert browser.let_in(BOARD)
    assert not browser.let_in(OTHER)
    assert all("Domain" not in one for one in browser.set)


def test_who_has_not_signed_in_does_so_first(portal: program.Portal, canaille: Canaille) -> None:
    fresh = Browser(portal)
    fresh.cookies = fresh.jars.setdefault("", {})
    query = fresh.led()
    answer = fresh.sign_in(canaille, to=query.removeprefix("to="))
    where, _, given = location(answer).partition("?pass=")
    assert where == f"https://{BOARD}.{PLACE}/portal/enter"
    assert fresh.enters(given) == 303
    assert fresh.let_in(BOARD)


def test_a_pass_is_good_once_for_its_site_and_for_who_asked(browser: Browser) -> None:
    given = browser.passed(browser.led())
    assert browser.enters(given) == 303
    browser.led()
    assert browser.enters(given) == 400

    browser.led(OTHER)
    assert browser.enters(browser.passed(browser.led()), OTHER) == 400
    assert not browser.let_in(OTHER)

    # Somebody else's browser, which an attacker sends there with a pass of theirs.
    victim = Browser(browser.portal)
    victim.led()
    assert victim.enters(browser.passed(browser.led())) == 400
    assert not victim.let_in(BOARD)
    # One that began nothing.
    assert Browser(browser.portal).enters(browser.passed(browser.led())) == 400


def test_a_pass_is_not_asked_for_at_the_machines_own_place(browser: Browser) -> None:
    given = browser.passed(browser.led())
    assert browser.at("", f"/portal/enter?pass={given}").status == 400


def test_a_session_of_a_site_opens_nothing_else(browser: Browser) -> None:
    browser.enters(browser.passed(browser.led()))
    seen = browser.jars[BOARD][program.SESSION]
    for site in ("", OTHER):
        thief = Browser(browser.portal)
        thief.jars[site] = {program.SESSION: seen}
        assert not thief.let_in(site)
    thief = Browser(browser.portal)
    thief.jars[BOARD] = {program.SESSION: browser.jars[""][program.SESSION]}
    assert not thief.let_in(BOARD)


def test_the_provider_ends_sessions_of_sites_too(browser: Browser) -> None:
    browser.enters(browser.passed(browser.led()))
    browser.portal._sessions().end(lambda known: bool(known["user"]))
    assert not browser.let_in(BOARD)
    assert not browser.let_in("")


@pytest.mark.parametrize("host", ["", PLACE, f"unknown.{PLACE}", f"{BOARD}.elsewhere", BOARD])
def test_a_name_that_is_no_site_is_none(browser: Browser, host: str) -> None:
    answer = browser.ask("/portal/enter?pass=x", host=host)
    assert answer.status == 400


def test_a_machine_without_such_sites_has_none(canaille: Canaille, tmp_path: Path) -> None:
    settings = {"prometheus": None, "charts": True, "provider": None, "links": LINKS}
    there = Browser(program.Portal(settings, str(tmp_path), ORIGIN))
    assert there.at(BOARD, "/portal/sign-in").status == 404
    assert there.enters("x") == 400
