"""Keys by fingerprint: Debian's own, armored and not, and anything that is no key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.images.openpgp import MalformedKeyError, armor, read_keys

KEYS = sorted((Path(__file__).resolve().parents[3] / "infra/debian/keys").glob("*.asc"))

# As Debian publishes them: https://ftp-master.debian.org/keys.html
PUBLISHED = {
    "debian-archive-bookworm-automatic.asc": "B8B80B5B623EAB6AD8775C45B7C5D7D6350947F8",
    "debian-archive-bookworm-security-automatic.asc": "05AB90340C0C5E797F44A8C8254CF3B5AEC0A8F0",
    "debian-archive-bookworm-stable.asc": "4D64FEC119C2029067D6E791F8D2585B8783D481",
    "debian-archive-trixie-automatic.asc": "04B54C3CDCA79751B16BC6B5225629DF75B188BD",
    "debian-archive-trixie-stable.asc": "41587F7DB8C774BCCF131416762F67A0B2C39DE4",
}


@pytest.mark.parametrize("path", KEYS, ids=lambda path: path.name)
def test_the_shipped_keys_have_the_published_fingerprints(path: Path) -> None:
    assert list(read_keys(path.read_bytes())) == [PUBLISHED[path.name]]


def test_a_keyring_is_read_armored_or_not() -> None:
    keys: dict[str, bytes] = {}
    for path in KEYS:
        keys |= read_keys(path.read_bytes())
    binary = b"".join(keys.values())
    assert read_keys(binary) == keys
    assert read_keys(armor(binary).encode()) == keys
    assert read_keys("".join(armor(key) for key in keys.values()).encode()) == keys


def test_a_changed_key_is_another_key() -> None:
    (packets,) = read_keys(KEYS[0].read_bytes()).values()
    changed = bytearray(packets)
    changed[40] ^= 1
    assert read_keys(bytes(changed)).keys().isdisjoint(PUBLISHED.values())


@given(st.binary(max_size=200))
def test_what_is_no_keyring_is_refused(data: bytes) -> None:
    try:
        found = read_keys(data)
    except MalformedKeyError:
        return
    assert all(len(name) == 40 for name in found)


@given(st.integers(1, 2000))
def test_half_a_key_is_refused_or_another_one(size: int) -> None:
    data = KEYS[0].read_bytes()
    with pytest.raises(MalformedKeyError):
        read_keys(data[:size])
