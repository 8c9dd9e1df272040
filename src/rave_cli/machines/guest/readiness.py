"""From a started QEMU to a ready machine: named stages, each with a deadline, a hint and a cause.

`Readiness` is the state machine and does no I/O: what was seen is fed to it, and it says which
stage was reached or raises the one error that names where the boot stopped. boot.py feeds it.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, NoReturn

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest.stages import begins_boot
from rave_cli.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.machines.guest.stages import StageEvent
    from rave_cli.machines.qemu.qmp import QmpEvent


# Seconds in which the guest asks a failed service again and gives a new verdict (ASK_AGAIN and
# PATIENCE of rave_guest/ready.py).
RECOVERS = 25.0


@dataclass(frozen=True)
class Stage:
    """A step of every boot. `seconds` is its deadline, counted from the stage before, under TCG on
    the reference host; the accelerator's measured speed scales it.
    """

    name: str
    waits_for: str
    seconds: float
    hint: str


# In the order in which they are reached. SSH comes last although the guest's sshd is up early: one
# handshake costs a TCG guest over a second of the CPU that its services are starting with.
STAGES = (
    Stage("qemu", "QEMU's monitor to answer", 10, "rave doctor"),
    Stage("kernel", "a sign of life of the guest", 30, "rave vm logs {name}"),
    Stage("systemd", "systemd to start in the guest", 45, "rave vm logs {name}"),
    Stage("services", "every service of the profile", 150, "rave vm logs {name}"),
    Stage("ssh-banner", "the guest's SSH server", 20, "rave vm logs {name}"),
    Stage("ssh-auth", "the login with the machine's key", 30, "rave vm logs {name}"),
)
NAMES = tuple(stage.name for stage in STAGES)

# Of a machine that is started from a template: its guest's kernel and systemd were started in that.
WARM = (
    STAGES[0],
    Stage("itself", "the guest to become this machine", 30, "rave vm start {name}"),
    *STAGES[3:],
)

# Where a profile has more than the smallest one, the guest tells when that part is there. It is no
# stage to wait for: what else there is then has this many seconds, its slowest service's deadline
# and a guest's own patience with it among them.
CORE, AFTER_CORE = "core", 240.0

# A guest that loads databases into a server of another release tells so every few seconds: the time
# that it takes counts as no stage's.
LOADING = "loading"

# What a console says when no later stage will ever come. Sources: Linux panic(), systemd's
# emergency.service and sulogin, initramfs-tools, dracut.
FATAL_CONSOLE = (
    (re.compile(rb"Kernel panic - not syncing:?[^\r\n]{0,160}"), "the guest's kernel panicked"),
    (re.compile(rb"You are in (emergency|rescue) mode"), "the guest is in emergency mode"),
    (re.compile(rb"Cannot open access to console, the root account is locked"),
     "the guest is in emergency mode"),
    (re.compile(rb"Gave up waiting for (root|suspend)[^\r\n]{0,80}"),
     "the guest found no root file system"),
    (re.compile(rb"Entering emergency mode"), "the guest is in emergency mode"),
)  # fmt: skip

# Enough of the last read to find a message that a read cut in two.
_OVERLAP = 256


@dataclass(frozen=True)
class Reached:
    """A stage that was reached, `seconds` after QEMU was started."""

    name: str
    seconds: float
    detail: str = ""


class NotReadyError(RaveError):
    """Where a boot stopped, and why if that is known."""

    def __init__(self, machine: str, where: str, hint: str) -> None:
        super().__init__(
            f"machine {machine} did not become ready: {where}",
            hint=hint,
            exit_code=ExitCode.NOT_READY,
        )
        self._machine, self._where = machine, where

    def because(self, name: str, why: str, hint: str) -> NotReadyError:
        """Return the error with its cause told first; `name` is the cause's code word."""
        told = NotReadyError(self._machine, f"{why}; {self._where}", hint)
        told.reason = name
        return told


class Readiness:
    """Where a boot is. Every method takes what was seen and when (seconds since the start)."""

    def __init__(
        self,
        name: str,
        instance: str,
        *,
        scale: float,
        on_stage: Callable[[Reached], None],
        stages: tuple[Stage, ...] | None = None,
    ) -> None:
        self.name = name
        self.stages = STAGES if stages is None else stages
        self.reached: list[Reached] = []
        self.services: StageEvent | None = None
        self._instance = instance
        self._scale = scale
        self._on_stage = on_stage
        self._console = b""
        self._last: StageEvent | None = None
        self._joined = False
        self._broken: tuple[str, float] | None = None
        self._core: float | None = None
        self._loading = 0.0

    def join(self) -> None:
        """Take up a machine that runs already: its last verdict may be older than what mended it,
        so after a bad one the next is waited for, for RECOVERS seconds.
        """
        self._joined = True

    @property
    def stage(self) -> Stage | None:
        """The stage that the boot waits for; None when all are reached."""
        return self.stages[len(self.reached)] if len(self.reached) < len(self.stages) else None

    def has(self, name: str) -> bool:
        """Return whether a stage was reached; one that this start does not have is not waited for
        and never is.
        """
        names = [stage.name for stage in self.stages]
        return name in names and names.index(name) < len(self.reached)

    def reach(self, name: str, now: float, detail: str = "") -> None:
        """Note that a stage was reached, and with it every one before."""
        if name not in [stage.name for stage in self.stages]:
            return
        while not self.has(name):
            stage = self.stages[len(self.reached)]
            step = Reached(stage.name, now, detail if stage.name == name else "")
            self.reached.append(step)
            self._on_stage(step)

    def remaining(self, now: float) -> float:
        """Return the seconds that are left for the stage that the boot waits for."""
        stage = self.stage
        if stage is None:
            return 0.0
        if stage.name == "services" and self._core is not None:
            return self._core + AFTER_CORE * self._scale - now
        since = max(self.reached[-1].seconds if self.reached else 0.0, self._loading)
        return since + stage.seconds * self._scale - now

    def tick(self, now: float) -> None:
        """Let time pass.

        Raises:
            RaveError: NOT_READY if the deadline of the current stage has passed.
        """
        if self._broken is not None and now - self._broken[1] > RECOVERS * self._scale:
            raise self.fault(self._broken[0], now)
        stage = self.stage
        if stage is not None and self.remaining(now) < 0:
            late = stage.name == "services" and self._core is not None
            seconds = (AFTER_CORE if late else stage.seconds) * self._scale
            raise self.fault(f"waited {seconds:.0f} s for {stage.waits_for}", now)

    def console(self, data: bytes, now: float) -> None:
        """Take what the guest printed.

        Raises:
            RaveError: NOT_READY for a panic, emergency mode and the like.
        """
        if not data:
            return
        self.reach("kernel", now)
        text = self._console + data
        self._console = text[-_OVERLAP:]
        for pattern, meaning in FATAL_CONSOLE:
            found = pattern.search(text)
            if found is not None:
                said = clean(found[0].decode(errors="replace"))
                raise self.fault(f"{meaning}: {said}", now)

    def event(self, event: StageEvent, now: float) -> None:
        """Take a report of the guest.

        Raises:
            RaveError: NOT_READY if another machine speaks, or the guest reports a failure.
        """
        if event.instance != self._instance:
            raise self.fault(
                f"the guest calls itself {clean(event.instance)[:40]!r}, not {self._instance!r}:"
                " it did not take its credentials",
                now,
            )
        anew = self._last is not None and begins_boot(event, self._last)
        self._last = event
        if anew or event.stage == "stopping":
            self._begin_anew(now)
        if event.stage == "failed":
            raise self.fault(f"the guest gave up: {event.reason or 'no reason given'}", now)
        if event.stage in ("systemd", "sshd", LOADING):
            self.reach("systemd", now)
            self._loading = now if event.stage == LOADING else self._loading
        if event.stage == CORE and self._core is None and not self.has("services"):
            self.reach("systemd", now)
            self._core = now
            self._on_stage(Reached(CORE, now, _healthy(event)))
        if event.stage == "services":
            self.services = event
            if event.failed_services:
                self.reach("systemd", now)
                cause = f"failed: {', '.join(event.failed_services)}"
                if not self._joined:
                    raise self.fault(cause, now)
                self._broken = (cause, self._broken[1] if self._broken else now)
                return
            self._broken = None
            if event.starting_services:
                self.reach("systemd", now)
                return
            self.reach("services", now, _healthy(event))

    def _begin_anew(self, now: float) -> None:
        """Wait for the guest's stages again: it goes down, or has started anew."""
        if self.has("kernel"):
            self.reached = self.reached[: NAMES.index("kernel")]
            self.services, self._core = None, None
            self.reach("kernel", now, "the guest starts anew")

    def qmp(self, event: QmpEvent, now: float) -> None:
        """Take an event of QEMU (names and members: QEMU's QMP reference).

        Raises:
            RaveError: NOT_READY for a panic, a shutdown or a disk that cannot be written.
        """
        if event.name == "GUEST_PANICKED":
            raise self.fault("the guest's kernel panicked", now)
        if event.name == "SHUTDOWN":
            raise self.fault(f"the machine went down ({event.data.get('reason', '?')})", now)
        if event.name == "BLOCK_IO_ERROR" and event.data.get("action") == "stop":
            why = "no space left for its disk" if event.data.get("nospace") else "disk error"
            raise self.fault(f"QEMU stopped the machine: {why}", now)

    def exited(self, returncode: int | None, now: float) -> NoReturn:
        """Take the end of QEMU; None if its exit status is not known.

        Raises:
            RaveError: NOT_READY, always.
        """
        raise self.fault(f"QEMU {describe_exit(returncode)}", now)

    def fault(self, cause: str, now: float) -> NotReadyError:
        """Return the error that says where the boot stopped and why."""
        stage = self.stage or self.stages[-1]
        where = f"stopped at stage {stage.name} after {now:.1f} s: {cause}"
        return NotReadyError(self.name, where, stage.hint.format(name=self.name))


def _healthy(event: StageEvent) -> str:
    return f"{len(event.service_uptimes)} healthy, guest uptime {event.uptime:.1f} s"


def describe_exit(returncode: int | None) -> str:
    """Say how a process ended."""
    if returncode is None:
        return "ended"
    if returncode == -signal.SIGKILL:
        return "was killed (SIGKILL; if nobody did it, see `dmesg` for the out-of-memory killer)"
    if returncode < 0:
        return f"was ended by {signal.Signals(-returncode).name}"
    return f"ended with exit status {returncode}"
