"""A browser without scripts, which asks as nginx passes it on: cookies, forms, redirects."""

from __future__ import annotations

from html.parser import HTMLParser
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING
from urllib.parse import urlencode, urljoin, urlsplit

from tests.integration.accounts.conftest import NAME, Answer, forwarded

if TYPE_CHECKING:
    from tests.integration.accounts.conftest import Canaille

HOPS = 10


class Forms(HTMLParser):
    """The forms of a page: where each goes, and its fields with the values that they have."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        known = dict(attrs)
        if tag == "form":
            self.found.append((known.get("action") or "", {}))
        if tag in {"input", "button"} and self.found and known.get("name"):
            self.found[-1][1][str(known["name"])] = known.get("value") or ""


class Browser:
    """Somebody who signs in. It stays at Canaille: a redirect to elsewhere is where it ends."""

    def __init__(self, canaille: Canaille) -> None:
        self._canaille = canaille
        self._cookies: dict[str, str] = {}
        self.url = f"https://{NAME}/"
        self.answer: Answer | None = None

    def open(self, path: str, fields: dict[str, str] | None = None) -> Answer | None:
        """Open a page, or submit a form; return where that leads, None if that is elsewhere."""
        self.url = urljoin(self.url, path)
        for _ in range(HOPS):
            if urlsplit(self.url).netloc != NAME:
                self.answer = None
                return None
            found = self._exchange(fields)
            if found.status not in {301, 302, 303, 307}:
                self.answer = found
                return found
            self.url, fields = urljoin(self.url, found.headers["Location"]), None
        raise AssertionError(f"it goes round and round: {self.url}")

    def submit(self, **values: str) -> Answer | None:
        """Submit the form of the page that has these fields."""
        assert self.answer is not None
        for action, fields in Forms(self.answer.text).found:
            if values.keys() <= fields.keys():
                kept = {name: value for name, value in fields.items() if name != "cancel"}
                return self.open(action, kept | values)
        raise AssertionError(f"no form of {self.url} has {sorted(values)}")

    def sign_in(self, user: str, password: str) -> Answer | None:
        """Sign in at the page that asks who it is."""
        self.submit(login=user)
        return self.submit(password=password)

    def _exchange(self, fields: dict[str, str] | None) -> Answer:
        there = urlsplit(self.url)
        path = f"{there.path}?{there.query}" if there.query else there.path
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = forwarded() | {"Cookie": cookies, "Referer": self.url}
        with self._canaille.connected() as connection:
            if fields is None:
                connection.request("GET", path, headers=headers)
            else:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
                connection.request("POST", path, urlencode(fields), headers)
            reply = connection.getresponse()
            found = Answer(reply.status, reply.msg, reply.read().decode())
        for line in found.headers.get_all("Set-Cookie") or []:
            for name, morsel in SimpleCookie(line).items():
                self._cookies[name] = morsel.value
        return found
