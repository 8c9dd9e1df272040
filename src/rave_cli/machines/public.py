"""The public origin of a machine: the scheme, host and port under which people open its pages.

An application's own name is one below it: `auth.rave.localhost` for `https://rave.localhost:23456`.
Names below `localhost` lead to this host in every browser (RFC 6761, 6.3). Sign-in stands on it:
issuer and redirect addresses hold it (RFC 8252 allows another port on loopback, few providers do),
so a machine keeps it over its starts.
"""

from __future__ import annotations

import re
import socket
import uuid
from dataclasses import replace
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.spec import Forward

if TYPE_CHECKING:
    from rave_cli.machines.spec import MachineSpec

LOOPBACK = "127.0.0.1"

# Below what Linux gives to outgoing connections (ip_local_port_range, from 32768) and Kubernetes to
# its nodes' ports (from 30000), so that a port is likely to be free again at the next start.
PORTS = range(20000, 30000)
TRIES = 100

_ORIGIN = re.compile(
    r"https://(?P<host>[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?(\.[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?)+)"
    r"(:(?P<port>[1-9][0-9]{0,4}))?/?"
)
# The names of applications come before it, and a host name has at most 253 characters.
LONGEST_HOST = 200


def parse(text: str) -> str:
    """Return an origin as it is kept: `https://HOST`, with `:PORT` unless that is 443.

    Raises:
        RaveError: USAGE if the text is anything else: applications have names below it, so no
            address and no path, and their cookies are for TLS alone.
    """
    found = _ORIGIN.fullmatch(text)
    port = int(found["port"] or 443) if found else 0
    if (
        found is None
        or port > 65535
        or len(found["host"]) > LONGEST_HOST
        or found["host"].rpartition(".")[2].isdecimal()
    ):
        raise RaveError(
            f"--origin {text!r} is not https://HOST or https://HOST:PORT with a name in lower-case"
            " letters and a dot in it",
            hint="rave vm create --profile development --base debian"
            " --origin https://rave.example.org --port 3002:3002",
            exit_code=ExitCode.USAGE,
        )
    return f"https://{found['host']}" + (f":{port}" if port != 443 else "")


def settle(spec: MachineSpec, guest: int | None) -> MachineSpec:
    """Return a specification with a port of the host for its pages: the one that was asked for, or
    that it has, else a free one. Which is first looked at follows from the machine's id.

    Args:
        spec: the specification.
        guest: the guest's port of the pages; None if there are none.
    """
    asked = next((forward for forward in spec.forwards if forward.guest == guest), None)
    if asked is None:
        return spec
    if asked.host:
        return replace(spec, pages=asked)
    if spec.pages is not None and spec.pages.guest == guest and free(spec.pages.host):
        return spec
    first = uuid.UUID(spec.uuid).int
    candidates = (PORTS[(first + step) % len(PORTS)] for step in range(TRIES))
    port = next((port for port in candidates if free(port)), None)
    return spec if port is None else replace(spec, pages=Forward(port, asked.guest))


def for_now(spec: MachineSpec) -> MachineSpec:
    """Return a specification whose pages get any free port, if theirs is taken by another program.

    For a guest that goes on with what it was told when it booted.
    """
    if spec.pages is None or spec.pages in spec.forwards or free(spec.pages.host):
        return spec
    return replace(spec, pages=Forward(0, spec.pages.guest))


def free(port: int) -> bool:
    """Return whether QEMU could listen on a port of this host's loopback."""
    with socket.socket() as probe:
        # As QEMU does: connections of before that still end do not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
        return True
