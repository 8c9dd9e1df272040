"""Ask a guest for what its services keep, or give it that: the request, and what its no means."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.provided import operator

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.machines.spec import Machine

PROGRAM = ("/usr/lib/rave/rave-guest", "state")
VERSION = 2
LONGEST = 24 * 3600.0
SAFE_RATE = 24 << 20  # bytes a second that a guest reads for a backup in SAFE mode


def request(verb: str, **arguments: object) -> bytes:
    """Return what asks a guest to keep or to put back."""
    request = {"v": VERSION, "verb": verb, "arguments": {"by": operator(), **arguments}}
    return json.dumps(request).encode() + b"\n"


@contextmanager
def given(data: bytes) -> Iterator[int]:
    """Yield a descriptor that gives a few bytes and ends."""
    source = os.memfd_create("rave-request", os.MFD_CLOEXEC)
    try:
        with os.fdopen(os.dup(source), "wb") as stream:
            stream.write(data)
        os.lseek(source, 0, os.SEEK_SET)
        yield source
    finally:
        os.close(source)


def demand(machine: Machine, refusal: tuple[str, str] | None, said: bytes | bytearray) -> None:
    """Turn the guest's no into an error with the command that helps."""
    if refusal is not None:
        raise refused(machine, *refusal)
    if said:
        raise unusable(machine, said.decode(errors="replace").strip().splitlines()[-1])


def refused(machine: Machine, stage: str, why: str) -> RaveError:
    """Return the guest's no as an error of rave's."""
    name = machine.name
    hints = {
        "secrets": (f"rave secrets install {name}", ExitCode.SECRETS),
        "busy": ("try again when it is done", ExitCode.NOT_READY),
        "absent": (f"rave backup list {name}", ExitCode.USAGE),
        "input": (f"rave backup verify {name}", ExitCode.USAGE),
        "system": (f"rave vm exec {name} -- df -h", ExitCode.NOT_READY),
    }
    hint, code = hints.get(
        stage, (f"rave vm status {name}; rave vm logs {name}", ExitCode.NOT_READY)
    )
    return RaveError(f"machine {name} did not do it ({stage}): {why}", hint=hint, exit_code=code)


def unusable(machine: Machine, why: str) -> RaveError:
    """Return the error of a guest whose answer is of no use."""
    return RaveError(
        f"machine {machine.name} did not send what it keeps: {why}",
        hint=f"rave vm status {machine.name}; rave vm logs {machine.name}",
        exit_code=ExitCode.NOT_READY,
    )
