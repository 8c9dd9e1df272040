"""The smoke suite's sign-in, without a provider: tokens that are verified, pages that are read."""

from __future__ import annotations

import json
from base64 import urlsafe_b64encode
from functools import cache
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import signin
from rave_guest.check import declared
from rave_guest.journey import Broken
from rave_guest.services import canaille
from rave_guest.wire.browser import Browser, Forms

if TYPE_CHECKING:
    from http.client import HTTPConnection

SITE = "https://auth.rave.localhost:1"


def b64(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return b64(value.to_bytes((value.bit_length() + 7) // 8, "big"))


@cache
def key(name: str) -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(public_exponent=65537, key_size=2048)


def public(name: str) -> dict[str, str]:
    numbers = key(name).public_key().public_numbers()
    return {"kty": "RSA", "kid": name, "n": number(numbers.n), "e": number(numbers.e)}


def token(claims: dict[str, Any], *, by: str = "one", alg: str = "RS256", kid: str = "one") -> str:
    header = json.dumps({"alg": alg, "kid": kid}).encode()
    text = f"{b64(header)}.{b64(json.dumps(claims).encode())}"
    return f"{text}.{b64(key(by).sign(text.encode(), padding.PKCS1v15(), SHA256()))}"


@given(claims=st.dictionaries(st.text(max_size=9), st.integers() | st.text(max_size=9), max_size=4))
def test_claims_that_the_provider_signed_are_taken(claims: dict[str, Any]) -> None:
    assert signin.verified(token(claims), [public("two"), public("one")]) == claims


@pytest.mark.parametrize(
    "bad",
    [
        token({"sub": "a"}, by="two"), token({"sub": "a"}, alg="none"), token({}, alg="HS256"),
        token({"sub": "a"}, kid="three"),
    ],
)  # fmt: skip
def test_a_token_that_it_did_not_sign_is_refused(bad: str) -> None:
    with pytest.raises(Broken):
        signin.verified(bad, [public("one")])


@given(at=st.integers(0, 200), bit=st.integers(0, 5))
def test_a_token_that_was_changed_is_refused(at: int, bit: int) -> None:
    text = token({"sub": "alice"})
    head, body, signature = text.split(".")
    raw = bytearray(body.encode())
    raw[at % len(raw)] ^= 1 << bit
    changed = f"{head}.{raw.decode(errors='replace')}.{signature}"
    if changed == text:
        return
    with pytest.raises((Broken, ValueError)):
        signin.verified(changed, [public("one")])


def test_every_step_is_a_check_and_every_check_a_step() -> None:
    checks = {one.id for one in declared(canaille) if one.phase == "sign-in"}
    assert checks == {f"sign-in.{name}" for name in signin.STEPS}


@given(page=st.text(max_size=200))
def test_any_page_is_read(page: str) -> None:
    assert isinstance(Forms(page).found, list)


def test_a_form_has_its_fields_and_one_that_is_not_there_is_told() -> None:
    page = (
        '<form action="/a"><input name="x" value="1"><button name="go"></form><form><input name=y>'
    )
    assert Forms(page).found == [("/a", {"x": "1", "go": ""}), ("", {"y": ""})]
    browser = Browser(SITE, nobody, {})
    browser.page = page
    with pytest.raises(ValueError, match="no form of / has z"):
        browser.submit(z="1")


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("/login", True), (f"{SITE}/back", False), (f"{SITE}0/login", False),
        ("https://elsewhere.example.org/", False), (f"{SITE}.example.org/", False),
    ],
)  # fmt: skip
def test_what_leads_away_is_not_followed(address: str, here: bool) -> None:
    browser = Browser(SITE, nobody, {}, f"{SITE}/back")
    if here:
        with pytest.raises(ConnectionRefusedError):
            browser.open(address)
    else:
        browser.open(address)
    assert browser.here is here


def nobody() -> HTTPConnection:
    raise ConnectionRefusedError(111, "nobody is there")
