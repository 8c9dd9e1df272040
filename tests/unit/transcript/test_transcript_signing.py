"""The signing key: made once, kept private, and its public forms beside it."""

from __future__ import annotations

import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.transcript import signing, signing_key, sshsig
from rave_cli.transcript.canonical import DamagedError

if TYPE_CHECKING:
    from pathlib import Path

KEY = Ed25519PrivateKey.from_private_bytes(b"\1" * 32)


def openssh(key: Ed25519PrivateKey | ec.EllipticCurvePrivateKey, password: bytes = b"") -> bytes:
    encryption = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, encryption)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    path = tmp_path / "key"
    path.write_bytes(openssh(KEY))
    path.chmod(0o600)
    return path


def test_the_first_use_makes_the_key_and_says_so(home: Path) -> None:
    key = signing_key()
    assert key.created
    assert key.path == home / ".config/rave/signing/id_ed25519"
    assert stat.S_IMODE(key.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.path.parent.stat().st_mode) == 0o700
    assert key.path.read_text().startswith("-----BEGIN OPENSSH PRIVATE KEY-----\n")
    again = signing_key()
    assert not again.created
    assert again.fingerprint == key.fingerprint
    assert {path.name for path in key.path.parent.iterdir()} == {
        "id_ed25519", "id_ed25519.pub", "id_ed25519.pub.pem", "allowed_signers",
    }  # fmt: skip


def test_the_public_files_come_back_if_they_were_lost(home: Path) -> None:
    key = signing_key()
    before = {path: path.read_bytes() for path in key.path.parent.iterdir()}
    key.public_file.unlink()
    key.pem_file.write_text("something else")
    key.allowed_signers_file.unlink()
    signing_key()
    assert {path: path.read_bytes() for path in key.path.parent.iterdir()} == before


def test_allowed_signers_of_the_user_are_kept(home: Path) -> None:
    key = signing_key()
    limited = f'me valid-before="20300101Z" {sshsig.public_line(key.public)}\n'
    key.allowed_signers_file.write_text(limited)
    signing_key()
    assert key.allowed_signers_file.read_text() == limited
    colleague = sshsig.public_line(Ed25519PrivateKey.generate().public_key())
    key.allowed_signers_file.write_text(f"colleague {colleague}\n")
    signing_key()
    lines = key.allowed_signers_file.read_text().splitlines()
    assert lines[0].startswith("colleague ")
    assert lines[1] == f'rave namespaces="rave-transcript@v1" {sshsig.public_line(key.public)}'


def test_many_first_uses_at_once_make_one_key(home: Path) -> None:
    found: list[signing.SigningKey] = []
    threads = [threading.Thread(target=lambda: found.append(signing_key())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({key.fingerprint for key in found}) == 1
    assert [key.created for key in found].count(True) == 1


def test_a_key_can_be_named(home: Path, place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fingerprint = sshsig.fingerprint(KEY.public_key())
    assert signing_key(place).fingerprint == fingerprint
    monkeypatch.setenv("RAVE_SIGNING_KEY", str(place))
    assert signing_key().fingerprint == fingerprint
    assert not signing_key().created
    assert not signing.default_path().exists()
    assert sorted(place.parent.glob("key*")) == [place]


def test_a_named_key_must_exist(home: Path, tmp_path: Path) -> None:
    with pytest.raises(RaveError, match="No such file") as caught:
        signing_key(tmp_path / "missing")
    assert caught.value.exit_code is ExitCode.HOST
    assert not (tmp_path / "missing").exists()


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o777])
def test_a_key_that_others_can_read_is_refused(place: Path, mode: int) -> None:
    place.chmod(mode)
    with pytest.raises(RaveError, match="can be read by others") as caught:
        signing_key(place)
    assert caught.value.exit_code is ExitCode.SECRETS


def test_a_link_is_refused(place: Path) -> None:
    link = place.with_name("link")
    link.symlink_to(place)
    with pytest.raises(RaveError, match="symbolic link"):
        signing_key(link)


def test_a_dangling_link_at_the_default_place_is_not_followed(home: Path, tmp_path: Path) -> None:
    signing.default_path().parent.mkdir(parents=True, mode=0o700)
    signing.default_path().symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RaveError, match="symbolic link"):
        signing_key()
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (openssh(KEY, b"passphrase"), "has a passphrase"),
        (openssh(ec.generate_private_key(ec.SECP256R1())), "not an Ed25519 key"),
        (b"", "not a private key in OpenSSH's format"),
        (openssh(KEY)[:200], "not a private key in OpenSSH's format"),
        (b"ssh-ed25519 AAAA", "not a private key in OpenSSH's format"),
        (
            KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "not a private key in OpenSSH's format",
        ),
    ],
)
def test_other_contents_are_refused(place: Path, content: bytes, why: str) -> None:
    place.write_bytes(content)
    with pytest.raises(RaveError, match=why) as caught:
        signing_key(place)
    assert caught.value.exit_code is ExitCode.SECRETS
    assert caught.value.hint


def test_a_failed_first_use_leaves_no_half_key(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RaveError, match="no space left"):
        signing_key()
    assert list(signing.default_path().parent.iterdir()) == []


@given(st.binary(max_size=200), st.sampled_from(["a", "rave-transcript@v1"]))
def test_ssh_signatures_are_read_back(message: bytes, namespace: str) -> None:
    found = sshsig.parse(sshsig.sign(KEY, message, namespace))
    assert found.namespace == namespace
    assert found.public == sshsig.public_blob(KEY.public_key())
    KEY.public_key().verify(found.signature, sshsig.signed_bytes(message, namespace))


GOOD = sshsig.sign(KEY, b"message")


@given(st.integers(0, len(GOOD) - 1), st.integers(1, 255))
def test_a_changed_ssh_signature_is_damaged_or_other(at: int, mask: int) -> None:
    changed = GOOD[:at] + bytes([GOOD[at] ^ mask]) + GOOD[at + 1 :]
    try:
        found = sshsig.parse(changed)
    except DamagedError:
        return
    assert found != sshsig.parse(GOOD)


@pytest.mark.parametrize(
    "armored",
    [
        b"",
        GOOD[:-1],
        GOOD + b"\n",
        GOOD.replace(b"\n", b"\r\n"),
        b"\n".join([GOOD.splitlines()[0], b"AAAA", GOOD.splitlines()[-1], b""]),
        b"\n".join([GOOD.splitlines()[0], b"U1NIU0lHAAAAAf////8=", GOOD.splitlines()[-1], b""]),
    ],
)
def test_other_armor_is_refused(armored: bytes) -> None:
    with pytest.raises(DamagedError):
        sshsig.parse(armored)
