"""What a guest is given at each boot, as systemd credentials in SMBIOS type 11 strings.

What its disk must not hold comes this way: the SSH host key, the age identity that opens its
secrets, and the key of its certificate. A copy of the disk alone is neither the machine nor its
secrets.
QEMU reads each blob once while it starts, by `path=`; `value=` would show in /proc/PID/cmdline.
Format: systemd.system-credentials(7), `io.systemd.credential.binary:NAME=BASE64`.
"""

from __future__ import annotations

import shutil
from base64 import b64encode
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rave_cli import age, paths, signals
from rave_cli.errors import ExitCode
from rave_cli.machines import certificate

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.machines.spec import Machine

INSTANCE_ID = "rave.instance-id"
HOST_KEY = "rave.ssh-host-key"
AUTHORIZED_KEY = "rave.authorized-key"
AGE_KEY = "rave.age-key"
ORIGIN = "rave.origin"
TLS_KEY, TLS_CERTIFICATE = "rave.tls-key", "rave.tls-certificate"
NAMES = (INSTANCE_ID, HOST_KEY, AUTHORIZED_KEY, AGE_KEY)
# Of a machine that has pages.
PUBLIC_NAMES = (ORIGIN, TLS_KEY, TLS_CERTIFICATE)


def blob_paths(machine: Machine) -> tuple[Path, ...]:
    """Return where the blobs of a machine are while it starts."""
    names = NAMES if machine.spec.public_origin is None else (*NAMES, *PUBLIC_NAMES)
    return tuple(machine.credentials / name for name in names)


def blob(name: str, value: bytes) -> bytes:
    """Return the SMBIOS string that carries one credential."""
    return b"io.systemd.credential.binary:" + name.encode() + b"=" + b64encode(value)


@contextmanager
def written(machine: Machine) -> Iterator[None]:
    """Keep the blobs on disk (0600 in the private runtime directory) only while QEMU starts.

    Raises:
        RaveError: SECRETS if a key file of the machine, or of the authority that issues its
            certificate, must not be trusted or is none; HOST if a file cannot be read or written.
    """
    public = machine.login_key.with_suffix(".pub")
    authorized = paths.read_trusted(public, exit_code=ExitCode.SECRETS)
    own = age.parse_identities(paths.read_private(machine.age_key).decode())[0]
    values = {
        INSTANCE_ID: machine.spec.instance_id.encode(),
        HOST_KEY: paths.read_private(machine.host_key),
        AUTHORIZED_KEY: authorized,
        AGE_KEY: f"{own.secret}\n".encode(),
    }
    if machine.spec.public_origin is not None:
        shown = certificate.of(machine)
        values[ORIGIN] = f"{machine.spec.public_origin}\n".encode()
        values[TLS_KEY] = shown.key.encode()
        values[TLS_CERTIFICATE] = shown.chain.encode()
    directory = paths.private_dir(machine.credentials)
    try:
        for name, value in values.items():
            paths.atomic_write(directory / name, blob(name, value), mode=0o600)
        yield
    finally:
        forget(machine)


def forget(machine: Machine) -> None:
    """Remove blobs that a command killed while it started QEMU may have left."""
    with signals.held():
        shutil.rmtree(machine.credentials, ignore_errors=True)
