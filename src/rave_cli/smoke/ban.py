"""The ban, really tried: failed logins from outside until the guest shuts the door on us.

To the guest everybody outside is its gateway, so the ban meets this host, and with it every new
connection to the machine. It is tried only if it cannot lock us out for long: the connection that
is open stays open (the firewall lets established ones go on), lifts the ban at once, and should
that fail, the ban ends by itself soon.
"""

from __future__ import annotations

import socket
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import paramiko

from rave_cli.smoke import inside
from rave_cli.smoke.model import Question, Verdict, judge
from rave_cli.smoke.outside import LOOPBACK, SSH_PORT, new_key, transport
from rave_cli.smoke.questions import GATEWAY

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.machines.guest.door import Door
    from rave_cli.smoke.scene import Scene
    from rave_cli.transcript.check import CheckResult

# A ban that lasts longer is not risked.
LONGEST_BAN = 120
KEYS = 3
# Seconds for which the ban is held, and within which a door that is open shows its banner. A slow
# machine may take longer, so that silence counts only together with what fail2ban says inside.
HOLD, PATIENCE = 3.0, 1.5
# Once the ban is lifted nothing but slowness is in the way.
REOPENED, GREETING = 40.0, 10.0


@dataclass(frozen=True)
class Names:
    """The checks that the ban is about."""

    settings: str = "security.fail2ban"
    check: str = "security.ban"


BAN = Names()
RELEASE = Question(
    "security.ban-lifted", "security", "the ban is lifted", kind="fail2ban-release",
    arguments={"address": GATEWAY, "hold": HOLD}, timeout=25,
)  # fmt: skip
FORGIVE = Question(
    "security.ban-forgiven", "security", "there is no ban", kind="fail2ban-forgive",
    arguments={"address": GATEWAY}, timeout=15,
)  # fmt: skip


@dataclass(frozen=True)
class Gate:
    """The machine's SSH port, and the open connection that can lift a ban."""

    scene: Scene
    door: Door | None

    def try_ban(self, settings: CheckResult | None) -> Verdict:
        """Fail to log in until banned, see that new connections get no answer, lift the ban.

        Args:
            settings: the result of `security.fail2ban`, which tells how long a ban lasts.
        """
        seconds = settings.data.get("bantime") if settings is not None else None
        if self.door is None or not isinstance(seconds, int):
            return Verdict("skip", "whether a ban ends soon is not known, so it is not tried")
        if not 0 < seconds <= LONGEST_BAN:
            # The refusals of this run and of one just before it may have been enough.
            inside.ask(self.door, [FORGIVE], {}, most_seconds=60)
            return Verdict("skip", f"a ban would last {seconds} s, so it is not tried")
        # A door that is shut already, by refusals before this run, needs no more of them.
        if self._greeted(GREETING):
            self._provoke()
        with ThreadPoolExecutor(1) as pool:
            release = pool.submit(inside.ask, self.door, [RELEASE], {}, most_seconds=60)
            shut = self._shut_while(lambda: not release.done())
            inner = release.result().results[0]
        return judge_ban(shut=shut, inner=inner, reopened=self._reopened())

    def _provoke(self) -> None:
        # Refused keys, one after another over one connection; earlier refusals count as well, so
        # the door may have shut before, or shut in between.
        with (
            suppress(OSError, EOFError, paramiko.SSHException),
            transport(self.scene, 20) as opened,
        ):
            for _ in range(KEYS):
                with suppress(paramiko.AuthenticationException):
                    opened.auth_publickey("rave", new_key())

    def _shut_while(self, holding: Callable[[], bool]) -> bool:
        """Return whether a new connection goes without a greeting while the ban is being held."""
        while holding():
            if not self._greeted(PATIENCE):
                return True
            time.sleep(0.3)
        return False

    def _reopened(self) -> bool:
        """Return whether a new connection is greeted before long."""
        deadline = time.monotonic() + REOPENED
        while time.monotonic() < deadline:
            if self._greeted(GREETING):
                return True
        return False

    def _greeted(self, patience: float) -> bool:
        place = (LOOPBACK, self.scene.ports[SSH_PORT])
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
