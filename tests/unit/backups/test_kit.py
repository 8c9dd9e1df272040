"""The page that is kept outside of the host, and what it seals."""

from __future__ import annotations

import base64
import hashlib
import shutil
from pathlib import Path

import pytest

from rave_cli.backups import kit, sealed
from tests.kits import armored, opened

KEY = hashlib.sha256(b"a key").hexdigest()
PASSPHRASE = "correct horse battery"
FACTS = kit.KitFacts("host", Path("/mnt/backups"), ("age1one", "age1two"), "/home/me/keys.txt")


@pytest.mark.skipif(not shutil.which("age"), reason="no age on this host")
def test_age_opens_the_sealed_key_with_the_passphrase_alone(tmp_path: Path) -> None:
    text = armored(kit.page(FACTS, KEY, PASSPHRASE))
    assert opened(text, PASSPHRASE, tmp_path / "kit.age") == (0, f"{KEY}\n".encode())
    code, out = opened(text, "another one", tmp_path / "other.age")
    assert (code != 0, out) == (True, b"")


def test_a_sealed_page_does_not_tell_the_key_and_none_is_like_another() -> None:
    pages = [kit.page(FACTS, KEY, PASSPHRASE) for _ in range(2)]
    for page in pages:
        assert KEY not in page
        raw = b"".join(base64.b64decode(line) for line in armored(page).splitlines()[1:-1])
        assert KEY.encode() not in raw
        assert PASSPHRASE not in page
    assert armored(pages[0]) != armored(pages[1])
    with pytest.raises(ValueError, match="one chunk"):
        sealed.seal(bytes(sealed.LONGEST), PASSPHRASE)


@pytest.mark.parametrize("passphrase", [None, PASSPHRASE])
def test_a_page_fits_on_paper_and_says_what_is_needed(passphrase: str | None) -> None:
    page = kit.page(FACTS, KEY, passphrase)
    assert max(map(len, page.splitlines())) <= 80
    assert len(page.splitlines()) <= 60
    for word in ("age1one", "age1two", "/mnt/backups", "--put-back", "restic", kit.checksum(KEY)):
        assert word in page


def test_the_key_as_it_is_can_be_typed_from_the_page() -> None:
    line = next(x for x in kit.page(FACTS, KEY, None).splitlines() if x.startswith(KEY[:8]))
    assert "".join(line.split()) == KEY


def test_a_kit_is_known_by_its_key(tmp_path: Path) -> None:
    assert "no kit" in (kit.missing(tmp_path, KEY.encode()) or "")
    kit.noted(tmp_path, KEY, is_sealed=True)
    place = tmp_path / kit.RECORD
    assert kit.missing(tmp_path, KEY.encode()) is None
    assert "another key" in (kit.missing(tmp_path, b"0" * 64) or "")
    assert place.stat().st_mode & 0o777 == 0o600
    assert KEY not in place.read_text()
    place.write_text("{}")
    assert "damaged" in (kit.missing(tmp_path, KEY.encode()) or "")
