"""The ban, really tried: failed logins from outside until the guest shuts the door on us.

To the guest everybody outside is its gateway, so the ban meets this host, and with it every new
connection to the machine. It is tried only if it cannot lock us out for long: the connection that
is open stays open (the firewall lets established ones go on), lifts the ban at once, and should
that fail, the ban ends by itself soon.

What waits for it inside, and lifts it, goes with a batch of the guest's that takes as long
(banturn.py): a program of its own would cost an emulated guest most of a second, and each greeting
of a door that has yet to shut a third of one.
"""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import signals
from rave_cli.machines.spec import SSH_PORT
from rave_cli.smoke import inside
from rave_cli.smoke.declarations import FORGIVE, RELEASE, check
from rave_cli.smoke.knocks import LOOPBACK
from rave_cli.smoke.model import Check, Verdict, judge
from rave_cli.smoke.outside import new_key, transport

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.machines.guest.door import Door
    from rave_cli.smoke.context import CheckContext
    from rave_cli.transcript.check import CheckResult

SETTINGS = "security.fail2ban"
# A ban that lasts longer is not risked.
LONGEST_BAN = 120
KEYS = 3
# Seconds within which a door that is open shows its banner, and between two looks at it. A slow
# machine may take longer, so that silence counts only together with what fail2ban says inside.
PATIENCE, PAUSE = 0.8, 0.2
# Seconds for which the ban is held: a look that began just before it, and a whole one after that.
HOLD = 2 * PATIENCE + PAUSE
# Once the ban is lifted nothing but slowness is in the way.
REOPENED, GREETING = 40.0, 10.0


def release(gateway: str) -> Check:
    """Return what waits inside for the ban of an address, and lifts it."""
    return Check(
        "security.ban-lifted", "security", "the ban is lifted", kind=RELEASE,
        arguments={"address": gateway, "hold": HOLD}, timeout=25,
    )  # fmt: skip


def forgive(gateway: str) -> Check:
    """Return what lifts the ban of an address, if there is one."""
    return Check(
        "security.ban-forgiven", "security", "there is no ban", kind=FORGIVE,
        arguments={"address": gateway}, timeout=15,
    )  # fmt: skip


@check("security.ban", phase="security", viewpoint="outside", service="fail2ban", step="ban",
       title="this run's own failed logins get it banned",
       needs=(SETTINGS, "security.ssh-root"))  # fmt: skip
def ban(context: CheckContext) -> Verdict:
    """Fail to log in until banned, now that it is known how long a ban lasts."""
    settings = context.known.get(SETTINGS)
    seconds = settings.data.get("bantime") if settings is not None else None
    if context.door is None or not isinstance(seconds, int):
        return Verdict("skip", "whether a ban ends soon is not known, so it is not tried")
    return BanCheck(context, context.door).try_ban(seconds)


@dataclass(frozen=True)
class BanCheck:
    """The machine's SSH port, and the open connection that can lift a ban."""

    context: CheckContext
    door: Door

    def try_ban(self, seconds: int) -> Verdict:
        """Fail to log in until banned, see that new connections get no answer, lift the ban.

        Args:
            seconds: how long a ban lasts.
        """
        gateway = self.context.plan.facts.network.gateway
        if not 0 < seconds <= LONGEST_BAN:
            # The refusals of this run and of one just before it may have been enough.
            inside.ask(self.door, [forgive(gateway)], {}, most_seconds=60)
            return Verdict("skip", f"a ban would last {seconds} s, so it is not tried")
        turn = self.context.ban
        self._provoke()
        turn.tried()
        shut = self._shut_while(lambda: turn.held)
        return judge_ban(shut=shut, inner=turn.outcome(), reopened=self._reopened())

    def _provoke(self) -> None:
        import paramiko

        # Refused keys, one after another over one connection; earlier refusals count as well, so
        # the door may have shut before, which lets no new connection in, or shut in between.
        user = self.context.plan.facts.operator
        with (
            suppress(OSError, EOFError, paramiko.SSHException),
            transport(self.context, GREETING) as opened,
        ):
            for _ in range(KEYS):
                with suppress(paramiko.AuthenticationException):
                    signals.apart(lambda: opened.auth_publickey(user, new_key()))

    def _shut_while(self, holding: Callable[[], bool]) -> bool:
        """Return whether a new connection goes without a greeting while the ban is being held."""
        while holding():
            if not self._greeted(PATIENCE):
                return True
            time.sleep(PAUSE)
        return False

    def _reopened(self) -> bool:
        """Return whether a new connection is greeted before long."""
        deadline = time.monotonic() + REOPENED
        while time.monotonic() < deadline:
            if self._greeted(GREETING):
                return True
        return False

    def _greeted(self, patience: float) -> bool:
        place = (LOOPBACK, self.context.ports[SSH_PORT])
        try:
            with socket.create_connection(place, patience) as plain:
                plain.settimeout(patience)
                return plain.recv(4) == b"SSH-"
        except OSError:
            return False


def judge_ban(*, shut: bool, inner: CheckResult, reopened: bool) -> Verdict:
    """Read whether the door shut, what fail2ban and nftables said inside, and whether it opened."""
    problems = []
    if not shut:
        problems.append("new connections are still greeted after the failed logins")
    if inner.status != "pass":
        problems.append(f"inside: {inner.detail}")
    if not reopened:
        problems.append("after the ban was lifted, new connections are not greeted")
    return judge(
        problems, "refused keys got this host banned; no new connection until it was lifted"
    )
