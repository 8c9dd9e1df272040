"""When a certificate expires, read without the ssl module and held against a library."""

from __future__ import annotations

import base64
import ssl
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509 as library
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ed25519
from hypothesis import given
from hypothesis import strategies as st

from rave_guest import ready
from rave_guest.services import nginx
from rave_guest.wire import x509

if TYPE_CHECKING:
    from pathlib import Path

KEY = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(32))
NAME = library.Name([library.NameAttribute(library.NameOID.COMMON_NAME, "rave.localhost")])


def certificate(expires: datetime, serial: int = 1) -> str:
    built = (
        library.CertificateBuilder(NAME, NAME, KEY.public_key(), serial)
        .not_valid_before(expires - timedelta(days=1))
        .not_valid_after(expires)
        .sign(KEY, None)
    )
    return built.public_bytes(serialization.Encoding.PEM).decode()


# UTCTime until 2049, GeneralizedTime from 2050 on (RFC 5280, 4.1.2.5).
moments = st.datetimes(datetime(1970, 1, 3), datetime(9998, 1, 1)).map(
    lambda moment: moment.replace(microsecond=0, tzinfo=UTC)
)


@given(moments, st.integers(1, 2**159))
def test_the_end_is_what_the_library_wrote(expires: datetime, serial: int) -> None:
    assert x509.not_after(certificate(expires, serial)) == int(expires.timestamp())


def test_of_a_chain_the_first_counts() -> None:
    first, second = datetime(2027, 1, 1, tzinfo=UTC), datetime(2030, 1, 1, tzinfo=UTC)
    chain = "text before\n" + certificate(first) + certificate(second)
    assert x509.not_after(chain) == int(first.timestamp())


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_certificate_is_a_value_error_or_a_time(at: int, byte: int) -> None:
    pem = certificate(datetime(2027, 1, 1, tzinfo=UTC))
    der = bytearray(ssl.PEM_cert_to_DER_cert(pem))
    der[at] = byte
    text = f"{x509.BEGIN}\n{base64.b64encode(bytes(der)).decode()}\n{x509.END}"
    try:
        assert isinstance(x509.not_after(text), int)
    except ValueError:
        return


@pytest.mark.parametrize("content", ["", "AAAA", "MIIB", "not base64!"])
def test_what_is_no_certificate_is_refused(content: str) -> None:
    for text in (content, x509.BEGIN, f"{x509.BEGIN}{content}{x509.END}"):
        with pytest.raises(ValueError, match=r".*"):
            x509.not_after(text)


def test_nginx_tells_when_its_certificate_expires(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = tmp_path / "current.crt"
    monkeypatch.setattr(nginx, "SHOWN", str(shown))
    plan: dict[str, Any] = {"services": {"nginx": {}, "node-exporter": {}}}
    assert ready.gauges(plan) == []
    expires = datetime(2027, 1, 1, tzinfo=UTC)
    shown.write_text(certificate(expires))
    assert [(name, value) for name, _, value in ready.gauges(plan)] == [
        ("rave_certificate_not_after_seconds", int(expires.timestamp()))
    ]
