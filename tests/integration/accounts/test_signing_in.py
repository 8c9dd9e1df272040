"""People sign in at the real Canaille: with a password that is used once, and to a service."""

from __future__ import annotations

import base64
import hashlib
import json
import subprocess
import sys
import time
from typing import TYPE_CHECKING
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest

from tests import postgres
from tests.integration.accounts.browser import Browser
from tests.integration.accounts.conftest import forwarded
from tests.integration.accounts.test_accounts import ALICE, Operator, ask

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.accounts.conftest import Canaille

__all__ = ["ask"]

pytestmark = [pytest.mark.integration, *postgres.NEEDED]

CALLBACK = "https://wiki.rave.localhost:3002/callback"
CLIENT, SECRET = "wiki", "the-secret-of-the-wiki"
VERIFIER = "a-verifier-of-at-least-forty-three-characters-0"
NEW = "a new and long password 7"


@pytest.fixture(scope="module")
def client(wheels: Path, place: Path, canaille: Canaille) -> str:
    """A service that people sign in to."""
    words = {
        "client-id": CLIENT, "client-secret": SECRET, "client-name": "Wiki",
        "redirect-uris": CALLBACK, "grant-types": "authorization_code", "response-types": "code",
        "token-endpoint-auth-method": "client_secret_basic",
    }  # fmt: skip
    argv = [word for name, value in words.items() for word in (f"--{name}", value)]
    scope = ["--scope", "openid", "--scope", "profile", "--scope", "groups"]
    subprocess.run(
        [sys.executable, "-IS", wheels, "canaille.commands:cli", "create", "client", *argv, *scope],
        env={"CANAILLE_CONFIG": str(place / "canaille.toml")}, check=True, capture_output=True,
    )  # fmt: skip
    return CLIENT


@pytest.fixture
def alice(ask: Operator) -> str:
    """An account, and its password, which is used once."""
    return str(ask("add", "alice", **ALICE | {"groups": ["staff"]})["password"])


def authorize(**more: str) -> str:
    """Return the address to which a service sends whoever wants to sign in (RFC 7636, 6749)."""
    challenge = base64.urlsafe_b64encode(hashlib.sha256(VERIFIER.encode()).digest()).rstrip(b"=")
    wanted = {
        "client_id": CLIENT, "redirect_uri": CALLBACK, "response_type": "code", "nonce": "n",
        "scope": "openid profile groups", "state": "s", "code_challenge_method": "S256",
        "code_challenge": challenge.decode(),
    }  # fmt: skip
    return f"/oauth/authorize?{urlencode(wanted | more)}"


def token(canaille: Canaille, code: str, **more: str) -> tuple[int, dict[str, str]]:
    """Redeem a code, as a service does."""
    basic = base64.b64encode(f"{CLIENT}:{SECRET}".encode()).decode()
    fields = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": CALLBACK,
        "code_verifier": VERIFIER,
    }  # fmt: skip
    headers = forwarded() | {
        "Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded",
    }  # fmt: skip
    with canaille.connected() as connection:
        connection.request("POST", "/oauth/token", urlencode(fields | more), headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


def code_of(browser: Browser, back: str = CALLBACK) -> str:
    """Agree if that is asked, and return the code with which the browser is sent back."""
    if browser.answer is not None:
        browser.submit(answer="accept")
    there = parse_qs(urlsplit(browser.url).query)
    assert browser.url.startswith(back), browser.url
    assert there["state"] == ["s"]
    return there["code"][0]


def changed(browser: Browser) -> None:
    """Change the password, on the page to which one that is used once leads."""
    assert "/reset/alice" in browser.url
    browser.submit(password=NEW, confirmation=NEW)


def test_a_one_time_password_leads_to_a_service_only_once_it_is_changed(
    canaille: Canaille, client: str, alice: str, ask: Operator
) -> None:
    browser = Browser(canaille)
    browser.open(authorize())
    browser.sign_in("alice", alice)
    changed(browser)
    status, found = token(canaille, code_of(browser))
    assert status == 200
    claims = json.loads(base64.urlsafe_b64decode(found["id_token"].split(".")[1] + "=="))
    assert (claims["sub"], claims["groups"]) == ("alice", ["staff"])
    assert ask("show", "alice")["user"]["password"] == "set"
    # It opens nothing any more.
    again = Browser(canaille)
    again.open("/login")
    page = again.sign_in("alice", alice)
    assert page is not None
    assert "Login failed" in page.text


def test_a_one_time_password_opens_no_other_page(canaille: Canaille, alice: str) -> None:
    browser = Browser(canaille)
    browser.open("/login")
    browser.sign_in("alice", alice)
    browser.open("/profile/alice")
    assert "/reset/alice" in browser.url


def test_a_code_is_worth_something_once_and_with_its_verifier_alone(
    canaille: Canaille, client: str, alice: str
) -> None:
    browser = Browser(canaille)
    browser.open(authorize())
    browser.sign_in("alice", alice)
    changed(browser)
    code = code_of(browser)
    assert token(canaille, code, code_verifier="x" * 43)[0] == 400
    browser.open(f"https://{forwarded()['Host']}{authorize()}")
    code = code_of(browser)
    assert [token(canaille, code)[0] for _ in range(2)] == [200, 400]


def test_two_tokens_of_one_second_differ(canaille: Canaille, client: str, alice: str) -> None:
    browser = Browser(canaille)
    browser.open(authorize())
    browser.sign_in("alice", alice)
    changed(browser)
    codes = [code_of(browser)]
    for _ in range(2):
        browser.open(f"https://{forwarded()['Host']}{authorize()}")
        codes.append(code_of(browser))
    # At the beginning of a second, so that a busy host may take long for it.
    time.sleep(1 - time.time() % 1)
    found = [token(canaille, code) for code in codes]
    assert [status for status, _ in found] == [200] * 3
    assert len({document["access_token"] for _, document in found}) == 3


def test_another_address_gets_no_code(canaille: Canaille, client: str, alice: str) -> None:
    browser = Browser(canaille)
    browser.open("/login")
    browser.sign_in("alice", alice)
    changed(browser)
    page = browser.open(authorize(redirect_uri="https://elsewhere.example.org/"))
    assert page is not None
    assert page.status == 400


def test_whoever_is_disabled_stays_out_and_is_put_out(
    canaille: Canaille, client: str, alice: str, ask: Operator
) -> None:
    browser = Browser(canaille)
    browser.open(authorize())
    browser.sign_in("alice", alice)
    changed(browser)
    code = code_of(browser)
    ask("disable", "alice")
    # What is open ends: the code, and the session.
    assert token(canaille, code)[0] == 400
    page = browser.open(f"https://{forwarded()['Host']}{authorize()}")
    assert page is not None
    assert "/login" in browser.url
    again = browser.sign_in("alice", NEW)
    assert again is not None
    assert "locked" in again.text
    ask("enable", "alice")
    back = Browser(canaille)
    back.open("/login")
    back.sign_in("alice", NEW)
    assert "/profile/alice" in back.url


def test_markup_in_a_name_is_none_on_a_page(canaille: Canaille) -> None:
    browser = Browser(canaille)
    browser.open("/login")
    page = browser.submit(login="<script>alert(1)</script>")
    assert page is not None
    assert "<script>alert" not in page.text


def test_a_new_password_ends_what_was_opened_with_the_one_before(
    canaille: Canaille, client: str, alice: str, ask: Operator
) -> None:
    browser = Browser(canaille)
    browser.open("/login")
    browser.sign_in("alice", alice)
    changed(browser)
    browser.open("/profile/alice/settings")
    assert "/profile/alice/settings" in browser.url
    password = str(ask("reset-password", "alice")["password"])
    # Else whoever has the session would choose the next password.
    for path in ("/reset/alice", "/profile/alice", authorize()):
        page = browser.open(path)
        assert page is not None
        assert "/login" in browser.url or page.status == 403
    browser.open("/login")
    browser.sign_in("alice", password)
    changed(browser)
    browser.open("/profile/alice/settings")
    assert "/profile/alice/settings" in browser.url


@pytest.mark.parametrize("path", ["/groups/add", "/profile", "/users", "/admin/client/add"])
def test_nobody_administers_accounts_on_its_pages(
    canaille: Canaille, ask: Operator, path: str
) -> None:
    password = str(ask("add", "admin", **ALICE | {"groups": ["admin"]})["password"])
    browser = Browser(canaille)
    browser.open("/login")
    browser.sign_in("admin", password)
    browser.submit(password=NEW, confirmation=NEW)
    page = browser.open("/profile/admin/settings")
    assert page is not None
    assert page.status == 200
    refused = browser.open(path)
    assert refused is not None
    assert refused.status in {403, 404}
