"""Checks of decrypted values: every fault has a code, and no finding repeats a value."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from rave_cli.secrets import generate, values
from rave_platform.domain.signatures import parse_key
from tests.sops import CATALOG, secret

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)
GOOD = generate.complete({}, CATALOG, now=NOW)
OTHER = generate.complete({}, CATALOG, now=NOW)


def codes(changes: dict[str, str], now: datetime = NOW) -> list[tuple[str, str | None]]:
    found = list(values.check(GOOD | changes, CATALOG, now=now))
    for finding in found:
        assert all(text not in str(finding) for text in changes.values())
    return [(finding.code, finding.place) for finding in found]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("redis/password", "tooshort"),
        ("redis/password", "with a space in the middle of it"),
        ("redis/password", "with-a-newline-in-it\nand-more"),
        ("redis/password", "with-a-null-byte-in-it\0--------"),
        ("redis/password", "pässwörter-need-more-than-ascii"),
        ("redis/password", "x" * 73),
        ("redis/password", "md5" + "0123456789abcdef" * 2),
        ("redis/password", "SCRAM-SHA-256$4096:c2FsdA==$c3RvcmVk:c2VydmVy"),
        ("redis/password", "$2a$04$abcdefghijklmnopqrstuv"),
        *(
            ("redis/password", f"good-enough{mark}in-the-middle")
            for mark in "\"'\\`$#%@:/?[]{}<>|^"
        ),
        ("grafana/secret-key", "ABCDEF" * 11),
        ("grafana/secret-key", "ab" * 31),
        ("tls/key", "not a key at all"),
        ("tls/certificate", "not a certificate at all"),
    ],
)
def test_a_value_of_the_wrong_form(name: str, value: str) -> None:
    assert codes({name: value}) == [("value", name)]


@pytest.mark.parametrize(
    "value", ["x" * 16, "x" * 72, "md5" + "0" * 31, "a.b_c~d!e&f(g)h*i+j,k;l=m-n"]
)
def test_a_password_that_every_service_takes(value: str) -> None:
    assert codes({"redis/password": value}) == []


def test_each_value_that_counts_has_the_form_and_there_are_two_at_most() -> None:
    catalog = {"webhook/key": secret(kind="hex", bytes=32, several=True)}
    good = "ab" * 32

    def wrong(value: str) -> int:
        return len(list(values.check({"webhook/key": value}, catalog)))

    assert [wrong(good), wrong(f"{good}\n{good}"), wrong(f"{good}\nshort")] == [0, 0, 1]
    assert wrong(f"{good}\n{good}\n{good}") == 1
    assert wrong(f"{good}\n") == 1


def test_a_certificate_of_another_key() -> None:
    changes = {"tls/certificate": OTHER["tls/certificate"]}
    assert codes(changes) == [("certificate-key", "tls/certificate")]


@pytest.mark.parametrize(
    ("later", "code"),
    [
        (generate.CERTIFICATE_LIFE + timedelta(seconds=1), "certificate-expired"),
        (generate.CERTIFICATE_LIFE - timedelta(days=10), "certificate-ends"),
        (-timedelta(hours=2), "certificate-early"),
    ],
)
def test_the_time_of_a_certificate(later: timedelta, code: str) -> None:
    assert codes({}, NOW + later) == [(code, "tls/certificate")]


def test_rsa_keys() -> None:
    catalog = {"jws": secret(kind="rsa", bits=3072)}
    small = generate.make({"kind": "rsa", "bits": 2048}, {}, now=NOW)
    assert [f.message for f in values.check({"jws": small}, catalog)] == [
        "the RSA key has fewer than 3072 bits"
    ]
    assert [f.code for f in values.check({"jws": GOOD["tls/key"]}, catalog)] == ["value"]


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("whsec_" + "a2V5" * 8, True),  # 24 bytes
        ("whsec_" + "a2V5" * 8 + "aw", True),  # some write no padding
        ("whsec_" + "a2V5" * 7, False),
        ("whsec_" + "a2V5" * 22, False),
        ("a2V5" * 8, False),
        ("whsec_" + "!!!!" * 8, False),
        ("0123456789abcdef" * 4, False),
    ],
)
def test_a_key_for_webhooks_is_what_the_dispatcher_takes(value: str, fits: bool) -> None:
    catalog = {"webhook/key": secret(kind="webhook-key", bytes=32)}
    found = list(values.check({"webhook/key": value}, catalog))
    assert [f.code for f in found] == ([] if fits else ["value"])
    assert all(value not in str(f) and "rotate webhook/key" in (f.hint or "") for f in found)
    if fits:
        parse_key(value)


@pytest.mark.parametrize(
    ("value", "fits"),
    [
        ("ed25519 a_1f2e3d " + "A" * 43, True),
        ("ed25519 a_1f2e3d " + "A" * 42, False),
        ("ed25519 " + "A" * 43, False),
        ("0123456789abcdef" * 4, False),
    ],
)
def test_a_signing_key_of_synapse_has_its_form(value: str, fits: bool) -> None:
    catalog = {"matrix/signing-key": secret(kind="matrix-key")}
    found = list(values.check({"matrix/signing-key": value}, catalog))
    assert [f.code for f in found] == ([] if fits else ["value"])
    assert all(value not in str(f) for f in found)


@pytest.mark.parametrize(
    ("value", "fits"),
    [("{}", True), ('{"a": ["b"]}', True), ("", False), ("[]", False), ("null", False),
     ("{'a': 1}", False), ("[" * 100_000, False)],
)  # fmt: skip
def test_settings_are_an_object_and_more_is_whose_they_are(value: str, fits: bool) -> None:
    catalog = {"router/providers": secret(kind="settings")}
    found = list(values.check({"router/providers": value}, catalog))
    assert [f.code for f in found] == ([] if fits else ["value"])


def test_what_is_missing_is_not_this_checks_business() -> None:
    assert list(values.check({}, CATALOG)) == []
