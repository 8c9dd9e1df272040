"""A certificate of one's own: taken if nginx could show it under the machine's names, and else
refused before anything changes, with what is wrong.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.tls import authority, chain, making

NOW = datetime.now(UTC)
HOST = "rave.example.org"
HOSTS = (HOST, f"auth.{HOST}")
OWN = authority.make(HOST, now=NOW - timedelta(days=200))
GOOD = authority.issue(OWN, HOST, now=NOW)


def read(text: str, key: str, hosts: tuple[str, ...] = HOSTS) -> authority.Issued:
    places = ("chain.pem", "key.pem")
    return chain.own(text.encode(), key.encode(), hosts, now=NOW, places=places)


def test_a_good_one_is_taken_as_it_is() -> None:
    assert read(GOOD.chain, GOOD.key) == GOOD
    alone = GOOD.chain[: GOOD.chain.rindex("-----BEGIN")]
    assert read(f"a comment\n{alone}", GOOD.key).chain == alone


def issued(days: float = 0, host: str = HOST) -> authority.Issued:
    return authority.issue(OWN, host, now=NOW + timedelta(days=days))


def swapped() -> str:
    at = GOOD.chain.rindex("-----BEGIN")
    other = authority.make(HOST, now=NOW).pem
    return GOOD.chain[:at] + other


@pytest.mark.parametrize(
    ("text", "key", "code", "why"),
    [
        ("nothing", GOOD.key, ExitCode.VERIFICATION, "holds no certificate in PEM"),
        (GOOD.chain, "nothing", ExitCode.SECRETS, "holds no private key in PEM"),
        (GOOD.chain, issued().key, ExitCode.SECRETS, "is not the one of the certificate"),
        (swapped(), GOOD.key, ExitCode.VERIFICATION, "certificate 2 in chain.pem did not issue"),
    ],
)
def test_what_cannot_be_shown_is_refused(text: str, key: str, code: ExitCode, why: str) -> None:
    with pytest.raises(RaveError, match=why) as caught:
        read(text, key)
    assert caught.value.exit_code is code
    assert caught.value.hint


@pytest.mark.parametrize(
    ("days", "why"), [(-91, "ended on"), (-90.1, "ended on"), (2, "begins on")]
)
def test_one_that_is_not_valid_now_is_refused(days: float, why: str) -> None:
    made = issued(days)
    with pytest.raises(RaveError, match=why) as caught:
        read(made.chain, made.key)
    assert caught.value.exit_code is ExitCode.VERIFICATION


def test_one_for_other_names_is_refused_and_says_which_are_missing() -> None:
    made = issued(host="other.example.org")
    with pytest.raises(RaveError, match=f"not for {HOST}, auth.{HOST}") as caught:
        read(made.chain, made.key)
    assert caught.value.exit_code is ExitCode.VERIFICATION
    assert f"*.{HOST}" in str(caught.value.hint)


def test_a_key_with_a_passphrase_is_refused_with_the_way_without() -> None:
    key = load_pem_private_key(GOOD.key.encode(), None)
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    with pytest.raises(RaveError, match="has a passphrase") as caught:
        read(GOOD.chain, locked.decode())
    assert caught.value.exit_code is ExitCode.SECRETS
    assert "--key -" in str(caught.value.hint)


@pytest.mark.parametrize(
    "key",
    [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 1024)],  # noqa: S505 - it is refused
)
def test_a_key_that_clients_do_not_take_is_refused(
    key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey,
) -> None:
    with pytest.raises(RaveError, match="neither an EC key nor an RSA key of 2048 bits"):
        read(GOOD.chain, making.private_pem(key))


def test_a_message_says_nothing_of_the_key() -> None:
    other = making.private_pem(ec.generate_private_key(ec.SECP256R1()))
    with pytest.raises(RaveError) as caught:
        read(GOOD.chain, other)
    told = f"{caught.value.message} {caught.value.hint} {caught.value.detail}"
    assert not any(line in told for line in other.splitlines()[1:-1])


@pytest.mark.parametrize(
    ("names", "host", "covered"),
    [
        (("a.example",), "a.example", True), (("A.Example",), "a.example", True),
        (("*.example",), "a.example", True), (("*.example",), "example", False),
        (("*.example",), "b.a.example", False), (("*",), "localhost", False),
        ((), "a.example", False), (("127.0.0.1",), "127.0.0.1", True),
    ],
)  # fmt: skip
def test_a_star_is_one_whole_label(names: tuple[str, ...], host: str, covered: bool) -> None:
    assert chain.covers(names, host) is covered


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_no_bytes_break_it(text: bytes, key: bytes) -> None:
    with pytest.raises(RaveError):
        chain.own(text, key, HOSTS, now=NOW, places=("a", "b"))


def test_the_facts_are_what_the_certificate_says() -> None:
    found = chain.facts(GOOD.chain)
    assert found.names == ("localhost", HOST, f"*.{HOST}", "127.0.0.1")
    assert found.days(NOW) == 89
    assert found.issuer == OWN.certificate.subject.rfc4514_string()
    assert len(found.fingerprint) == 64
