"""The portal: what needs attention, a card for each service, and nothing that runs or is loaded."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.tls import authority
from rave_guest import certificate, report, status
from rave_guest.portal import figures
from rave_guest.portal import page as portal
from rave_guest.wire import http

if TYPE_CHECKING:
    from pathlib import Path

CATALOG = parse(BAKED.read_bytes())
NOW = datetime(2026, 11, 26, 6, 0, tzinfo=UTC)
PLAN: dict[str, Any] = {
    "profile": "demo",
    "base": "debian",
    "absent": ["grafana"],
    "services": {
        "a": {"description": "does this", "site": None},
        "canaille": {"description": "accounts", "site": "auth"},
        "prometheus": {"description": "metrics", "ports": [{"name": "web", "port": 9090}]},
    },
    "versions": {"a": "7:16.1-1+deb12u2"},
}


def service(state: str, title: str = "A") -> dict[str, object]:
    return {"state": state, "title": title, "unit": "a.service", "uptime": 3.25}


@pytest.fixture(autouse=True)
def _machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "instance", lambda: "abc")
    monkeypatch.setattr(report, "uptime", lambda: 9.0)
    monkeypatch.setattr(portal, "ORIGIN", str(tmp_path / "origin"))
    monkeypatch.setattr(certificate, "CURRENT", str(tmp_path / "current.crt"))
    (tmp_path / "origin").write_text("https://rave.localhost:23456\n")


def page(
    services: dict[str, Any], *, secrets: str = "installed", failed: list[str] | None = None,
    alerts: list[str] | None = None,
) -> str:  # fmt: skip
    document = status.document(PLAN, services, secrets, failed or [])
    return portal.page(PLAN, document, alerts=alerts or [], now=NOW.timestamp())


class Elements(HTMLParser):
    """Every element of a page with its attributes, and each card's text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def attention(text: str) -> list[str]:
    """Return what a page says needs attention."""
    part = text[text.index("Needs attention") : text.index("</section>")]
    return [re.sub(r"<[^>]+>", "", line) for line in re.findall(r"<li>(.*)", part)]


def test_who_looks_is_put_in_by_nginx_and_the_page_is_whole_without() -> None:
    assert "<!--#" not in page({"a": service("healthy")})
    has = PLAN | {"services": PLAN["services"] | {"portal": {}}}
    document = status.document(has, {"a": service("healthy")}, "installed", [])
    text = portal.page(has, document, alerts=[], now=NOW.timestamp())
    assert '<!--# include virtual="/portal/part" stub="away" -->' in text
    assert text.index('<!--# block name="away" -->') < text.index("<!--# include")


def test_nothing_in_a_page_is_an_order_to_nginx_but_its_own() -> None:
    hostile = '<!--# include virtual="/status.json" -->'
    text = page({"a": service("healthy", hostile)}, failed=[hostile], alerts=[hostile])
    assert "<!--#" not in text


def test_each_service_has_a_card_with_state_and_version() -> None:
    text = page({"a": service("healthy")})
    card = text[text.index('<li class="healthy">') :]
    for part in ("A", "16.1", "7:16.1-1+deb12u2", "healthy", "does this", "a.service", "3.2 s"):
        assert part in card
    assert "<title>rave: demo is healthy</title>" in text


def test_an_application_leads_to_where_people_open_it() -> None:
    text = page({"canaille": service("healthy", "Canaille"), "a": service("healthy")})
    assert '<a href="https://auth.rave.localhost:23456/">Canaille</a>' in text
    assert text.index("<h2>Applications") < text.index("Canaille") < text.index("<h2>Services")


def test_a_machine_without_applications_has_no_such_part() -> None:
    assert "Applications" not in page({"a": service("healthy")})


def test_what_is_well_needs_no_attention() -> None:
    text = page({"a": service("healthy")})
    assert attention(text) == []
    assert "<p>Nothing." in text


def test_what_is_not_well_is_named_the_worst_first() -> None:
    text = page(
        {"a": service("failed")}, secrets="absent", failed=["b.service"],
        alerts=["DiskFills: the disk is full in an hour"],
    )  # fmt: skip
    assert attention(text) == [
        "A does not answer",
        "the unit b.service has failed",
        "secrets: not installed: services refuse logins until rave secrets install",
        "alert DiskFills: the disk is full in an hour",
    ]
    assert "<code>rave secrets install</code>" in text


@pytest.mark.parametrize(
    ("days", "said"),
    [(0, []), (75, []), (80, ["ends in 10 days"]), (91, ["has ended"])],
)
def test_the_age_of_its_certificate_is_told(tmp_path: Path, days: int, said: list[str]) -> None:
    own = authority.make("localhost", now=NOW)
    made = authority.issue(own, "rave.localhost", now=NOW - timedelta(days=days))
    (tmp_path / "current.crt").write_text(made.chain)
    found = attention(page({"a": service("healthy")}))
    assert [text for text, part in zip(found, said, strict=True) if part in text] == found


def test_a_certificate_that_the_host_did_not_make_is_told(tmp_path: Path) -> None:
    own = authority.issue(authority.make("localhost", now=NOW), "rave.localhost", now=NOW)
    (tmp_path / "ephemeral.crt").write_text(own.chain)
    (tmp_path / "current.crt").symlink_to("ephemeral.crt")
    assert attention(page({"a": service("healthy")})) == [
        "the certificate of this page is its own, for its host gave it none"
    ]


@pytest.mark.parametrize("base", ["debian", "nixos"])
@pytest.mark.parametrize("profile", sorted(CATALOG.profiles))
def test_no_two_services_have_the_same_name(profile: str, base: str) -> None:
    """Exporters are named after what they look at, and not as what they look at."""
    titles = [service.title for service in CATALOG.plan(profile, base).services.values()]
    assert len(titles) == len(set(titles))


def _headers() -> dict[str, str]:
    facts = CATALOG.plan("demo", "debian").facts.model_dump()
    headers: dict[str, str] = facts["nginx"]["pageHeaders"]
    return headers


def test_the_page_keeps_to_its_content_policy() -> None:
    """Nothing runs, no style is in it, and all that it loads is its own style sheet."""
    policy = _headers()["Content-Security-Policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    text = page({"a": service("healthy"), "canaille": service("failed", "C")})
    found = Elements(text + figures.SCRIPTS).found
    assert {tag for tag, _ in found}.isdisjoint({"style", "iframe", "img", "object", "base"})
    assert all(not name.startswith("on") and name != "style" for _, a in found for name in a)
    assert [a["href"] for tag, a in found if tag == "link"] == ["/portal.css"]
    # Scripts are files of its own, and nothing stands within them.
    loaded = [a["src"] for tag, a in found if tag == "script"]
    assert loaded == ["/portal/chart.js", "/portal/figures.js"]
    assert re.findall(r"<script[^>]*>([^<]*)<", figures.SCRIPTS) == ["", ""]


def test_it_is_for_the_dark_for_a_phone_and_for_whoever_sees_no_colour() -> None:
    found = Elements(page({"a": service("failed")})).found
    assert ("meta", {"name": "color-scheme", "content": "light dark"}) in found
    assert ("meta", {"name": "viewport", "content": "width=device-width"}) in found
    assert {"header", "main", "footer", "h1", "h2", "h3"} <= {tag for tag, _ in found}
    assert "prefers-color-scheme:dark" in portal.STYLE
    assert "auto-fill" in portal.STYLE


def test_it_is_small() -> None:
    plan = CATALOG.plan("production", "nixos")
    services = {name: service("healthy", one.title) for name, one in plan.services.items()}
    assert len(page(services).encode()) + len(portal.STYLE) < 150_000 / 4


@given(st.text(max_size=80))
def test_what_comes_from_elsewhere_is_escaped(text: str) -> None:
    hostile = f"<img src=x onerror='1'>&\"{text}"
    found = Elements(
        page({"a": service("healthy", hostile)}, failed=[hostile], alerts=[hostile])
    ).found
    assert "img" not in {tag for tag, _ in found}
    assert all("onerror" not in attributes for _, attributes in found)


@pytest.mark.parametrize(
    ("version", "shown"),
    [
        ("7:16.1-1+deb12u2", "16.1"), ("1.22.1-9+deb12u2", "1.22.1"), ("0.3.6", "0.3.6"),
        ("2:1.2+git20-3", "1.2"), ("15.16-0+deb12u1", "15.16"), ("1", "1"),
    ],
)  # fmt: skip
def test_a_version_is_shown_as_its_makers_write_it(version: str, shown: str) -> None:
    assert portal.upstream(version) == shown


def alert(name: str, state: str = "firing", **labels: str) -> dict[str, Any]:
    summary = {"summary": f"{name} happens"}
    return {"labels": {"alertname": name, **labels}, "annotations": summary, "state": state}


def asked(monkeypatch: pytest.MonkeyPatch, answer: object, state: str = "healthy") -> list[str]:
    def get(url: str, timeout: float) -> http.Response:
        assert (url, timeout) == ("http://127.0.0.1:9090/api/v1/alerts", 1.0)
        if isinstance(answer, Exception):
            raise answer
        return http.Response(200, json.dumps(answer).encode(), None, None)

    monkeypatch.setattr(http, "get", get)
    return portal.firing(PLAN, {"services": {"prometheus": {"state": state}}})


def test_the_alerts_that_fire_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    alerts = [alert("Waits", "pending"), alert("B"), alert("A", service="redis"), alert("B")]
    found = asked(monkeypatch, {"data": {"alerts": alerts}})
    assert found == ["A (redis): A happens", "B: B happens"]


@pytest.mark.parametrize(
    "answer",
    [OSError("refused"), ValueError("no HTTP"), None, [], {}, {"data": None},
     {"data": {"alerts": [None]}}, {"data": {"alerts": [{"state": "firing"}]}}],
)  # fmt: skip
def test_a_prometheus_that_says_nothing_useful_hides_the_page_from_nobody(
    monkeypatch: pytest.MonkeyPatch, answer: object
) -> None:
    assert asked(monkeypatch, answer) == []


def test_a_prometheus_that_is_down_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asked(monkeypatch, AssertionError(), "failed") == []
    assert portal.firing(PLAN, {"services": {}}) == []
