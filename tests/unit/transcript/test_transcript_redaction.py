"""Redaction: a secret value is found in every form in which tools print it."""

from __future__ import annotations

import base64
import html
import json
import shlex
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.transcript import Redactor, redact
from rave_cli.transcript.redaction import MARK, forms

if TYPE_CHECKING:
    from collections.abc import Callable

SECRET = b"pa\"ss\\wo'rd/+ %\xc3\xa4<7>"
TEXT = SECRET.decode()

PRINTED: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "json": json.dumps,
    "json, unicode kept": lambda text: json.dumps(text, ensure_ascii=False),
    "json in json": lambda text: json.dumps(json.dumps({"key": text})),
    "python": repr,
    "shell": shlex.quote,
    "html": html.escape,
    "url path": quote,
    "url": lambda text: quote(text, safe=""),
    "url form": quote_plus,
    "url query": lambda text: urlencode({"password": text}),
    "url, lower case": lambda text: quote(text, safe="").replace("%C3%A4", "%c3%a4").lower(),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "base64, url-safe": lambda text: base64.urlsafe_b64encode(text.encode()).decode(),
    "basic auth": lambda text: base64.b64encode(b"user:" + text.encode()).decode(),
    "basic auth of a longer user": lambda text: base64.b64encode(
        b"users:" + text.encode()
    ).decode(),
    "base64, in the middle": lambda text: base64.b64encode(f"xyz{text}abcd".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
    "hex, upper case": lambda text: text.encode().hex().upper(),
    "hex, colons": lambda text: text.encode().hex(":"),
}


@pytest.mark.parametrize("form", PRINTED)
def test_every_form_is_found(form: str) -> None:
    text = TEXT.lower() if "lower" in form else TEXT
    printed = f"before {PRINTED[form](text)} after"
    redactor = Redactor([text.encode()])
    redacted = redactor.text(printed)
    assert MARK in redacted
    assert redactor.count >= 1
    assert redacted.startswith("before ")
    assert redacted.endswith(" after")
    assert not any(known in redacted for known in forms(text.encode()))


@given(
    st.binary(min_size=6, max_size=40).filter(lambda secret: len(secret.strip()) >= 6),
    st.binary(max_size=12),
    st.binary(max_size=12),
)
def test_no_form_of_a_binary_secret_survives(secret: bytes, before: bytes, after: bytes) -> None:
    secret = secret.strip()
    redactor = Redactor([secret])
    assert MARK in redactor.text((before + secret + after).hex())
    if len(secret) >= 9:  # below that a form may be too short to tell at every offset
        assert MARK in redactor.text(base64.b64encode(before + secret + after).decode())


@given(st.text(min_size=6, max_size=40), st.lists(st.text(max_size=20), max_size=3))
def test_no_secret_survives_in_json(secret: str, others: list[str]) -> None:
    raw = secret.encode(errors="ignore").strip()
    value = {"a": [*others, f"x{raw.decode()}y"], raw.decode(): {"b": raw.decode()}}
    redacted, count = redact(value, [raw])
    if len(raw) >= 6 and raw.decode() not in MARK:
        assert count >= 3
        assert raw.decode() not in json.loads(json.dumps(redacted))["a"][-1]
        assert not Redactor([raw]).finds(json.dumps(redacted))


def test_a_number_is_a_text_too() -> None:
    assert redact({"pin": 123456789, "n": 12}, [b"123456789"])[0] == {"pin": MARK, "n": 12}
    assert redact([True, None, 1.5], [b"123456789"]) == ([True, None, 1.5], 0)


def test_each_line_of_a_key_file_is_known() -> None:
    body = base64.b64encode(bytes(range(208))).decode()
    lines = [body[at : at + 64] for at in range(0, len(body), 64)]
    pem = "\n".join(["-----BEGIN PRIVATE KEY-----", *lines, "-----END PRIVATE KEY-----", ""])
    redactor = Redactor([pem.encode()])
    for line in lines:
        assert redactor.text(f"journal: {line}") == f"journal: {MARK}"
    assert redactor.text("-----BEGIN PRIVATE KEY-----") == "-----BEGIN PRIVATE KEY-----"


@pytest.mark.parametrize("width", [0, 64, 76])
def test_what_coreutils_prints_is_found(width: int) -> None:
    secret = bytes(range(33, 126)) * 3
    printed = subprocess.run(
        ["base64", f"--wrap={width}"], input=secret, capture_output=True, check=True
    ).stdout.decode()
    redacted = Redactor([secret]).text(printed)
    assert not any(len(line) >= 16 for line in redacted.replace(MARK, "").splitlines())


def test_blanks_around_a_value_do_not_hide_it() -> None:
    assert redact("password is hunter22!", [b"hunter22!\n"]) == (f"password is {MARK}", 1)


@pytest.mark.parametrize("secret", [b"", b"  \n", b"abc", b"demo\n"])
def test_values_that_words_contain_are_not_searched_for(secret: bytes) -> None:
    assert redact("abc demo", [secret]) == ("abc demo", 0)


def test_the_longer_secret_goes_first() -> None:
    assert redact("secret-and-more", [b"secret", b"secret-and-more"]) == (MARK, 1)


def test_secrets_can_be_learned_on_the_way() -> None:
    redactor = Redactor()
    assert redactor.value("hunter22!") == "hunter22!"
    redactor.learn([b"hunter22!"])
    assert redactor.value({"x": "hunter22!"}) == {"x": MARK}
    assert redactor.count == 1
