"""Two people sign in to Matrix and write to each other, as their programs do.

One journey, step by step, with accounts that are made for it and deleted afterwards; each step is a
check of its own. In Matrix nothing is left of them but their names: their sessions end, and what is
said goes with its room, once both have left it.
"""

from __future__ import annotations

import json
import os
import threading
import time
from contextlib import closing, suppress
from urllib.parse import parse_qs, quote, urlsplit

from rave_guest.journey import Broken, expect, travel
from rave_guest.refusal import Refused
from rave_guest.verdict import Verdict, passed
from rave_guest.wire.browser import Browser
from rave_guest.wire.matrix import Matrix, MatrixError, messages

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from http.client import HTTPConnection
    from typing import Any

    Accounts = Callable[[str, Mapping[str, Any]], dict[str, Any]]

USERS = ("rave-smoke-one", "rave-smoke-two")
# Synapse's own page for those who sign in without a program of their own: it leads back there
# without asking whether whoever signs in trusts it.
FALLBACK = "/_matrix/static/client/login"
LONGEST = 30.0  # seconds that all messages may take
POLL = 10_000  # milliseconds for which a server keeps a request that there is no news for
MESSAGES, PAUSE = 5, 0.3  # how many there are, and seconds before each


class Chat:
    """What the steps know of each other."""

    def __init__(
        self, site: str, accounts_site: str, accounts: Accounts, *, provider: str,
        connect: Callable[[str], HTTPConnection], headers: Mapping[str, str] = {},
        kill_bridge: Callable[[], None] = lambda: None,
    ) -> None:  # fmt: skip
        """Begin.

        Args:
            site: where Matrix is, as people write it.
            accounts_site: where people sign in.
            accounts: carries out actions on accounts.
            provider: Synapse's name for who signs people in.
            connect: opens a connection to whatever serves a site.
            headers: sent with every request.
            kill_bridge: kills the chat bridge, and lets it start anew.
        """
        self.kill_bridge = kill_bridge
        self.site, self.accounts_site, self.accounts = site, accounts_site, accounts
        self.provider, self._connect, self._headers = provider, connect, headers
        self.one, self.two = self.client(), self.client()
        self.password = os.urandom(12).hex()
        # Where they talk, where they command, and where they are.
        self.room = self.command_room = ""
        self.rooms: list[str] = []

    def client(self) -> Matrix:
        """Return a program of somebody who has not signed in."""
        host = self.site.partition("://")[2]
        return Matrix(host, lambda: self._connect(self.site), self._headers)

    def browser(self, site: str, end: str = "") -> Browser:
        """Return a browser at a site."""
        return Browser(site, lambda: self._connect(site), self._headers, end)

    def begin(self) -> tuple[Browser, Browser]:
        """Return somebody at Matrix who is sent to where people sign in, and there."""
        back = f"{self.site}{FALLBACK}"
        here = self.browser(self.site, back)
        here.open(
            f"/_matrix/client/v3/login/sso/redirect/{self.provider}?redirectUrl={quote(back)}"
        )
        expect(
            here.url.startswith(f"{self.accounts_site}/"),
            f"one is not sent to sign in {here.status}",
        )
        return here, self.browser(self.accounts_site).open(here.url)

    def come_back(self, here: Browser, there: Browser) -> str:
        """Agree if that is asked, and return the token for which Matrix gives a session.

        Raises:
            Broken: there is none.
        """
        if there.here:
            there.submit(answer="accept")
        expect(there.url.startswith(f"{self.site}/"), "nobody is sent back")
        here.open(there.url)
        token = parse_qs(urlsplit(here.url).query).get("loginToken")
        expect(token is not None, f"Matrix lets nobody in: {here.status}")
        return str((token or [""])[0])


def flows(chat: Chat) -> Verdict:
    """Whoever signs in is sent to where the accounts are; no password is taken here."""
    found = {flow["type"]: flow for flow in chat.one.ask("GET", "/login")["flows"]}
    providers = [one["id"] for one in found.get("m.login.sso", {}).get("identity_providers", [])]
    expect(providers == [chat.provider], f"it names {', '.join(providers) or 'nobody'}")
    expect("m.login.password" not in found, "it takes passwords")
    wanted = {"type": "m.login.password", "password": "x",
              "identifier": {"type": "m.id.user", "user": USERS[0]}}  # fmt: skip
    try:
        chat.one.ask("POST", "/login", wanted)
    except MatrixError as error:
        return passed(f"by single sign-on alone; a password is answered with {error}")
    raise Broken("a password opens it")


def wrong_password(chat: Chat) -> Verdict:
    """A wrong password opens nothing."""
    chat.accounts("add", _account(USERS[0]))
    _, there = chat.begin()
    there.submit(login=USERS[0]).submit(password=os.urandom(12).hex())
    expect(there.here, "somebody is sent back")
    chat.accounts("delete", {"user": USERS[0]})
    return passed("nobody is sent back")


def sign_in(chat: Chat) -> Verdict:
    """Two people sign in; who they are is what their accounts say."""
    seconds = [
        signed_in(chat, user, client)
        for user, client in zip(USERS, (chat.one, chat.two), strict=True)
    ]
    first, second = (round(one, 2) for one in seconds)
    return passed(
        f"within {first} and {second} s, a one-time password changed first",
        first_seconds=first, seconds=second,
    )  # fmt: skip


def signed_in(chat: Chat, user: str, client: Matrix) -> float:
    """Have somebody sign in whose account is made now; return the seconds that it took them.

    Raises:
        Broken: Matrix does not take them for who they are.
        MatrixError, OSError, ValueError: as asking does.
        Refused: the account cannot be made.
    """
    one_time = chat.accounts("add", _account(user))["password"]
    began = time.monotonic()
    here, there = chat.begin()
    there.submit(login=user).submit(password=one_time)
    there.submit(password=chat.password, confirmation=chat.password)
    client.sign_in(chat.come_back(here, there))
    seconds = time.monotonic() - began
    known = client.ask("GET", "/account/whoami")["user_id"]
    expect(known.startswith(f"@{user}:"), f"it takes {user} for {known}")
    return seconds


def message(chat: Chat) -> Verdict:
    """What one says in a room the other hears, each time."""
    chat.room = chat.one.create_room(chat.two.user)
    chat.rooms.append(chat.room)
    chat.two.ask("POST", f"/join/{quote(chat.room)}", {})
    ears = chat.client()
    ears.token = chat.two.token
    texts = [os.urandom(8).hex() for _ in range(MESSAGES)]
    hearing = Hearing(ears, chat.room, texts)
    hearing.start()
    seconds = []
    for text in texts:
        # It listens before anything is said.
        time.sleep(PAUSE)
        began = time.monotonic()
        chat.one.send(chat.room, text)
        heard = hearing.of(text)
        expect(heard is not None, "nobody hears it")
        seconds.append((heard or began) - began)
    hearing.join()
    shown = ", ".join(f"{one * 1000:.0f}" for one in seconds)
    middle = sorted(seconds)[MESSAGES // 2]
    return passed(f"heard after {shown} ms", seconds=round(middle, 3))


class Hearing(threading.Thread):
    """Somebody who listens in a room until they have heard all texts, and notes when."""

    def __init__(self, client: Matrix, room: str, texts: list[str]) -> None:
        """Listen to what is said from now on."""
        super().__init__(daemon=True)
        self._client, self._room = client, room
        self._since = client.sync()["next_batch"]
        self._left, self._heard = set(texts), dict[str, float]()
        self._news = threading.Condition()

    def run(self) -> None:
        """Listen; not for ever."""
        until = time.monotonic() + LONGEST
        with closing(self._client), suppress(OSError, ValueError, MatrixError):
            while self._left and time.monotonic() < until:
                news = self._client.sync(self._since, POLL)
                self._since = news["next_batch"]
                said = set(messages(news, self._room))
                with self._news:
                    self._heard |= dict.fromkeys(said, time.monotonic())
                    self._news.notify_all()
                self._left -= said

    def of(self, text: str) -> float | None:
        """Return when a text was heard, if it is within the longest time."""
        with self._news:
            self._news.wait_for(lambda: text in self._heard, LONGEST)
            return self._heard.get(text)


def media(chat: Chat) -> Verdict:
    """A file that one puts there the other gets."""
    data = os.urandom(1 << 10)
    path = "/_matrix/media/v3/upload?filename=rave"
    sent = chat.one.exchange("POST", path, data, "application/octet-stream")
    place = json.loads(sent)["content_uri"].removeprefix("mxc://")
    got = chat.two.exchange("GET", f"/_matrix/client/v1/media/download/{place}")
    expect(got == data, "it is another one")
    return passed(f"{len(data)} bytes come back as they were")


def sign_out(chat: Chat) -> Verdict:
    """Both leave, and sign out: their sessions open nothing any more."""
    for client in (chat.one, chat.two):
        for room in chat.rooms:
            client.ask("POST", f"/rooms/{quote(room)}/leave", {})
        client.ask("POST", "/logout/all", {})
        try:
            client.ask("GET", "/account/whoami")
        except MatrixError as error:
            expect(error.code == "M_UNKNOWN_TOKEN", f"it answers {error}")
        else:
            raise Broken("a session that has ended opens it")
    return passed("what was a session is answered with M_UNKNOWN_TOKEN")


# In this order; a wrong password lets an account wait, so that is one which is made anew.
STEPS: Mapping[str, Callable[[Chat], Verdict]] = {
    "flows": flows,
    "wrong-password": wrong_password,
    "sign-in": sign_in,
    "message": message,
    "media": media,
    "sign-out": sign_out,
}
LAST = "sign-out"
GROUND = ("flows", "sign-in", "message")


def converse(
    chat: Chat, between: Mapping[str, Callable[[Chat], Verdict]] = {}
) -> dict[str, Verdict]:
    """Make the journey; returns a verdict for each step. Its accounts are deleted afterwards.

    Args:
        chat: what the steps know of each other.
        between: steps that are made before the last one.
    """
    _forget(chat)
    every = {**STEPS, **between}
    every[LAST] = every.pop(LAST)
    steps = {name: _refused(step) for name, step in every.items()}
    try:
        with closing(chat.one), closing(chat.two):
            return travel(chat, steps, GROUND)
    finally:
        _forget(chat)


def _refused(step: Callable[[Chat], Verdict]) -> Callable[[Chat], Verdict]:
    """Return a step that breaks where Matrix refuses what it must not."""

    def carry_out(chat: Chat) -> Verdict:
        try:
            return step(chat)
        except MatrixError as error:
            raise Broken(f"Matrix answers {error}") from error

    return carry_out


def _forget(chat: Chat) -> None:
    for user in USERS:
        # Before it, those that a journey which was broken off has left.
        with suppress(Refused):
            chat.accounts("delete", {"user": user})


def _account(user: str) -> dict[str, Any]:
    return {"user": user, "name": "Smoke", "email": "", "groups": [], "password": True}
