"""The portal as a real browser shows it: on a desk, on a phone, in the dark, without scripts.

It takes a Chromium, which is large, so it is asked for: RAVE_CHROMIUM names it, and RAVE_CHART_JS
Debian's chart.min.js (libjs-chart.js). RAVE_SCREENSHOTS names a directory for the pictures of the
docs: RAVE_SCREENSHOTS=docs/reference/images.
"""

from __future__ import annotations

import json
import math
import os
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import report, status
from rave_guest.portal import figures, page, program, server
from rave_guest.portal.sessions import Sessions
from tests.debian import part, plan
from tests.integration.portal import chromium

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[3]
CHROMIUM, CHART = os.environ.get("RAVE_CHROMIUM"), os.environ.get("RAVE_CHART_JS")
PICTURES = os.environ.get("RAVE_SCREENSHOTS")
ORIGIN = "https://rave.localhost:3002"
NOW = datetime(2026, 11, 26, 12, 0, tzinfo=UTC).timestamp()
MOST = 100_000  # bytes of a picture

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(not (CHROMIUM and CHART), reason="RAVE_CHROMIUM, RAVE_CHART_JS: not named"),
]


def drawn(at: int) -> list[figures.Curve]:
    """Return curves of an hour that has a shape."""
    levels = (0.35, 0.42, 1.4, 0.02, 0.012)
    return [
        figures.Curve(one, [level * (1 + 0.4 * math.sin((i + 9 * n) / 7)) for i in range(at)])
        for n, (one, level) in enumerate(zip(figures.FIGURES, levels, strict=True))
    ]


class Known:
    """Curves without a Prometheus."""

    def current(self) -> list[figures.Curve]:
        """Return them."""
        return drawn(61)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The page of a development machine on which something is wrong; somebody has signed in."""
    place = tmp_path_factory.mktemp("portal")
    own = plan("development") | {"versions": {"postgresql": "15.20-0+deb12u1"}}
    services = {
        name: {"state": "healthy", "title": one["title"], "unit": one["units"][0], "uptime": 12.0}
        for name, one in own["services"].items()
    }
    services["chat-bridge"]["state"] = "failed"
    settings = json.loads(part("portal").files(own)["etc/rave/portal.json"])
    portal = program.Portal(settings, str(place), ORIGIN)
    portal._figures = Known()  # type: ignore[assignment]
    key = Sessions(f"{place}/sessions", 3600).keep({"user": "alice", "name": "Alice Liddell"})
    (place / "origin").write_text(ORIGIN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(report, "instance", lambda: "2f1c")
        patch.setattr(report, "uptime", lambda: 60.0)
        patch.setattr(page, "ORIGIN", str(place / "origin"))
        document = status.document(own, services, "installed", ["chat-bridge.service"])
        alerts = ["ServiceUnhealthy (chat-bridge): chat-bridge does not answer"]
        text = page.page(own, document, alerts=alerts, now=NOW)
    asked = server.PageRequest(
        "GET", "/portal/part", "", {"cookie": f"{program.SESSION}={key}"}, ""
    )
    visitors = portal(asked).body
    head, _, rest = text.partition("<!--# block")
    files = {
        "/": ("text/html", (head + visitors + rest.partition('stub="away" -->')[2]).encode()),
        "/portal.css": ("text/css", page.STYLE.encode()),
        "/portal/chart.js": ("text/javascript", Path(str(CHART)).read_bytes()),
        "/portal/figures.js": (
            "text/javascript", (ROOT / "infra/guest/portal/figures.js").read_bytes(),
        ),
        "/favicon.ico": ("image/x-icon", b""),
    }  # fmt: skip
    facts = own["facts"]["nginx"]

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, body = files[self.path.partition("?")[0]]
            self.send_response(200)
            self.send_header("Content-Type", kind)
            for name, value in (facts["headers"] | facts["pageHeaders"]).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        threading.Thread(target=found.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{found.server_port}/"
        found.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[chromium.Chromium]:
    with chromium.running(str(CHROMIUM), tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.mark.parametrize(
    ("name", "width", "scheme"), [("desk", 1100, "light"), ("phone", 360, "dark")]
)
def test_it_is_drawn_within_its_policy_and_nothing_is_wider_than_the_screen(
    browser: chromium.Chromium, site: str, name: str, width: int, scheme: str
) -> None:
    browser.open(site, width=width, scheme=scheme)
    assert browser.complaints == []
    assert browser.ask("document.documentElement.scrollWidth") == width
    assert browser.ask("document.querySelectorAll('canvas:not([hidden])').length") == 5
    assert browser.ask("Object.keys(Chart.instances).length") == 5
    dark = browser.ask("getComputedStyle(document.body).backgroundColor") == "rgb(18, 18, 18)"
    assert dark == (scheme == "dark")
    if PICTURES:
        place = ROOT / PICTURES / f"portal-{name}.png"
        browser.picture(place)
        assert place.stat().st_size < MOST


def test_without_scripts_every_value_can_be_read(browser: chromium.Chromium, site: str) -> None:
    browser.open(site, width=360, script=False)
    assert browser.complaints == []
    browser.do("Emulation.setScriptExecutionDisabled", value=False)
    text = browser.ask("document.body.innerText")
    for part_ in ("Signed in as Alice Liddell", "CPU", " %", "each second", " ms", "Chat bridge"):
        assert part_ in text
    assert browser.ask("document.querySelectorAll('canvas:not([hidden])').length") == 0


def test_what_somebody_would_slip_in_is_not_run(browser: chromium.Chromium, site: str) -> None:
    """The policy is in force: a script of the page's own making is refused."""
    browser.open(site, width=1100)
    browser.ask(
        "document.body.append(Object.assign(document.createElement('script'),"
        " {textContent: 'window.slipped = 1'}))"
    )
    assert browser.ask("'slipped' in window") is False
    assert any("Content Security Policy" in text for text in browser.complaints)
