"""What a copy of a template is told before anything runs in it: what makes it this machine.

The guest's side is rave_guest/held.py; both speak over the command channel.
"""

from __future__ import annotations

import os
import time
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_cli import age, paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest import command
from rave_cli.machines.qemu.credentials import AGE_KEY, AUTHORIZED_KEY, HOST_KEY

if TYPE_CHECKING:
    from rave_cli.machines.certificate import MachineCertificate
    from rave_cli.machines.spec import Machine

# Seconds for a guest to answer on its channel, to stop and freeze all that runs in it, and to
# become itself.
GREETS = 10.0
HOLDS = 60.0
BECOMES = 30.0

# Seconds of a processor for whoever waited for a machine to end, and for a first command to come.
COMES = 1.0


def hold(machine: Machine) -> dict[str, Any]:
    """Let everything in a running machine stand still, for it to be copied.

    Raises:
        RaveError: NOT_READY if its guest does not, or does not know how.
    """
    return _ask(machine, machine.spec.instance_id, "hold", {}, HOLDS)


def become(
    machine: Machine,
    before: str,
    certificate: MachineCertificate,
    *,
    lull: float | None = None,
    stays: bool = False,
) -> dict[str, Any]:
    """Make a copy, whose guest calls itself `before`, the machine that it is; it then runs.

    Args:
        machine: the machine.
        before: what its guest calls itself until now.
        certificate: what its pages show.
        lull: None, or programs are going to be run in it at once: its services come up when none
            was run for so many seconds, and two at least.
        stays: all but the programs that are run in it stands still until it is told to `wake`.

    Raises:
        RaveError: NOT_READY if its guest does not take it all: then nothing runs in it; SECRETS if
            a key file of the machine must not be trusted; HOST if one cannot be read.
    """
    wanted = request(machine, certificate) | _then(lull, stays=stays)
    return _ask(machine, before, "become", wanted, BECOMES)


def wake(machine: Machine, *, lull: float | None = None, stays: bool = False) -> dict[str, Any]:
    """Give a machine that became itself and `stays` since new randomness and the time, which it
    lacks once it was paused; `lull` and `stays` are as `become` has them.

    Raises:
        RaveError: NOT_READY if its guest does not take them; HOST if it was made by an older rave.
    """
    wanted = _now() | _then(lull, stays=stays)
    return _ask(machine, machine.spec.instance_id, "wake", wanted, BECOMES)


def _then(lull: float | None, *, stays: bool) -> dict[str, Any]:
    return {"runs": stays or lull is not None, "lull": lull or 0.0, "stays": stays}


def _now() -> dict[str, Any]:
    return {"entropy": b64encode(os.urandom(64)).decode(), "now": time.time()}


def lull() -> float:
    """Return the seconds for which services had better wait for a program that is to come: as long
    as its start takes if it shares the processors with all that want one now, which is other starts
    above all. Services of the first machine would hold up those of the tenth.
    """
    # running/all, of proc(5)
    running = int(Path("/proc/loadavg").read_text().split()[3].partition("/")[0])
    return COMES * running / (os.cpu_count() or 1)


def request(machine: Machine, certificate: MachineCertificate) -> dict[str, Any]:
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
        # A guest of an older image passes this over, and makes one itself.
        "certificate": {"key": certificate.key, "chain": certificate.chain},
        # Last: the time is that of now.
        **_now(),
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
