"""Starts QEMU and watches a boot: the I/O around the state machine of readiness.py."""

from __future__ import annotations

import os
import re
import select
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, NoReturn

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import causes, evidence
from rave_cli.machines.guest.readiness import NotReadyError
from rave_cli.machines.guest.stages import StageReader, booted_again, current
from rave_cli.machines.logfiles import Tail, last_lines
from rave_cli.machines.preflight import admitted, port_taken
from rave_cli.machines.qemu import added, credentials, logs, ports
from rave_cli.machines.qemu.argv import accelerator_of
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from rave_cli.machines.spec import SSH_PORT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from rave_cli.machines.guest.readiness import Readiness
    from rave_cli.machines.guest.session import Session
    from rave_cli.machines.guest.stages import StageEvent
    from rave_cli.machines.qemu.qmp import QmpEvent
    from rave_cli.machines.spec import Machine

    OnLogin = Callable[[AbstractContextManager[Session]], None]

# How often the guest's reports are read, in seconds. A read of nothing costs some 20 µs.
GLANCE = 0.025

# How long a console may go on after its fatal line before it is quoted, in seconds.
AFTERMATH = 0.2

_FORWARD_FAULT = re.compile(r"Could not set up host forwarding rule 'tcp:([0-9.]+):(\d+)-[^']*'")


@dataclass(frozen=True)
class Boot:
    """A QEMU process whose boot is being watched. `began` is on the clock of time.monotonic();
    `monitor` hears QEMU's events, None if another command began this boot and hears them; `stays`
    says whether QEMU is left running if the machine does not become ready.
    """

    machine: Machine
    pid: int
    began: float
    monitor: Qmp | None = None
    stays: bool = False
    host_kills: int = field(default_factory=evidence.host_kills)

    def now(self) -> float:
        """Return the seconds since QEMU was started."""
        return time.monotonic() - self.began

    def returncode(self) -> int | None:
        """Return how an ended QEMU ended (negative: by that signal); None if it is no child of
        ours and so nobody tells us.
        """
        try:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
        except ChildProcessError:
            return None
        return os.waitstatus_to_exitcode(status) if pid else None


def launch(
    machine: Machine,
    argv: Sequence[str],
    readiness: Readiness,
    beside: Sequence[str] = (),
    *,
    stays: bool = False,
) -> Boot:
    """Start QEMU detached, so that it outlives this process, and wait for its monitor.

    By then it has read its command line, so the credential blobs are removed again.

    Args:
        machine: the machine.
        argv: QEMU's command.
        readiness: told of each stage.
        beside: what goes before the command of whatever must live as long as QEMU.
        stays: whether QEMU is left running if the machine does not become ready.

    Raises:
        RaveError: as `watch`; HOST if QEMU is missing or a file cannot be written.
    """
    paths.private_dir(paths.runtime_dir())
    paths.private_dir(machine.runtime)
    with credentials.written(machine):
        begun = replace(spawn(machine, argv, beside), stays=stays)
        with _Watch.over(begun, readiness) as watching:
            return replace(begun, monitor=watching.await_monitor())


def spawn(
    machine: Machine, argv: Sequence[str], beside: Sequence[str] = (), *, go_on: bool = False
) -> Boot:
    """Start QEMU and the keeper of its logs. Leftovers of its last run are removed first; its logs,
    too, unless this is to `go_on` with it.

    Raises:
        RaveError: HOST if QEMU is missing, a log cannot be written or the memory is not there.
    """
    with admitted(machine, accelerator_of(argv)):
        return _spawn(machine, argv, beside, go_on=go_on)


def _spawn(machine: Machine, argv: Sequence[str], beside: Sequence[str], *, go_on: bool) -> Boot:
    sockets = (
        machine.qmp_socket, machine.event_socket, machine.way_socket, machine.command_socket,
        machine.pool_socket, added.place(machine),
    )  # fmt: skip
    for stale in sockets:
        stale.unlink(missing_ok=True)
    fd = logs.start(machine, beside, go_on=go_on)
    try:
        return Boot(machine, pid=process.detach(argv, output=fd), began=time.monotonic())
    finally:
        os.close(fd)


def let_go(login: AbstractContextManager[Session]) -> None:
    """End a login that nobody needs."""
    with login:
        return


def watch(boot: Boot, readiness: Readiness, on_login: OnLogin = let_go) -> dict[int, int]:
    """Follow a boot until the machine is ready; returns guest port -> host port.

    Args:
        boot: the boot.
        readiness: told of each stage.
        on_login: gets the login that ends it.

    Raises:
        RaveError: NOT_READY naming the stage and the cause, with the last lines of console and
            QEMU; HOST if a port that was asked for is taken.
    """
    try:
        with _Watch.over(boot, readiness) as watching:
            watching.follow()
            forwards = watching.forwards()
            watching.log_in(forwards, on_login)
            return forwards
    finally:
        if boot.monitor is not None:
            boot.monitor.close()


class _Watch:
    """Everything a boot is watched through: its process, its console and the guest's reports."""

    def __init__(self, boot: Boot, readiness: Readiness, pidfd: int) -> None:
        self.boot = boot
        self.readiness = readiness
        self.pidfd = pidfd
        self.console = Tail(boot.machine.console_log)
        self.reports = Tail(boot.machine.stage_file)
        self.lines = StageReader()
        self.monitor = boot.monitor
        self.returncode: int | None = None
        if booted_again(boot.machine.stage_file):
            # What an earlier boot printed says nothing of this one, and nothing parts them.
            self.console.skip()

    @classmethod
    @contextmanager
    def over(cls, boot: Boot, readiness: Readiness) -> Iterator[_Watch]:
        """Watch a process; whatever fails meanwhile is raised with its cause and the evidence."""
        try:
            pidfd = os.pidfd_open(boot.pid)
        except ProcessLookupError:
            readiness.exited(None, boot.now())
            raise
        watching = cls(boot, readiness, pidfd)
        try:
            yield watching
        except NotReadyError as error:
            raise watching.explained(error) from error
        finally:
            os.close(pidfd)

    def explained(self, fault: NotReadyError) -> NotReadyError:
        """Return a fault with its cause first, where the evidence shows one."""
        seen = evidence.of(
            self.boot.machine,
            ended=self.gone(0),
            returncode=self.returncode,
            host_kills=evidence.host_kills() - self.boot.host_kills,
            stays=self.boot.stays,
            fault=fault.message,
        )
        found = causes.of(seen)
        if found:
            fault = fault.because(found[0].name, found[0].why, found[0].hint)
        elif not (seen.ended or seen.stays):
            fault.hint = f"{fault.hint}; or look into it: {seen.way_in}"
        fault.detail = causes.words(seen, found)
        return fault

    def gone(self, seconds: float) -> bool:
        """Sleep at most `seconds`, less if QEMU has news; returns whether it ended."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if self.monitor is not None:
            poll.register(self.monitor.fileno(), select.POLLIN)
        return any(fd == self.pidfd for fd, _ in poll.poll(seconds * 1000))

    def await_monitor(self) -> Qmp:
        """Connect to the monitor of events as soon as it is there."""
        while True:
            try:
                left = max(0.05, min(2.0, self.readiness.remaining(self.boot.now())))
                monitor = Qmp.connect(self.boot.machine.event_socket, timeout=left)
            except QmpError:
                if self.gone(0.005):
                    self.exited()
                self.readiness.tick(self.boot.now())
            else:
                self.readiness.reach("qemu", self.boot.now())
                return monitor

    def follow(self) -> None:
        """Feed the state machine until the guest reports its services."""
        while not self.readiness.has("services"):
            gone = self.gone(GLANCE)
            self.look()
            if gone and not self.readiness.has("services"):
                self.exited()
            self.readiness.tick(self.boot.now())

    def look(self) -> None:
        """Feed whatever is new since the last look."""
        now = self.boot.now()
        # Read first and judged last: whatever was reported before the end is then known.
        printed = self.console.read()
        events = self._events()
        try:
            for report in current(self._reports()):
                self.readiness.event(report, now)
            for event in events:
                self.readiness.qmp(event, now)
            self.readiness.console(printed, now)
        except RaveError:
            self.monitor = None
            self.gone(AFTERMATH)
            raise

    def _reports(self) -> list[StageEvent]:
        """Return what the guest reported since the last look."""
        found = []
        while data := self.reports.read():
            found += self.lines.feed(data)
        return found

    def _events(self) -> list[QmpEvent]:
        """Return what QEMU told since the last look; once it has hung up there is no monitor."""
        if self.monitor is None:
            return []
        events = self.monitor.events()
        if self.monitor.closed:
            self.monitor = None
        return events

    def forwards(self) -> dict[int, int]:
        """Ask QEMU for the ports it chose."""
        try:
            found = ports.asked(self.boot.machine)
        except QmpError as error:
            self.fail(error)
        if SSH_PORT not in found:
            raise self.readiness.fault("QEMU forwards no port to the guest's sshd", self.boot.now())
        return found

    def log_in(self, forwards: dict[int, int], on_login: OnLogin) -> None:
        """Reach the last two stages: the SSH banner, and the login with both keys checked."""
        # Only now: paramiko takes longer to import than QEMU to start.
        from rave_cli.machines.guest import ssh

        try:
            connection = ssh.reach(
                self.boot.machine, forwards[SSH_PORT], self._deadline(), ended=self._ended
            )
            self.readiness.reach("ssh-banner", self.boot.now())
            on_login(ssh.login(self.boot.machine, connection, self._deadline()))
            self.readiness.reach("ssh-auth", self.boot.now())
        except RaveError as error:
            self.fail(error)

    def _ended(self) -> bool:
        return bool(select.select([self.pidfd], [], [], 0)[0])

    def _deadline(self) -> float:
        return time.monotonic() + max(0.1, self.readiness.remaining(self.boot.now()))

    def fail(self, error: RaveError) -> NoReturn:
        """Raise what an error means for the boot: QEMU's end, if that was the reason."""
        if self.gone(0.1):
            self.exited()
        fault = self.readiness.fault(error.message, self.boot.now())
        fault.hint = error.hint
        raise fault from error

    def exited(self) -> NoReturn:
        """Raise the end of QEMU; name a cause that only its log knows."""
        logs.settle(self.boot.machine)
        self.look()
        text = "\n".join(last_lines(self.boot.machine.qemu_log))
        taken = _FORWARD_FAULT.search(text)
        if taken is not None:
            raise port_taken(taken[1], taken[2])
        if 'Failed to get "write" lock' in text:
            raise RaveError(
                f"a disk of machine {self.boot.machine.name} is in use by another program",
                hint=f"fuser -v {' '.join(map(str, self.boot.machine.disks))}",
                exit_code=ExitCode.HOST,
            )
        self.returncode = self.boot.returncode()
        self.readiness.exited(self.returncode, self.boot.now())
