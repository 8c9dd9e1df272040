"""A browser without scripts: cookies, forms and redirects, at one site of this machine."""

from __future__ import annotations

from html.parser import HTMLParser
from http.cookies import SimpleCookie
from urllib.parse import urlencode, urljoin, urlsplit

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from http.client import HTTPConnection

HOPS = 10
REDIRECTS = (301, 302, 303, 307)
MOST = 4 << 20  # bytes of a page


class Forms(HTMLParser):
    """The forms of a page: where each goes, and its fields with the values that they have."""

    def __init__(self, page: str) -> None:
        """Read a page."""
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note a form, or a field of the last one."""
        known = dict(attrs)
        if tag == "form":
            self.found.append((known.get("action") or "", {}))
        if tag in ("input", "button") and self.found and known.get("name"):
            self.found[-1][1][str(known["name"])] = known.get("value") or ""


class Browser:
    """Somebody at a site. A redirect that leads away from it is where the journey ends."""

    def __init__(
        self, site: str, connect: Callable[[], HTTPConnection], headers: Mapping[str, str],
        end: str = "",
    ) -> None:  # fmt: skip
        """Begin without cookies.

        Args:
            site: scheme, host and port, as people write it.
            connect: opens a connection to whatever serves it.
            headers: sent with every request.
            end: an address of the site that is away from it, too.
        """
        self._end = end
        self._connect, self._headers = connect, headers
        self._cookies: dict[str, str] = {}
        self.site = site
        self.url = f"{site}/"
        self.status, self.page = 0, ""

    @property
    def here(self) -> bool:
        """Whether it is still at the site."""
        away = self._end and self.url.startswith(self._end)
        return self.url.startswith(f"{self.site}/") and not away

    def open(self, address: str, fields: Mapping[str, str] | None = None) -> Browser:
        """Open a page, or submit a form, and go where that leads.

        Raises:
            ValueError: it goes round and round.
            OSError: nobody answers.
        """
        self.url = urljoin(self.url, address)
        for _ in range(HOPS):
            if not self.here:
                self.status, self.page = 0, ""
                return self
            to = self._exchange(fields)
            if to is None:
                return self
            self.url, fields = urljoin(self.url, to), None
        raise ValueError(f"it goes round and round at {urlsplit(self.url).path}")

    def submit(self, **values: str) -> Browser:
        """Submit the form of this page that has these fields.

        Raises:
            ValueError: there is none.
        """
        for action, fields in Forms(self.page).found:
            if values.keys() <= fields.keys():
                kept = {name: value for name, value in fields.items() if name != "cancel"}
                return self.open(action or self.url, kept | values)
        raise ValueError(f"no form of {urlsplit(self.url).path} has {', '.join(sorted(values))}")

    def _exchange(self, fields: Mapping[str, str] | None) -> str | None:
        """Ask for the page; returns where it leads on, if it does."""
        there = urlsplit(self.url)
        path = f"{there.path}?{there.query}" if there.query else there.path
        cookies = "; ".join(f"{name}={value}" for name, value in self._cookies.items())
        headers = {**self._headers, "Host": there.netloc, "Referer": self.url, "Cookie": cookies}
        connection = self._connect()
        try:
            if fields is None:
                connection.request("GET", path, headers=headers)
            else:
                headers["Content-Type"] = "application/x-www-form-urlencoded"
                connection.request("POST", path, urlencode(fields), headers)
            reply = connection.getresponse()
            self.status, self.page = reply.status, reply.read(MOST).decode(errors="replace")
            for line in reply.msg.get_all("Set-Cookie") or []:
                for name, morsel in SimpleCookie(line).items():
                    self._cookies[name] = morsel.value
            return reply.msg["Location"] if reply.status in REDIRECTS else None
        finally:
            connection.close()
