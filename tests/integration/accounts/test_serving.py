"""Canaille as the guest serves it: who it says it is, what it keeps to itself, how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import postgres
from tests.integration.accounts.conftest import (
    NAME,
    SECRET_KEY,
    Canaille,
    forwarded,
    running,
)

pytestmark = [pytest.mark.integration, *postgres.NEEDED]

DISCOVERY = "/.well-known/openid-configuration"


def test_it_says_who_it_is_and_what_signs(canaille: Canaille) -> None:
    known = json.loads(canaille.get(DISCOVERY).text)
    assert known["issuer"] == f"https://{NAME}"
    assert known["token_endpoint"].startswith(f"https://{NAME}/")
    assert "S256" in known["code_challenge_methods_supported"]
    (key,) = json.loads(canaille.get("/oauth/jwks.json").text)["keys"]
    assert (key["kty"], key["alg"], key["use"]) == ("RSA", "RS256", "sig")
    assert not {"d", "p", "q", "dp", "dq", "qi"} & key.keys()


def test_its_health_question_is_answered_without_a_name(canaille: Canaille) -> None:
    answer = canaille.get(DISCOVERY, headers={"Host": "127.0.0.1:3040"})
    assert (answer.status, "authorization_endpoint" in answer.text) == (200, True)


def test_it_is_the_same_whoever_asks_by_whichever_port(canaille: Canaille) -> None:
    inside = json.loads(canaille.get(DISCOVERY, headers={"Host": "127.0.0.1:3040"}).text)
    assert inside == json.loads(canaille.get(DISCOVERY).text)


def test_whoever_asks_by_another_name_is_led_to_its_own(canaille: Canaille) -> None:
    answer = canaille.get(DISCOVERY, headers=forwarded("elsewhere.example.org"))
    assert (answer.status, answer.headers["Location"]) == (302, f"https://{NAME}{DISCOVERY}")


def test_nobody_registers(canaille: Canaille) -> None:
    assert canaille.get("/join").status == 404


def test_its_page_asks_no_other_host_and_sets_safe_cookies(canaille: Canaille) -> None:
    page = canaille.get("/login")
    assert page.status == 200
    assert "<script" not in page.text
    for cookie in page.headers.get_all("Set-Cookie") or []:
        assert {"Secure", "HttpOnly"} <= {word.strip() for word in cookie.split(";")}


def test_no_secret_is_in_its_environment_command_line_or_log(
    canaille: Canaille, signing_key: str
) -> None:
    process = Path(f"/proc/{canaille.process.pid}")
    shown = b"".join((process / name).read_bytes() for name in ("environ", "cmdline"))
    shown += canaille.log.read_bytes()
    assert SECRET_KEY.encode() not in shown
    assert signing_key.splitlines()[5].encode() not in shown


def test_it_ends_at_once_although_somebody_keeps_a_connection_open(
    wheels: Path, place: Path, secrets: Path
) -> None:
    with running(wheels, place, secrets) as canaille, canaille.connected() as kept:
        kept.request("GET", DISCOVERY, headers=forwarded())
        kept.getresponse().read()
        assert canaille.end() < 3
        assert canaille.process.returncode == 0


def test_it_starts_without_secrets_with_keys_of_its_own(wheels: Path, place: Path) -> None:
    keys = []
    for _ in range(2):
        with running(wheels, place, place / "absent") as canaille:
            keys += json.loads(canaille.get("/oauth/jwks.json").text)["keys"]
    first, *others = [key["kid"] for key in keys if key["kty"] == "RSA"]
    assert others
    assert first not in others
