"""The port scan: what of the guest can be reached from outside, really tried.

QEMU forwards only the exposed ports, so a scan of the forwards alone would prove QEMU's argv, not
the guest's firewall. Therefore forwards to other ports are added for a while, a connection is made
through each, and QEMU's own table says what became of it: `ESTABLISHED` means that the guest
answered, `SYN_SENT` that it kept silent, no entry that it refused.
Ports on which nothing listens inside cannot be reached, so listeners are what the scan is about.
"""

from __future__ import annotations

import re
import socket
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING

from rave_cli.machines.qemu import usernet
from rave_cli.machines.qemu.qmp import Qmp
from rave_cli.machines.spec import SSH_PORT
from rave_cli.smoke.declarations import check
from rave_cli.smoke.model import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_cli.machines.spec import Machine
    from rave_cli.smoke.context import CheckContext

# Asked besides the catalog's: what attackers try first, and ports where nothing should ever be.
EXTRA = (21, 23, 25, 53, 80, 111, 139, 443, 445, 631, 2375, 2379, 3000, 3306, 5000, 5433, 6443,
         8000, 8080, 8443, 9000, 9200, 10250, 11211, 27017, 65535)  # fmt: skip
# Seconds for QEMU to pass all connections on, and between two looks at its table.
SETTLE, LOOK = 1.5, 0.02
ANSWERS = 10.0

# A row of `info usernet`: TCP[STATE] fd source-address port destination-address port …
_ROW = re.compile(
    r"^\s*TCP\[(?P<state>[A-Z0-9_]+)\]\s+\S+\s+\S+\s+(?P<source>\d+)\s+\S+\s+(?P<port>\d+)\s",
    re.MULTILINE,
)


def targets(context: CheckContext) -> tuple[int, ...]:
    """Return the ports to try: all of the catalog that are not exposed, and the usual suspects."""
    exposed = {port.port for port in context.plan.exposed}
    known = {p.port for s in context.plan.services.values() for p in s.ports if p.protocol == "tcp"}
    return tuple(sorted((known | set(EXTRA)) - exposed))


@check("security.ports", phase="security", viewpoint="outside", step="scan",
       title="from outside only the exposed ports can be reached")  # fmt: skip
def ports(context: CheckContext, timeout: float = 10.0) -> Verdict:
    """Scan from outside; the exposed ports must answer, and no other.

    That sshd answers is known of the logins that are made ahead: one visitor more takes an emulated
    guest a third of a second.
    """
    exposed = sorted(port.port for port in context.plan.exposed)
    tried = targets(context)
    silent: list[int] = []

    def witness() -> None:
        speaking = [p for p in exposed if p != SSH_PORT and _speaks(context.ports.get(p), timeout)]
        # Somebody must have answered to a connection that was made after all others.
        if SSH_PORT in exposed and (
            (speaking and context.knocks.answered(timeout))
            or _speaks(context.ports.get(SSH_PORT), timeout)
        ):
            speaking.append(SSH_PORT)
        silent.extend(p for p in exposed if p not in speaking)

    answered = _answered(context.machine, tried, witness)
    return judge_scan(answered, silent, tried, exposed)


def judge_scan(
    answered: Sequence[int], silent: Sequence[int], tried: Sequence[int], exposed: Sequence[int]
) -> Verdict:
    """Read which of the closed ports answered, and which of the exposed ones did not."""
    problems = [f"port {port} can be reached" for port in answered]
    problems += [f"the exposed port {port} does not answer" for port in silent]
    good = f"{', '.join(map(str, exposed))} answer; {len(tried)} others tried, none does"
    return judge(problems, good, tried=list(tried))


def _answered(machine: Machine, tried: Sequence[int], witness: Callable[[], None]) -> list[int]:
    """Return the guest ports of `tried` that accepted a connection.

    The guest's kernel takes what arrives in its order, and answers at once: what has not answered
    when a later connection has been served, which `witness` makes, does not.
    """
    with ExitStack() as stack:
        for address in stack.enter_context(usernet.temporary(machine, tried)).values():
            with suppress(OSError):
                stack.enter_context(socket.create_connection(address, 5))
        sent = time.monotonic() + SETTLE
        while not set(tried) <= {port for port, _ in _rows(_table(machine))}:
            # QEMU has yet to pass some on; of one that was refused there is no row any more.
            if time.monotonic() > sent:
                break
            time.sleep(LOOK)
        witness()
        return sorted(established(_table(machine)) & set(tried))


def established(table: str) -> set[int]:
    """Return the guest ports of forwarded connections that the guest answered (`info usernet`)."""
    return {port for port, state in _rows(table) if state == "ESTABLISHED"}


def _rows(table: str) -> set[tuple[int, str]]:
    """Return guest port and state of each connection; a forward by itself is none."""
    found = {(int(row["port"]), row["state"]) for row in _ROW.finditer(table)}
    return {(port, state) for port, state in found if state != "HOST_FORWARD"}


def _table(machine: Machine) -> str:
    with Qmp.connect(machine.qmp_socket, timeout=ANSWERS) as monitor:
        return monitor.human("info usernet", timeout=ANSWERS)


def _speaks(host: int | None, timeout: float) -> bool:
    """Return whether something answers behind a forward: a banner, or an error to non-TLS bytes."""
    if host is None:
        return False
    try:
        with socket.create_connection(("127.0.0.1", host), timeout) as plain:
            plain.settimeout(timeout)
            # SSH greets by itself; a TLS server answers garbage with an alert or an error page.
            plain.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return bool(plain.recv(1))
    except OSError:
        return False
