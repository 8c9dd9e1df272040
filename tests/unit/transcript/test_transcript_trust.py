"""Trust: public keys and allowed signers, read as ssh-keygen reads them or not at all."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.transcript import signing, sshsig
from rave_cli.transcript.trust import load_allowed_signers, load_key

if TYPE_CHECKING:
    from pathlib import Path

PUBLIC = Ed25519PrivateKey.from_private_bytes(b"\1" * 32).public_key()
LINE = sshsig.public_line(PUBLIC)
OTHER_LINE = sshsig.public_line(Ed25519PrivateKey.from_private_bytes(b"\2" * 32).public_key())
EC = ec.derive_private_key(7, ec.SECP256R1()).public_key()
EC_LINE = EC.public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH).decode()
RSA_LINE = (
    rsa.RSAPublicNumbers(65537, (1 << 2047) + 9)
    .public_key()
    .public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    .decode()
)


def written(directory: Path, text: str | bytes) -> Path:
    path = directory / "file"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


@pytest.mark.parametrize(
    "text",
    [
        f"{LINE}\n",
        f"{LINE} somebody's key\n",
        f"# a comment\n\n{LINE}",
        signing.public_pem(PUBLIC),
    ],
)
def test_a_public_key_is_read(tmp_path: Path, text: str) -> None:
    assert load_key(written(tmp_path, text)).fingerprint == sshsig.fingerprint(PUBLIC)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "not one Ed25519 public key"),
        (f"{LINE}\n{OTHER_LINE}\n", "not one Ed25519 public key"),
        (RSA_LINE, "not one Ed25519 public key"),
        (f"rave {LINE}", "not one Ed25519 public key"),
        ("ssh-ed25519", "not one Ed25519 public key"),
        ("ssh-ed25519 !!!!", "damaged"),
        (LINE[:-8], "damaged"),
        (LINE.replace("AAAAC3", "AAAAC4"), "damaged"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "is a private key"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "not a public key in PEM"),
        (
            EC.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo),
            "not an Ed25519 key",
        ),
        (b"\xff\xfe", "not a text file"),
        (b"#" * (1 << 20) + b"##", "too large"),
    ],
)
def test_what_is_not_one_public_key(tmp_path: Path, text: str | bytes, why: str) -> None:
    with pytest.raises(RaveError, match=why) as caught:
        load_key(written(tmp_path, text))
    assert caught.value.exit_code is ExitCode.USAGE


def test_a_key_file_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="No such file") as caught:
        load_key(tmp_path / "missing")
    assert caught.value.exit_code is ExitCode.HOST


def test_allowed_signers_are_read(tmp_path: Path) -> None:
    text = f"""\
# who may sign
*@example.org,!evil@example.org namespaces="rave-*,git" {LINE} a comment
ci  Valid-After="20260101",VALID-BEFORE="202601020304" {OTHER_LINE}
"quoted name" valid-after="20260101120000Z" {LINE}

only-git namespaces="git" {LINE}
boss cert-authority {LINE}
old {RSA_LINE}
old {EC_LINE}
"""
    keys = load_allowed_signers(written(tmp_path, text))
    assert [key.principals for key in keys] == [
        "*@example.org,!evil@example.org",
        "ci",
        "quoted name",
    ]
    assert keys[0].valid_after is None
    assert keys[1].valid_after == datetime(2026, 1, 1).astimezone()
    assert keys[1].valid_before == datetime(2026, 1, 2, 3, 4).astimezone()
    assert keys[2].valid_after == datetime(2026, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("principal", "found"),
    [
        ("ops@example.org", True),
        ("evil@example.org", False),
        ("ops@example.com", False),
        ("ci-7", True),
        ("ci-77", False),
        ("ci-[", True),
        ("OPS@EXAMPLE.ORG", False),
    ],
)
def test_a_principal_must_match(tmp_path: Path, principal: str, found: bool) -> None:
    path = written(tmp_path, f"*@example.org,!evil@*,ci-? {LINE}\n")
    if found:
        assert load_allowed_signers(path, principal)
    else:
        with pytest.raises(RaveError, match="may sign transcripts"):
            load_allowed_signers(path, principal)


@pytest.mark.parametrize(
    ("line", "why"),
    [
        (f"{LINE}", "line 1 has fewer than three fields"),
        (f"{LINE} comment", "unknown option|options that cannot be read"),
        ("rave", "fewer than three fields"),
        (f"rave unknown-option {LINE}", "unknown option"),
        (f'rave valid-after="soon" {LINE}', "time that cannot be read"),
        (f'rave valid-after="20261301" {LINE}', "time that cannot be read"),
        (f"rave valid-after=20260101 {LINE}", "options that cannot be read"),
        (f'rave valid-after="20260101Z",valid-before="20260101Z" {LINE}', "not later than"),
        (f"rave valid-after {LINE}", "time that cannot be read"),
        (f'rave namespaces="x,valid-after=20260101 {LINE}', "open quote"),
        (f'rave valid-after="20260101",valid-after="20270101" {LINE}', "twice"),
        (f"rave namespaces=a=b,,x {LINE}", "cannot be read"),
        (f"rave {LINE[:-8]}", "key that cannot be read"),
        ("rave ssh-ed25519 ????", "key that cannot be read"),
        ('rave namespaces="x" y z', "has no key"),
        ("# nothing", "has no Ed25519 key"),
        (f'rave namespaces="git" {LINE}', "has no Ed25519 key"),
    ],
)
def test_what_cannot_be_understood_is_refused(tmp_path: Path, line: str, why: str) -> None:
    with pytest.raises(RaveError, match=why) as caught:
        load_allowed_signers(written(tmp_path, f"{line}\n"))
    assert caught.value.exit_code is ExitCode.USAGE


@given(st.text(max_size=80))
def test_any_line_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, line: str) -> None:
    path = written(tmp_path_factory.getbasetemp(), line.encode("utf-8", "ignore"))
    for load in (load_key, load_allowed_signers):
        with pytest.raises(RaveError):
            load(path)
