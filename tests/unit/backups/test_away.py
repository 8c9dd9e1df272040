"""Another place that keeps a copy: its address, what is signed, what is missing there."""

from __future__ import annotations

import base64
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.backups import kit
from rave_cli.backups.away import mirror, place, record, s3
from rave_cli.backups.away.sigv4 import NOTHING, Signer
from rave_cli.backups.ledger import LastDeed
from rave_cli.errors import ExitCode, RaveError

SEED = bytes(range(32))
KEY = ed25519.Ed25519PrivateKey.from_private_bytes(SEED)
HOST_KEY = (
    KEY.public_key()
    .public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    .decode()
)


def pem(key: ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey, passphrase: bytes = b"") -> str:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.BestAvailableEncryption(passphrase)
        if passphrase
        else serialization.NoEncryption(),
    ).decode()


SFTP = {"place": "sftp://me@example.org/srv/backups", "ssh-key": pem(KEY), "host-key": HOST_KEY}
S3 = {"place": "s3://s3.example.org/bucket/rave", "access-key": "AK", "secret-key": "s/k+"}


@pytest.mark.parametrize(
    ("values", "text", "folder"),
    [
        (SFTP, "sftp://me@example.org/srv/backups", "/srv/backups"),
        (SFTP | {"place": "sftp://me@h:2222/~/b/"}, "sftp://me@h:2222/~/b", "b"),
        (SFTP | {"place": "sftp://me@[::1]/b"}, "sftp://me@[::1]/b", "/b"),
        (S3, "s3://s3.example.org/bucket/rave", "rave"),
        (S3 | {"place": "s3://h:9000/bucket"}, "s3://h:9000/bucket", ""),
        (S3 | {"place": "s3+http://127.0.0.1:9/bkt/a/b"}, "s3+http://127.0.0.1:9/bkt/a/b", "a/b"),
    ],
)  # fmt: skip
def test_a_place_is_told_as_it_was_given(values: dict[str, str], text: str, folder: str) -> None:
    found = place.AwayPlace.of(values)
    assert (str(found), found.folder) == (text, folder)
    for secret in ("BEGIN", "s/k+", SEED.hex()):
        assert secret not in repr(found)


@pytest.mark.parametrize(
    ("values", "why"),
    [
        ({}, "no other place"),
        (SFTP | {"place": "ftp://me@h/b"}, "neither sftp:// nor s3://"),
        (SFTP | {"place": "sftp://h/b"}, "names no user"),
        (SFTP | {"place": "sftp://me@h"}, "names no folder"),
        (SFTP | {"place": "sftp://me:word@h/b"}, "is not of the form"),
        (SFTP | {"place": "sftp://me@h/b/../c"}, "not accepted"),
        (SFTP | {"place": "sftp://me@h/a b"}, "not accepted"),
        (SFTP | {"place": "sftp://me@h:99999/b"}, "is no address"),
        (SFTP | {"place": "sftp://-oProxyCommand=x@h/b"}, "names no user"),
        (SFTP | {"ssh-key": ""}, "ssh-key is missing"),
        (SFTP | {"ssh-key": "nonsense"}, "ssh-key is no private key"),
        (SFTP | {"ssh-key": pem(KEY, b"word")}, "without a passphrase"),
        (SFTP | {"ssh-key": pem(rsa.generate_private_key(65537, 2048))}, "another kind"),
        (SFTP | {"host-key": "SHA256:abc"}, "host-key is no public key"),
        (SFTP | {"host-key": HOST_KEY.replace("ssh-ed25519", "ssh-rsa")}, "no public key"),
        (S3 | {"place": "s3://h"}, "names no bucket"),
        (S3 | {"place": "s3://me@h/bucket"}, "names a user"),
        (S3 | {"place": "s3+http://example.org/bucket"}, "without TLS"),
        (S3 | {"secret-key": "two words"}, "is not one word"),
        (S3 | {"access-key": ""}, "access-key is missing"),
    ],
)
def test_a_place_that_is_none_is_refused_in_words(values: dict[str, str], why: str) -> None:
    with pytest.raises(RaveError, match=why) as caught:
        place.AwayPlace.of(values)
    assert caught.value.exit_code == ExitCode.SECRETS
    assert "secrets edit" in (caught.value.hint or "")
    assert "BEGIN OPENSSH" not in caught.value.message


def test_the_line_of_a_scan_is_a_host_key_of_any_kind() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    other = key.public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    for line in (f"example.org {HOST_KEY}", f"{HOST_KEY} root@host", f"h {other.decode()}"):
        kind, blob = place.AwayPlace.of(SFTP | {"host-key": line}).host_key()
        assert f"{kind} {base64.b64encode(blob).decode()}" in line


@pytest.mark.parametrize("values", [SFTP, S3, S3 | {"region": "eu-central-1"}])
def test_what_a_page_tells_of_a_place_is_that_place(values: dict[str, str]) -> None:
    found = place.AwayPlace.of(values)
    facts = kit.KitFacts("h", Path("/mnt/backups"), ("age1x",), "keys", str(found))
    page = kit.page(facts, "ab" * 32, None, found.told())
    assert max(map(len, page.splitlines())) <= 80
    assert len(page.splitlines()) <= 66
    again = place.of_lines(kit.unfolded(page))
    assert str(again) == str(found)
    if found.scheme == "sftp":
        assert again.seed() == found.seed() == SEED
        assert again.host_key() == found.host_key()
    else:
        assert again.shown == found.shown


EXAMPLE = Signer(
    "AKIAIOSFODNN7EXAMPLE", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY", "us-east-1"
)  # fmt: skip
WHEN = datetime(2013, 5, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("path", "query", "headers", "signature"),
    [
        (
            "/test.txt", {}, {"range": "bytes=0-9"},
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
        ),
        (
            "/", {"lifecycle": ""}, {},
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
        ),
        (
            "/", {"max-keys": "2", "prefix": "J"}, {},
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
        ),
    ],
)  # fmt: skip
def test_the_examples_of_the_reference_are_signed_as_there(
    path: str, query: dict[str, str], headers: dict[str, str], signature: str
) -> None:
    """Amazon S3 API reference, "Examples: Signature Calculations in AWS Signature Version 4"."""
    host = {"host": "examplebucket.s3.amazonaws.com"} | headers
    made = EXAMPLE.headers("GET", path, query, host, sha256=NOTHING, now=WHEN)
    assert made["authorization"].endswith(f"Signature={signature}")
    assert "wJalr" not in repr(EXAMPLE)


SUMS = st.text("0123456789abcdef", min_size=64, max_size=64)
NAMES = st.one_of(
    st.sampled_from([mirror.KEY, mirror.README, mirror.CONFIG]),
    st.builds("repository/{}/{}".format, st.sampled_from(["keys", "index", "snapshots"]), SUMS),
    SUMS.map(lambda name: f"repository/data/{name[:2]}/{name}"),
)
LISTS = st.dictionaries(NAMES, st.integers(0, 9), max_size=12)


@given(LISTS, LISTS)
def test_a_copy_names_nothing_that_is_not_there_yet(
    here: dict[str, int], there: dict[str, int]
) -> None:
    """Wherever it ends: the parts before what names them, and the other way round to take away."""
    found = mirror.compared(here, there | {"partial/x": 1, "../etc/passwd": 2})
    turns = [mirror.ORDER.index(name.split("/")[1 if "/" in name else 0]) for name in found.missing]
    assert turns == sorted(turns)
    gone = [mirror.ORDER.index(name.split("/")[1 if "/" in name else 0]) for name in found.extra]
    assert gone == sorted(gone, reverse=True)
    after = {name: size for name, size in there.items() if name not in found.extra}
    after |= {name: here[name] for name in found.missing}
    assert after == here


def test_an_answer_with_entities_is_not_read() -> None:
    bomb = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaa">]><Error><Code>&a;</Code></Error>'
    assert s3._said(bomb.encode()) == ("", "")
    # Another encoding has the same characters in other bytes.
    assert s3._said(bomb.encode("utf-16")) == ("", "")
    fine = b"<Error><Code>NoSuchKey</Code><Message>none\n here</Message></Error>"
    assert s3._said(fine) == ("NoSuchKey", "none here")


def test_when_a_copy_is_due_and_when_something_is_wrong_with_it() -> None:
    now = 1_800_000_000.0
    latest = datetime.fromtimestamp(now - 30 * 3600, UTC)
    good = record.CopyRecord("sftp://x", LastDeed(now - 60, now, None, None, now))
    bad = record.CopyRecord("sftp://x", LastDeed(now - 60, now, "it is full", None, None))
    old = record.CopyRecord("sftp://x", LastDeed(0, 1, None, None, now - 40 * 3600))
    assert [record.is_due(one, now) for one in (None, good, bad, old)] == [True, False, True, True]
    assert record.is_due(good, now - 9999)
    assert record.wrong(None, latest, now) is None
    assert record.wrong(good, latest, now) is None
    assert "it is full" in (record.wrong(bad, latest, now) or "")
    assert "for a day" in (record.wrong(old, latest, now) or "")
    assert record.wrong(old, None, now) is None
