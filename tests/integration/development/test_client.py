"""The web client of Matrix in a real browser: somebody signs in there, writes, and hears another.

Asked for as test_up.py is; RAVE_CHROMIUM names the browser.
"""

from __future__ import annotations

import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING
from urllib.parse import quote

import pytest

from rave_cli.errors import RaveError
from rave_cli.flows import accounts
from tests.integration.development import ASKED_FOR
from tests.integration.development.pages import click, sign_in, text, there
from tests.integration.development.people import chatting, site
from tests.integration.portal import chromium
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.machines.spec import Machine
    from rave_guest.chat import Chat

CHROMIUM = os.environ.get("RAVE_CHROMIUM")
pytestmark = [
    *ASKED_FOR,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(not CHROMIUM, reason="RAVE_CHROMIUM: not named"),
]

PERSON, OTHER = "rave-client", "rave-other"
PASSWORD = "a new one, of mine"
# Where somebody writes, and the room that asks them in.
COMPOSER, INVITATION = ".MessageComposer_input textarea", ".RoomList li a"
MESSAGE = "m.room.message"


@pytest.fixture(scope="module")
def other(machine: Machine) -> Iterator[Chat]:
    """Somebody else in the chat, with a client of their own."""
    with chatting(machine, OTHER) as talk:
        yield talk


@pytest.fixture
def browser(machine: Machine, tmp_path: Path) -> Iterator[chromium.Chromium]:
    """A browser in which the person has signed in for the first time."""
    gone = {"user": PERSON}
    with suppress(RaveError):
        accounts.ask(machine.name, "delete", **gone)
    about = {"name": "Alice Liddell", "email": "", "groups": [], "password": True}
    once = accounts.ask(machine.name, "add", **gone, **about).password
    try:
        with chromium.running(str(CHROMIUM), tmp_path / "profile") as page:
            page.open(site(machine, "hydrogen"), width=1100)
            click(page, ".StartSSOLoginView_button")
            sign_in(page, PERSON, str(once), PASSWORD)
            until(lambda: there(page, ".SessionView"))
            yield page
    finally:
        accounts.ask(machine.name, "delete", **gone)


def test_people_talk_in_the_web_client(
    browser: chromium.Chromium, other: Chat, tmp_path: Path
) -> None:
    person = f"@{PERSON}:{other.one.user.partition(':')[2]}"
    room = other.one.create_room(person)
    other.rooms.append(room)
    click(browser, INVITATION)
    click(browser, ".InviteView_buttonRow button.primary")
    until(lambda: there(browser, COMPOSER))

    said, heard = "what is said <b>in</b> a browser", "what is heard <i>there</i>"
    write(browser, said)
    until(lambda: said in texts(other, room))
    other.one.send(room, heard)
    until(lambda: heard in text(browser))
    assert not browser.ask("document.querySelectorAll('.Timeline_message i').length")
    browser.picture(tmp_path / "hydrogen.png")
    # What Matrix does not have yet, a key's copy, is a complaint, too.
    assert [said for said in browser.complaints if "Content Security Policy" in said] == []


def write(browser: chromium.Chromium, said: str) -> None:
    """Write into the field at the bottom and send it."""
    browser.ask(
        f"(field => {{ field.value = {json.dumps(said)};"
        " field.dispatchEvent(new Event('input', { bubbles: true }));"
        " field.dispatchEvent(new KeyboardEvent('keydown', { key: 'Enter', bubbles: true })); })"
        f"(document.querySelector({json.dumps(COMPOSER)}))"
    )


def texts(other: Chat, room: str) -> list[str]:
    """Return what has been said in a room, the last first."""
    found = other.one.ask("GET", f"/rooms/{quote(room)}/messages?dir=b&limit=20")["chunk"]
    return [event["content"].get("body", "") for event in found if event["type"] == MESSAGE]
