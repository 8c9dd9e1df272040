"""`rave-guest portal`: what of the portal depends on who looks, and signs people in.

nginx serves the page itself as a file, with or without this program. It asks here, for a request
that it has taken, for

    /portal/part        the part of the page for whoever looks: who they are, the figures
    /portal/session     whether they have signed in: 204, else 401 (auth_request)
    /portal/sign-in     sends them to sign in, and back to the page or to what `to` names
    /portal/callback    where they come back
    /portal/enter       where they come to a site that is behind sign-in, with a pass for it
    /portal/sign-out    ends their session (POST)
    /portal/ended       the provider says whose sessions have ended (POST, within the machine)

Usage: portal SETTINGS FOLDER; the settings are JSON (infra/debian/services/portal/generate.py), the
folder is for sessions, in memory. systemd hands over the socket.

An application with a name of its own below the machine's cannot have the portal's cookie. There the
browser gets a key, and goes to sign in with that key's hash; it comes back with a pass, which is
good once, for that site and for whoever has the key. Its session is another one: what an
application might see of it opens nothing else.
"""

from __future__ import annotations

import json
import os
import socket
from hashlib import sha256

from rave_guest import report
from rave_guest.portal import figures
from rave_guest.portal.html import escape
from rave_guest.portal.server import PageAnswer, PageRequest, serve
from rave_guest.report import ORIGIN

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.portal.oidc import SignInProvider
    from rave_guest.portal.sessions import Sessions

HANDED = 3  # SD_LISTEN_FDS_START
IDLE = 300.0  # seconds
SESSION, SIGN_IN = "__Host-rave-portal", "__Host-rave-portal-sign-in"
SESSION_LASTS, SIGN_IN_LASTS, PASS_LASTS = 12 * 3600, 600, 60  # seconds
# __Host-: this host alone, over TLS alone. Lax: who comes from the provider's site is known.
COOKIE = "Path=/; Secure; HttpOnly; SameSite=Lax"
# Where somebody may be sent on once they have signed in.
BEHIND = ("prometheus", "alertmanager", "buildbot")
ONWARD = {"": "/"} | {name: f"/{name}/" for name in BEHIND}


class Portal:
    """Answers what nginx asks."""

    def __init__(self, settings: Mapping[str, Any], folder: str, origin: str) -> None:
        """Know the machine.

        Args:
            settings: what it is told of the machine.
            folder: where sessions are kept.
            origin: the machine's public origin; empty if it has none, and nobody signs in.
        """
        self._settings, self._folder, self._origin = settings, folder, origin
        # Of machines that have no such sites the settings may say nothing.
        self._sites = frozenset(settings.get("sites", ()))
        address = settings["prometheus"]
        self._figures = figures.Curves(address) if address else None
        self._routes = {
            ("GET", "/portal/part"): self.part,
            ("GET", "/portal/session"): self.session,
            ("GET", "/portal/sign-in"): self.sign_in,
            ("GET", "/portal/callback"): self.callback,
            ("GET", "/portal/enter"): self.enter,
            ("POST", "/portal/sign-out"): self.sign_out,
            ("POST", "/portal/ended"): self.ended,
        }

    def __call__(self, asked: PageRequest) -> PageAnswer:
        """PageAnswer one request."""
        method = "GET" if asked.method == "HEAD" else asked.method
        if route := self._routes.get((method, asked.path)):
            return route(asked)
        there = any(path == asked.path for _, path in self._routes)
        return PageAnswer(405 if there else 404)

    def part(self, asked: PageRequest) -> PageAnswer:
        """Return the part of the page for whoever looks."""
        known = self._who(asked)
        drawn = bool(self._settings["charts"])
        curves = self._figures.current() if self._figures else None
        shown = figures.section(curves, drawn=drawn) if self._figures else ""
        scripts = figures.SCRIPTS if drawn and curves else ""
        title = "<h2>The last hour</h2>\n" if shown else ""
        return PageAnswer(200, f"{self._visitor(known)}{title}{shown}\n{scripts}")

    def session(self, asked: PageRequest) -> PageAnswer:
        """Say whether somebody has signed in."""
        return PageAnswer(204 if self._who(asked) else 401)

    def sign_in(self, asked: PageRequest) -> PageAnswer:
        """Send somebody to sign in."""
        provider = self._provider()
        if provider is None:
            return refusal(404, "This machine has no accounts to sign in with.")
        if site := self._site(asked):
            key = self._led().keep({"site": site})
            where = f"{self._origin}/portal/sign-in?to={site}&for={_hash(key)}"
            return _see(where, (SIGN_IN, key, SIGN_IN_LASTS))
        fields = _fields(asked.query)
        to, whom = fields.get("to", ""), fields.get("for", "")
        if asked.headers.get("host") != self._origin.partition("://")[2]:
            # Only there the cookies are known with which they come back.
            return _see(f"{self._origin}/portal/sign-in?to={to if to in ONWARD else ''}")
        if to in self._sites and (who := self._who(asked)):
            return _see(self._passing(who, to, whom))
        address, known = provider.begin()
        key = self._begun().keep({**known, "to": to, "for": whom})
        return _see(address, (SIGN_IN, key, SIGN_IN_LASTS))

    def callback(self, asked: PageRequest) -> PageAnswer:
        """Take whoever comes back from signing in."""
        from rave_guest.portal.oidc import NotSignedIn

        provider = self._provider()
        # Taken, so that it is good once, whatever comes of it.
        known = self._begun().take(asked.cookie(SIGN_IN))
        if provider is None or known is None:
            return refusal(400, "This sign-in was not begun here, or is over.")
        try:
            who = provider.finish(_fields(asked.query), known)
        except NotSignedIn as error:
            return refusal(400, f"Not signed in: {error}.")
        self._sessions().take(asked.cookie(SESSION))
        key = self._sessions().keep(who)
        to = known["to"]
        onward = self._passing(who, to, known["for"]) if to in self._sites else ONWARD.get(to, "/")
        return _see(onward, (SESSION, key, SESSION_LASTS), (SIGN_IN, "", 0))

    def enter(self, asked: PageRequest) -> PageAnswer:
        """Take whoever comes to a site with a pass for it."""
        site, key = self._site(asked), asked.cookie(SIGN_IN)
        # Both are taken, so that they are good once, whatever comes of it.
        led = self._led().take(key)
        given = self._passes().take(_fields(asked.query).get("pass", ""))
        if not site or led is None or given is None:
            return refusal(400, "This sign-in was not begun here, or is over.")
        if (led["site"], given["site"], given["for"]) != (site, site, _hash(key)):
            return refusal(400, "This sign-in was begun by somebody else.")
        session = self._sessions().keep({**given["who"], "site": site})
        return _see("/", (SESSION, session, SESSION_LASTS), (SIGN_IN, "", 0))

    def _passing(self, who: Mapping[str, Any], site: str, whom: str) -> str:
        """Return where a site takes somebody: with a pass for who has the key of that hash."""
        given = self._passes().keep({"who": who, "site": site, "for": whom})
        scheme, _, place = self._origin.partition("://")
        return f"{scheme}://{site}.{place}/portal/enter?pass={given}"

    def sign_out(self, asked: PageRequest) -> PageAnswer:
        """End a session, and lead on to where the provider's own ends."""
        # Applications of this machine have sites beside this one, and so the same site's cookies.
        if asked.headers.get("origin", self._origin) != self._origin:
            return refusal(403, "Another page asked for it.")
        known = self._sessions().take(asked.cookie(SESSION))
        provider = self._provider()
        onward = provider.out(known["hint"]) if provider and known else ""
        # No redirect: a policy for forms looks at where they lead in the end.
        more = (("Refresh", f"0; url={onward or '/'}"), _cookie(SESSION, "", 0))
        return PageAnswer(
            200, document("Signed out", f'<p><a href="{escape(onward or "/")}">Go on</a>'), more
        )

    def ended(self, asked: PageRequest) -> PageAnswer:
        """End the sessions of somebody of whom the provider says so."""
        provider = self._provider()
        if provider is None:
            return PageAnswer(404)
        try:
            user = provider.ended(_fields(asked.body).get("logout_token", ""))
        except ValueError:
            return PageAnswer(400)
        except OSError:
            return PageAnswer(503)
        self._sessions().end(lambda known: bool(known["user"] == user))
        return PageAnswer(200)

    def _visitor(self, known: Mapping[str, Any] | None) -> str:
        """Who looks, and what is theirs."""
        if not self._settings["provider"] or not self._origin:
            return ""
        if known is None:
            return '<p class="visitor"><a href="/portal/sign-in">Sign in</a> to see more.\n'
        links = "".join(
            f' <a href="{link["path"]}">{escape(link["title"])}</a>'
            for link in self._settings["links"]
        )
        return (
            f'<form class="visitor" method="post" action="/portal/sign-out"><p>Signed in as '
            f'<strong title="{escape(known["user"])}">{escape(known["name"])}</strong>{links} '
            "<button>Sign out</button></form>\n"
        )

    def _who(self, asked: PageRequest) -> dict[str, Any] | None:
        key = asked.cookie(SESSION)
        found = self._sessions().find(key) if key else None
        return found if found and found.get("site", "") == self._site(asked) else None

    def _site(self, asked: PageRequest) -> str:
        """Return the site behind sign-in at which somebody asks; empty for the machine's own."""
        place = self._origin.partition("://")[2]
        name = asked.headers.get("host", "").removesuffix(f".{place}")
        return name if name in self._sites else ""

    def _provider(self) -> SignInProvider | None:
        from rave_guest.portal.oidc import SignInProvider

        wanted = self._settings["provider"]
        return SignInProvider(wanted, self._origin) if wanted and self._origin else None

    def _sessions(self) -> Sessions:
        return self._kept("sessions", SESSION_LASTS)

    def _begun(self) -> Sessions:
        return self._kept("begun", SIGN_IN_LASTS)

    def _led(self) -> Sessions:
        return self._kept("led", SIGN_IN_LASTS)

    def _passes(self) -> Sessions:
        return self._kept("passes", PASS_LASTS)

    def _kept(self, name: str, seconds: float) -> Sessions:
        # With OpenSSL behind it, which who only looks does without.
        from rave_guest.portal.sessions import Sessions

        return Sessions(f"{self._folder}/{name}", seconds)


def refusal(status: int, why: str) -> PageAnswer:
    """Return a page that says why something was not done."""
    return PageAnswer(status, document("Sign-in", f'<p>{escape(why)}\n<p><a href="/">Back</a>'))


def document(title: str, body: str) -> str:
    """Return a small page of its own."""
    return (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f'<title>rave: {escape(title)}</title>\n<link rel="stylesheet" href="/portal.css">\n'
        f"<main>\n<h1>{escape(title)}</h1>\n{body}\n</main>\n</html>\n"
    )


def _hash(key: str) -> str:
    return sha256(key.encode()).hexdigest()


def _see(address: str, *cookies: tuple[str, str, int]) -> PageAnswer:
    return PageAnswer(303, "", (("Location", address), *(_cookie(*one) for one in cookies)))


def _cookie(name: str, value: str, seconds: int) -> tuple[str, str]:
    return ("Set-Cookie", f"{name}={value}; Max-Age={seconds}; {COOKIE}")


def _fields(text: str) -> dict[str, str]:
    """Return the fields of a query or a form; of one that is there twice the first."""
    from urllib.parse import parse_qsl

    return dict(reversed(parse_qsl(text, keep_blank_values=True, max_num_fields=64)))


def main(argv: list[str]) -> int:
    """Serve until nobody has come for a while."""
    place, folder = argv
    settings = json.loads(report.read(place))
    os.umask(0o077)
    with socket.socket(fileno=HANDED) as listener:
        serve(listener, Portal(settings, folder, report.read(ORIGIN)), IDLE)
    return 0
