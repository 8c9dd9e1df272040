"""The operator's age identity: found, made, and refused when it is not private."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.secrets import identity

if TYPE_CHECKING:
    from collections.abc import Callable
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
    assert identity.key_file().stat().st_mode & 0o777 == 0o600
    assert identity.key_file().parent.stat().st_mode & 0o777 == 0o700
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
    identity.ensure()
    identity.key_file().chmod(mode)
    for load in (identity.load, identity.ensure):
        with pytest.raises(RaveError) as caught:
            load()
        assert caught.value.exit_code is ExitCode.SECRETS
        assert caught.value.hint == f"chmod 600 {identity.key_file()}"


def test_a_link_is_refused(home: Path) -> None:
    identity.ensure()
    real = identity.key_file().with_name("real.txt")
    identity.key_file().rename(real)
    identity.key_file().symlink_to(real)
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


def in_key(monkeypatch: pytest.MonkeyPatch, home: Path, text: str) -> None:
    monkeypatch.setenv("SOPS_AGE_KEY", text)


def in_key_file(monkeypatch: pytest.MonkeyPatch, home: Path, text: str) -> None:
    place = home / "named.txt"
    place.touch(0o600)
    place.write_text(text)
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(place))


def in_command(monkeypatch: pytest.MonkeyPatch, home: Path, text: str) -> None:
    (home / "said by a command.txt").write_text(text)
    monkeypatch.setenv("SOPS_AGE_KEY_CMD", f"cat '{home}/said by a command.txt' # a comment")


def in_default(monkeypatch: pytest.MonkeyPatch, home: Path, text: str) -> None:
    place = home / ".config/sops/age/keys.txt"
    place.parent.mkdir(parents=True)
    place.touch(0o600)
    place.write_text(text)


# In the order of sops, which is that of whom the operator is.
PLACES = [in_key, in_key_file, in_command, in_default]


@pytest.mark.parametrize("put", PLACES)
def test_an_identity_is_used_from_wherever_sops_takes_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., None]
) -> None:
    pair = age.generate()
    put(monkeypatch, home, pair.file_text().decode())
    keys, made = identity.ensure()
    assert not made
    assert keys.identities == (pair,)
    assert pair.secret.encode() in keys.text
    assert pair.secret not in repr(keys)


def test_all_places_count_and_the_most_explicit_comes_first(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [age.generate() for _ in PLACES]
    for put, pair in zip(PLACES, pairs, strict=True):
        put(monkeypatch, home, pair.secret)
    keys = identity.load()
    assert keys.identities == tuple(pairs)
    assert keys.own.place == "SOPS_AGE_KEY"


def test_a_key_in_the_environment_may_hold_several_in_a_line(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs = [age.generate(), age.generate()]
    monkeypatch.setenv("SOPS_AGE_KEY", f"  {pairs[0].secret} {pairs[1].secret}\n")
    assert identity.load().identities == tuple(pairs)


@pytest.mark.parametrize("put", PLACES)
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("# fine\n\nAGE-SECRET-KEY-1NONSENSE\n", "line 3"),
        ("-----BEGIN AGE ENCRYPTED FILE-----\n", "encrypted with a passphrase"),
        ("age-encryption.org/v1\n", "encrypted with a passphrase"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\n", "SSH"),
        ("# a comment\nAGE-PLUGIN-YUBIKEY-1QQQQ\n", "line 2: an identity of age-plugin-yubikey"),
        ("AGE-SECRET-KEY-PQ-1QQQQ\n", "line 1: a post-quantum identity"),
    ],
)
def test_what_cannot_be_used_is_named_with_its_place_and_line(
    home: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., None], text: str, says: str
) -> None:
    put(monkeypatch, home, text)
    for look in (identity.load, identity.ensure):
        with pytest.raises(RaveError) as caught:
            look()
        assert says in caught.value.message
        assert "NONSENSE" not in caught.value.message
        assert caught.value.exit_code is ExitCode.SECRETS
        assert caught.value.hint is not None
    assert put is in_default or not (home / ".config/sops/age/keys.txt").exists()


@pytest.mark.parametrize("put", PLACES)
def test_a_plugins_line_and_a_byte_order_mark_do_no_harm(
    home: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., None]
) -> None:
    pair = age.generate()
    put(monkeypatch, home, f"\ufeff# made elsewhere\r\nAGE-PLUGIN-SE-1QQQQ\r\n{pair.secret}\r\n")
    keys = identity.load()
    assert keys.identities == (pair,)
    assert "line 2: an identity of age-plugin-se" in keys.tried


def test_a_file_in_utf_16_is_named(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    in_key_file(monkeypatch, home, "")
    (home / "named.txt").write_bytes(age.generate().secret.encode("utf-16"))
    with pytest.raises(RaveError, match="not text in UTF-8") as caught:
        identity.load()
    assert "named.txt" in caught.value.message


@pytest.mark.parametrize("name", identity.NOT_USED)
def test_no_key_is_made_where_sops_would_use_one_that_we_do_not(
    home: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "something")
    for look in (identity.load, identity.ensure):
        with pytest.raises(RaveError, match=name) as caught:
            look()
        assert caught.value.exit_code is ExitCode.SECRETS
    assert not identity.key_file().exists()
    in_key(monkeypatch, home, age.generate().secret)
    assert identity.load().own.place == "SOPS_AGE_KEY"


@pytest.mark.parametrize("put", [in_key, in_command, in_default])
def test_a_named_file_that_is_missing_is_a_mistake_where_another_key_is(
    home: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., None]
) -> None:
    put(monkeypatch, home, age.generate().secret)
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(home / "mistyped.txt"))
    with pytest.raises(RaveError, match=r"SOPS_AGE_KEY_FILE names .*mistyped\.txt"):
        identity.load()


@pytest.mark.parametrize("put", [in_key, in_command])
def test_no_key_is_made_at_a_mistyped_place_if_the_environment_has_one(
    home: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[..., None]
) -> None:
    put(monkeypatch, home, age.generate().secret)
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(home / "mistyped.txt"))
    with pytest.raises(RaveError, match=r"mistyped\.txt"):
        identity.ensure()
    assert not (home / "mistyped.txt").exists()


@pytest.mark.parametrize(
    ("command", "says"),
    [
        ("false", "status 1"),
        ("sh -c 'kill -9 $$'", "status -9"),
        ("/nonexistent/helper", "cannot be started"),
        ("pass 'show", "cannot be split into words"),
        ("true", "holds no age identity"),
    ],
)
def test_a_command_that_gives_no_key_is_named(
    home: Path, monkeypatch: pytest.MonkeyPatch, command: str, says: str
) -> None:
    monkeypatch.setenv("SOPS_AGE_KEY_CMD", command)
    for look in (identity.load, identity.ensure):
        with pytest.raises(RaveError, match=says) as caught:
            look()
        assert caught.value.hint is not None
    assert not identity.key_file().exists()


def test_the_command_runs_once_and_with_the_callers_environment(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pair = age.generate()
    monkeypatch.setenv("MY_VAULT", pair.secret)
    monkeypatch.setenv("SOPS_AGE_KEY_CMD", f"sh -c 'echo >>{home}/runs; echo $MY_VAULT'")
    for _ in range(3):
        assert identity.load().identities == (pair,)
    assert (home / "runs").read_text() == "\n"


def test_a_command_that_hangs_has_a_limit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "COMMAND_PATIENCE", 0.2)
    monkeypatch.setenv("SOPS_AGE_KEY_CMD", "sleep 1000")
    with pytest.raises(RaveError, match=r"did not finish within 0\.2 s"):
        identity.load()


def test_a_named_pipe_is_read(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pair, pipe = age.generate(), home / "pipe"
    os.mkfifo(pipe, 0o600)
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(pipe))
    writer = threading.Thread(target=lambda: pipe.write_bytes(pair.file_text()))
    writer.start()
    # A second look must find what the first one took out.
    assert identity.load().identities == identity.load().identities == (pair,)
    writer.join()


def test_a_pipe_that_nobody_writes_into_has_a_limit(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(paths, "PIPE_PATIENCE", 0.2)
    os.mkfifo(home / "silent", 0o600)
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(home / "silent"))
    with pytest.raises(RaveError, match="nobody wrote into it") as caught:
        identity.load()
    assert caught.value.exit_code is ExitCode.SECRETS


def test_a_pipe_that_others_can_read_is_refused(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(home / "open")
    (home / "open").chmod(0o644)
    monkeypatch.setenv("SOPS_AGE_KEY_FILE", str(home / "open"))
    with pytest.raises(RaveError, match="can be read by others"):
        identity.load()


@pytest.mark.parametrize("form", ["<(cat {key})", "/dev/stdin < {key}"])
def test_what_the_shell_hands_over_is_read(home: Path, form: str) -> None:
    """Process substitution gives /dev/fd/N: a link, but not one that anybody else made."""
    pair = age.generate()
    key = home / "key.txt"
    key.touch(0o600)
    key.write_bytes(pair.file_text())
    program = "from rave_cli.secrets import identity; print(*identity.load().recipients)"
    words = form.format(key=key).partition(" < ")
    script = f'SOPS_AGE_KEY_FILE={words[0]} "$0" -c "$1"{"".join(words[1:])}'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable, program], capture_output=True, text=True, check=False
    )
    assert done.stdout.split() == [pair.recipient], done.stderr
