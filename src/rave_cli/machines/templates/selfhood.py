"""What a copy of a template is told before anything runs in it: what makes it this machine.

The guest's side is rave_guest/held.py; both speak over the command channel.
"""

from __future__ import annotations

import os
import time
from base64 import b64encode
from typing import TYPE_CHECKING, Any

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest import command
from rave_cli.machines.qemu.credentials import AGE_KEY, AUTHORIZED_KEY, HOST_KEY

if TYPE_CHECKING:
    from rave_cli.machines.identity import Certificate
    from rave_cli.machines.spec import Machine

# Seconds for a guest to answer on its channel, to stop and freeze all that runs in it, and to
# become itself.
GREETS = 10.0
HOLDS = 60.0
BECOMES = 30.0


def hold(machine: Machine) -> dict[str, Any]:
    """Let everything in a running machine stand still, for it to be copied.

    Raises:
        RaveError: NOT_READY if its guest does not, or does not know how.
    """
    return _ask(machine, machine.spec.instance_id, "hold", {}, HOLDS)


def become(
    machine: Machine, before: str, certificate: Certificate, *, runs: bool = False
) -> dict[str, Any]:
    """Make a copy, whose guest calls itself `before`, the machine that it is; it then runs.

    Args:
        machine: the machine.
        before: what its guest calls itself until now.
        certificate: what its services show as long as it has no secrets.
        runs: whether programs are going to be run in it at once: its services come up when none
            was run for two seconds, or after five.

    Raises:
        RaveError: NOT_READY if its guest does not take it all: then nothing runs in it; SECRETS if
            a key file of the machine must not be trusted; HOST if one cannot be read.
    """
    wanted = request(machine, certificate) | {"runs": runs}
    return _ask(machine, before, "become", wanted, BECOMES)


def request(machine: Machine, certificate: Certificate) -> dict[str, Any]:
    """Return what makes a machine itself, as its guest takes it.

    Raises:
        RaveError: as `become`.
    """
    public = machine.login_key.with_suffix(".pub")
    own = age.parse_identities(paths.read_private(machine.age_key).decode())[0]
    credentials = {
        HOST_KEY: paths.read_private(machine.host_key),
        AGE_KEY: f"{own.secret}\n".encode(),
        AUTHORIZED_KEY: paths.read_trusted(public, exit_code=ExitCode.SECRETS),
    }
    return {
        "instance": machine.spec.instance_id,
        "machine_id": machine.spec.machine_id,
        "hostname": machine.name,
        "mac": machine.spec.mac,
        "origin": machine.spec.public_origin or "",
        "credentials": {name: b64encode(value).decode() for name, value in credentials.items()},
        "tls": {
            "ephemeral.key": b64encode(certificate.key).decode(),
            "ephemeral.crt": b64encode(certificate.certificate).decode(),
            "names": certificate.names,
        },
        # Last: the time is that of now.
        "entropy": b64encode(os.urandom(64)).decode(),
        "now": time.time(),
    }


def _ask(
    machine: Machine, instance: str, verb: str, arguments: dict[str, Any], seconds: float
) -> dict[str, Any]:
    with command.connect(machine, timeout=GREETS, instance=instance) as channel:
        if channel is None:
            raise RaveError(
                f"the guest of machine {machine.name} does not answer on its command channel",
                hint=f"rave vm logs {machine.name}",
                exit_code=ExitCode.NOT_READY,
            )
        return channel.ask(verb, arguments, timeout=seconds)
