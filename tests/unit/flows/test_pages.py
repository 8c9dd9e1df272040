"""The web pages of a machine, from its plan and its real ports."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import pages
from rave_cli.flows.pages import WebPage
from rave_cli.profiles.catalog import Catalog, parse
from rave_cli.profiles.names import BAKED
from tests.waiting import CEILING

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def catalog() -> Catalog:
    return parse(BAKED.read_bytes())


def test_the_exposed_page_has_the_port_of_this_host(catalog: Catalog) -> None:
    found = pages.of(catalog.plan("demo", "debian"), {22: 40022, 3002: 40302})
    assert [(page.service, page.url) for page in found] == [("nginx", "https://127.0.0.1:40302/")]


def test_what_nginx_serves_by_name_has_its_name(catalog: Catalog) -> None:
    found = pages.of(catalog.plan("production", "nixos"), {3002: 40302})
    assert "https://element.rave.localhost:40302/" in {page.url for page in found}


@pytest.mark.parametrize(
    ("origin", "url"),
    [
        ("https://rave.localhost:23456", "https://auth.rave.localhost:23456/"),
        ("https://rave.example.org", "https://auth.rave.example.org/"),
    ],
)
def test_what_has_a_site_is_below_the_public_origin(
    catalog: Catalog, origin: str, url: str
) -> None:
    plan = catalog.plan("development", "debian")
    found = pages.of(plan, {3002: 40302}, origin)
    assert [page.url for page in found if page.service == "canaille"] == [url]
    assert not [page for page in pages.of(plan, {3002: 40302}) if page.service == "canaille"]


@pytest.mark.parametrize("base", ["debian", "nixos"])
def test_no_page_leads_to_a_port_that_does_not_lead_here(catalog: Catalog, base: str) -> None:
    assert pages.of(catalog.plan("production", base), {22: 1}) == ()


PAGE = WebPage("nginx", "NGINX", "https://127.0.0.1:1/")


def test_one_service_can_be_asked_for_and_one_without_a_page_is_named() -> None:
    assert pages.chosen([PAGE], "nginx") == pages.chosen([PAGE], None) == (PAGE,)
    with pytest.raises(RaveError, match=r"no page of redis .*nginx") as caught:
        pages.chosen([PAGE], "redis")
    assert caught.value.exit_code == ExitCode.USAGE


def test_the_browser_gets_the_address_and_the_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opener = tmp_path / "xdg-open"
    opener.write_text(f'#!/bin/sh\necho "$1 $DISPLAY $TOKEN" >{tmp_path}/seen\n')
    opener.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    pages.show(PAGE, {"DISPLAY": ":7", "TOKEN": "x"})
    assert (tmp_path / "seen").read_text() == "https://127.0.0.1:1/ :7 \n"
    opener.write_text("#!/bin/sh\necho no display >&2; exit 3\n")
    with pytest.raises(RaveError, match="no display"):
        pages.show(PAGE, {})
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(RaveError, match="not on PATH") as caught:
        pages.show(PAGE, {})
    assert "xdg-utils" in str(caught.value.hint)


def paged(*hosts: str) -> list[WebPage]:
    return [WebPage("nginx", "NGINX", f"https://{host}:3002/") for host in hosts]


def test_names_without_an_address_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"rave.example.org"}

    def resolve(host: str, _port: None) -> None:
        if host not in known:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    found = paged("rave.example.org", "auth.rave.example.org", "x.rave.localhost", "localhost")
    assert pages.astray(found) == ("auth.rave.example.org",)
    assert pages.astray(()) == ()


def test_a_name_that_nobody_answers_for_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_: ended.wait(CEILING))
    try:
        assert pages.astray(paged("a.example", "b.example"), 0.05) == ("a.example", "b.example")
    finally:
        ended.set()


def test_a_name_that_is_none_leads_nowhere() -> None:
    assert pages.astray(paged(f"{'a' * 70}.example", "127.0.0.1")) == (f"{'a' * 70}.example",)
