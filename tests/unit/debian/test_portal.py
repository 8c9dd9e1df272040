"""The portal on the Debian base: what its program is told, and what nginx keeps behind sign-in."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from rave_guest.portal import program
from tests.debian import part, plan, rendered

LOCATIONS = "etc/nginx/locations"


def settings(profile: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(rendered(profile)["etc/rave/portal.json"])
    return found


def locations(text: str) -> dict[str, str]:
    """Return the text of each location of a file by what it is for."""
    found = re.findall(r"^location (.+?) \{\n(.*?)^\}", text, re.MULTILINE | re.DOTALL)
    return dict(found)


def test_a_machine_with_accounts_signs_people_in_at_them() -> None:
    own = plan("development")["services"]
    provider = settings("development")["provider"]
    assert provider["name"] == own["canaille"]["title"]
    assert provider["issuer"].format(scheme="https", place="rave.localhost:1") == (
        "https://auth.rave.localhost:1"
    )
    for name in ("authorize", "end"):
        assert provider[name].startswith(f"{provider['issuer']}/oauth/")
    for name in ("token", "jwks"):
        assert provider[name].startswith("http://127.0.0.1:3040/oauth/")
    assert provider["secret"] == f"/run/secrets/{own['portal']['oidcClient']['secret']}"
    assert own["portal"]["oidcClient"]["redirects"] == ["/portal/callback"]


def test_where_it_is_told_that_sessions_have_ended_it_listens() -> None:
    own = plan("development")["services"]["portal"]
    (port,) = (port["port"] for port in own["ports"])
    assert own["oidcClient"]["logout"] == f"http://127.0.0.1:{port}/portal/ended"
    socket = rendered("development")["etc/systemd/system/rave-portal.socket"]
    assert f"ListenStream=127.0.0.1:{port}\n" in socket


@pytest.mark.parametrize("profile", ["development", "production"])
def test_what_is_behind_sign_in_is_closed_and_takes_nothing(profile: str) -> None:
    found = locations(rendered(profile)[f"{LOCATIONS}/portal-behind.conf"])
    assert {"/prometheus/", "/alertmanager/", "/buildbot/"} <= found.keys()
    for name, body in found.items():
        if not name.startswith("@"):
            assert "auth_request /portal/session;" in body
            assert "limit_except GET { deny all; }" in body
            (sent,) = re.findall(r"error_page 401 = (@\S+);", body)
            (to,) = re.findall(r"return 303 /portal/sign-in\?to=(\w+);", found[sent])
            assert program.ONWARD[to] == name
    for link in settings(profile)["links"]:
        assert any(link["path"].startswith(name) for name in found)


def test_a_machine_without_accounts_has_nothing_there_and_no_way_to_it() -> None:
    files = rendered("demo")
    assert files[f"{LOCATIONS}/portal-behind.conf"] == ""
    assert settings("demo")["provider"] is None
    assert settings("demo")["links"] == []
    assert part("portal").ADDRESS not in files


def test_the_pages_of_prometheus_are_named_below_the_portal_where_people_reach_them() -> None:
    files = rendered("development")
    assert "--web.external-url=/prometheus/ --web.route-prefix=/" in files[part("portal").ADDRESS]
    unit = files["etc/systemd/system/prometheus.service"]
    assert re.search(r"^ExecStart=.* \$BEHIND$", unit, re.MULTILINE)


def test_what_nginx_alone_asks_is_not_for_visitors() -> None:
    found = locations(rendered()[f"{LOCATIONS}/portal.conf"])
    for name in ("= /portal/part", "= /portal/session"):
        assert "    internal;\n" in found[name]
    (open_,) = (name for name in found if name.startswith("~"))
    served = {path for _, path in program.Portal(settings("demo"), "", "")._routes}
    reached = {path for path in served if re.match(open_.removeprefix("~ "), path)}
    # Where people come to a site that is behind sign-in is served there alone.
    closed = {"/portal/part", "/portal/session", "/portal/ended"}
    assert served - reached == {*closed, "/portal/enter"}


def test_its_program_ends_without_its_sessions() -> None:
    unit = rendered()["etc/systemd/system/rave-portal.service"]
    for line in ("RuntimeDirectoryPreserve=yes", "RuntimeDirectoryMode=0700", "User=rave-portal"):
        assert f"\n{line}\n" in unit
    assert "[Install]" not in unit


@pytest.mark.parametrize("profile", ["demo", "development", "production"])
def test_every_location_says_all_of_its_headers(profile: str) -> None:
    """nginx inherits none as soon as a location has one: what is included has them all."""
    files, facts = rendered(profile), plan(profile)["facts"]["nginx"]
    for name, own in (("files", "fileHeaders"), ("behind", "behindHeaders")):
        wanted = {*facts["headers"], *facts[own]}
        assert set(re.findall(r"add_header (\S+)", files[f"etc/nginx/{name}.conf"])) == wanted
    assert "unsafe" not in files["etc/nginx/headers.conf"]
