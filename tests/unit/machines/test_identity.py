"""Keys that real tools accept, pinned before the first boot; credentials as systemd takes them."""

from __future__ import annotations

import io
import stat
from base64 import b64decode
from typing import TYPE_CHECKING

import paramiko
import pytest

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.identity import new_ssh_key
from rave_cli.machines.qemu import credentials

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine


def test_a_key_is_read_back_by_an_ssh_library() -> None:
    key = new_ssh_key("rave-demo")
    assert key.private.startswith(b"-----BEGIN OPENSSH PRIVATE KEY-----\n")
    read = paramiko.Ed25519Key.from_private_key(io.StringIO(key.private.decode()))
    assert key.public.split()[:2] == [b"ssh-ed25519", read.get_base64().encode()]
    assert key.public.endswith(b" rave-demo\n")


def test_the_host_key_is_pinned_before_the_machine_ever_ran(machine: Machine) -> None:
    pinned = paramiko.HostKeys(str(machine.known_hosts)).lookup("rave-demo")
    assert pinned is not None
    own = paramiko.Ed25519Key.from_private_key_file(str(machine.host_key))
    assert pinned["ssh-ed25519"].asbytes() == own.asbytes()


def test_every_machine_has_its_own_keys(machine: Machine) -> None:
    assert machine.host_key.read_bytes() != machine.login_key.read_bytes()
    (identity,) = age.parse_identities(machine.age_key.read_text())
    assert machine.age_key.with_suffix(".pub").read_text().strip() == identity.recipient


def test_private_keys_are_readable_by_their_owner_alone(machine: Machine) -> None:
    for path in (machine.host_key, machine.login_key, machine.age_key):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        paths.read_private(path)


def test_credentials_are_private_files_that_vanish(machine: Machine) -> None:
    paths.private_dir(machine.runtime.parent)
    paths.private_dir(machine.runtime)
    with credentials.written(machine):
        for path in credentials.blob_paths(machine):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            text = path.read_text()
            assert text.startswith(f"io.systemd.credential.binary:{path.name}=")
            assert "\n" not in text
        host_key = credentials.blob_paths(machine)[1].read_text().partition("=")[2]
        assert b64decode(host_key) == machine.host_key.read_bytes()
        # Enough to open the machine's secrets, and no line that is not needed for it.
        age_key = (machine.credentials / "rave.age-key").read_text().partition("=")[2]
        (own,) = age.parse_identities(machine.age_key.read_text())
        assert b64decode(age_key) == f"{own.secret}\n".encode()
    assert not machine.credentials.exists()


def test_credentials_vanish_when_the_start_fails(machine: Machine) -> None:
    paths.private_dir(machine.runtime.parent)
    paths.private_dir(machine.runtime)
    with pytest.raises(KeyboardInterrupt), credentials.written(machine):
        raise KeyboardInterrupt
    assert not machine.credentials.exists()


@pytest.mark.parametrize("key", ["host_key", "age_key"])
def test_a_key_that_others_can_read_is_not_used(machine: Machine, key: str) -> None:
    getattr(machine, key).chmod(0o644)
    with (
        pytest.raises(RaveError, match="can be read by others") as caught,
        credentials.written(machine),
    ):
        pass
    assert caught.value.exit_code == ExitCode.SECRETS
