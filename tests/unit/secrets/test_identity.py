"""The operator's age identity: found, made, and refused when it is not private."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli import age
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import identity

if TYPE_CHECKING:
    from pathlib import Path


def test_its_place(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert identity.key_file() == home / ".config/sops/age/keys.txt"
    monkeypatch.delenv("XDG_CONFIG_HOME")
    assert identity.key_file() == home / ".config/sops/age/keys.txt"
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", "/elsewhere/keys.txt")
    assert str(identity.key_file()) == "/elsewhere/keys.txt"


def test_it_is_made_once(home: Path) -> None:
    keys, made = identity.ensure()
    assert made
    assert keys.path.stat().st_mode & 0o777 == 0o600
    assert keys.path.parent.stat().st_mode & 0o777 == 0o700
    again, made = identity.ensure()
    assert not made
    assert again == keys


def test_a_missing_one(home: Path) -> None:
    with pytest.raises(RaveError, match="no age identity") as caught:
        identity.load()
    assert caught.value.exit_code is ExitCode.SECRETS
    assert "rave secrets init" in str(caught.value.hint)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o610])
def test_one_that_others_can_read_is_refused(home: Path, mode: int) -> None:
    keys, _ = identity.ensure()
    keys.path.chmod(mode)
    for load in (identity.load, identity.ensure):
        with pytest.raises(RaveError) as caught:
            load()
        assert caught.value.exit_code is ExitCode.SECRETS
        assert caught.value.hint == f"chmod 600 {keys.path}"


def test_a_link_is_refused(home: Path) -> None:
    keys, _ = identity.ensure()
    real = keys.path.with_name("real.txt")
    keys.path.rename(real)
    keys.path.symlink_to(real)
    with pytest.raises(RaveError, match="symbolic link"):
        identity.load()


def test_a_dangling_link_is_not_overwritten(home: Path) -> None:
    place = identity.key_file()
    place.parent.mkdir(parents=True)
    place.symlink_to(home / "nowhere")
    with pytest.raises(RaveError):
        identity.ensure()
    assert place.is_symlink()
    assert not (home / "nowhere").exists()


@pytest.mark.parametrize("text", [b"", b"# only a comment\n", b"nonsense\n", b"\xff\xfe"])
def test_a_file_that_is_no_key_file(home: Path, text: bytes) -> None:
    place = identity.key_file()
    place.parent.mkdir(parents=True)
    place.write_bytes(text)
    place.chmod(0o600)
    with pytest.raises(RaveError) as caught:
        identity.load()
    assert caught.value.exit_code is ExitCode.SECRETS
    assert str(place) in caught.value.message


def test_the_first_of_several_is_ours(home: Path) -> None:
    pairs = [age.generate(), age.generate()]
    place = identity.key_file()
    place.parent.mkdir(parents=True)
    place.write_bytes(b"".join(pair.file_text() for pair in pairs))
    place.chmod(0o600)
    assert identity.load().recipients == tuple(pair.recipient for pair in pairs)
    assert all(pair.secret not in repr(identity.load()) for pair in pairs)
