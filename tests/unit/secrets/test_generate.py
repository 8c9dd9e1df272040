"""Generated values: their form, and that nothing which exists is overwritten."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import generate, values
from rave_platform.domain.signatures import parse_key
from tests.sops import CATALOG, secret

if TYPE_CHECKING:
    from collections.abc import Mapping

NOW = datetime(2026, 11, 20, 12, 0, tzinfo=UTC)


@given(st.integers(1, 200))
def test_passwords(length: int) -> None:
    made = generate.password(length)
    assert len(made) == length
    assert set(made) <= set(generate.ALPHABET)


@given(st.integers(1, 64))
def test_hex(count: int) -> None:
    made = generate.make({"kind": "hex", "bytes": count}, {}, now=NOW)
    assert re.fullmatch(f"[0-9a-f]{{{2 * count}}}", made)


@given(st.integers(24, 64))
def test_a_key_for_webhooks_is_one_that_the_dispatcher_takes(count: int) -> None:
    made = generate.make({"kind": "webhook-key", "bytes": count}, {}, now=NOW)
    assert len(parse_key(made)) == count


def test_two_values_differ() -> None:
    made = [generate.complete({}, CATALOG) for _ in range(2)]
    assert all(made[0][name] != made[1][name] for name in CATALOG)


def test_everything_made_passes_the_checks() -> None:
    catalog = CATALOG | {
        "gitlab/jws": secret(kind="rsa", bits=2048),
        "matrix/signing-key": secret(kind="matrix-key"),
        "router/providers": secret(kind="settings"),
    }
    assert list(values.check(generate.complete({}, catalog, now=NOW), catalog, now=NOW)) == []


@settings(deadline=None, max_examples=30)
@given(st.sets(st.sampled_from(["redis/password", "grafana/secret-key", "own/thing"])))
def test_what_exists_stays(names: set[str]) -> None:
    existing = {name: f"mine of {name}" for name in names}
    made = generate.complete(existing, CATALOG)
    assert {name: made[name] for name in names} == existing
    assert set(made) == set(CATALOG) | names


def test_a_certificate_is_made_for_the_key_that_is_there() -> None:
    key = generate.make({"kind": "tls-key"}, {}, now=NOW)
    made = generate.complete({"tls/key": key}, CATALOG, now=NOW)
    assert made["tls/key"] == key
    assert list(values.check(made, CATALOG, now=NOW)) == []


def test_a_certificate_without_its_key_is_refused() -> None:
    existing = {"tls/certificate": "some certificate"}
    with pytest.raises(RaveError) as caught:
        generate.complete(existing, CATALOG)
    assert caught.value.exit_code is ExitCode.SECRETS
    assert "rave secrets rotate tls/key" in str(caught.value.hint)


def test_the_certificate() -> None:
    key = generate.make({"kind": "tls-key"}, {}, now=NOW)
    certificate = x509.load_pem_x509_certificate(generate.certificate(key, now=NOW).encode())
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert "localhost" in names.get_values_for_type(x509.DNSName)
    assert "127.0.0.1" in {str(a) for a in names.get_values_for_type(x509.IPAddress)}
    assert certificate.not_valid_before_utc < NOW
    assert certificate.not_valid_after_utc - NOW == generate.CERTIFICATE_LIFE


def renewed(names: set[str]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    before = generate.complete({}, CATALOG, now=NOW)
    return before, generate.renew(before, CATALOG, frozenset(names), now=NOW + timedelta(days=1))


def test_renewal_changes_what_was_named() -> None:
    before, after = renewed({"redis/password"})
    assert {name for name in CATALOG if before[name] != after[name]} == {"redis/password"}


def test_a_new_key_brings_a_new_certificate() -> None:
    before, after = renewed({"tls/key"})
    assert {n for n in CATALOG if before[n] != after[n]} == {"tls/key", "tls/certificate"}
    assert list(values.check(after, CATALOG, now=NOW + timedelta(days=1))) == []


def test_a_new_certificate_keeps_its_key() -> None:
    before, after = renewed({"tls/certificate"})
    assert {n for n in CATALOG if before[n] != after[n]} == {"tls/certificate"}


def test_an_unknown_kind() -> None:
    with pytest.raises(RaveError, match="kind 'magic'") as caught:
        generate.complete({}, {"x": secret(kind="magic")})
    assert caught.value.exit_code is ExitCode.HOST
