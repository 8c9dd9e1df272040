"""A program that the host runs here: started, fed, listened to, and ended with all that it started.

It gets a session of its own and, where there are control groups, one of those: what it leaves
behind in the background cannot hide in another session.
"""

from __future__ import annotations

import os
import pwd
import signal
import termios
import time
from contextlib import suppress

OPERATOR = "rave"
DOOR = ["/usr/lib/rave/rave-guest", "door"]
CGROUPS = "/sys/fs/cgroup"
GRACE = 2.0  # seconds that a program gets to end by itself
ENDING = (signal.SIGHUP, signal.SIGTERM)  # what tells a program to end
NOT_STARTED = 127  # as a shell says it
PLAIN = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@%+-./:,_")


class Child:
    """One started program: its pid, a pidfd that tells of its end, and its three pipes; at a
    terminal it has that for all three, and `stderr` is -1.
    """

    def __init__(self, argv: list[str], *, root: bool, number: int, terminal: str = "") -> None:
        """Start it.

        Args:
            argv: program and arguments; not empty.
            root: whether root runs it; else the operator does, with their shell for what is no
                program, as over SSH.
            number: tells its control group from others'.
            terminal: the kind of terminal that it gets; none if empty.

        Raises:
            OSError: there are no more processes, descriptors or terminals.
        """
        self.group = _make_group(number)
        self.terminal = terminal
        if terminal:
            self.stdin, theirs = os.openpty()
            self.stdout, self.stderr = os.dup(self.stdin), -1
            ends: tuple[int, ...] = (theirs,)
        else:
            given, self.stdin = os.pipe2(os.O_CLOEXEC)
            self.stdout, said = os.pipe2(os.O_CLOEXEC)
            self.stderr, complained = os.pipe2(os.O_CLOEXEC)
            ends = (given, said, complained)
        # What tells it to end before it has a session of its own waits until it has one.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            self.pid = os.fork()
            if self.pid == 0:
                _become(argv, root=root, group=self.group, ends=ends, terminal=terminal)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
        for fd in ends:
            os.close(fd)
        for fd in self.pipes():
            os.set_blocking(fd, False)
        self.pidfd = os.pidfd_open(self.pid)
        self.status: int | None = None
        self.kill_at = 0.0

    def pipes(self) -> list[int]:
        """Our ends of its streams that are open."""
        return [fd for fd in (self.stdin, self.stdout, self.stderr) if fd >= 0]

    def resize(self, rows: int, columns: int) -> None:
        """Give its terminal another size, of which it is told; one that it cannot have changes
        nothing.
        """
        with suppress(OverflowError, ValueError, termios.error):
            termios.tcsetwinsize(self.stdin, (rows, columns))

    def reap(self) -> int | None:
        """Return how it ended (negative: by that signal); None as long as it runs."""
        if self.status is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            self.status = os.waitstatus_to_exitcode(status) if pid else None
        return self.status

    def end(self) -> None:
        """Tell it and everything that it started to end; `kill` is due after `GRACE`."""
        if not self.kill_at:
            self.kill_at = time.monotonic() + GRACE
            # A shell at a terminal takes no notice of SIGTERM.
            hang_up = (signal.SIGHUP,) if self.terminal else ()
            for number in (*hang_up, signal.SIGTERM, signal.SIGCONT):
                self._send(number)

    def kill(self) -> None:
        """Kill it and everything that it started."""
        if self.group:
            with suppress(OSError):
                _write(f"{self.group}/cgroup.kill", "1")
        self._send(signal.SIGKILL)

    def left(self) -> bool:
        """Whether anything of it still runs."""
        return self.reap() is None or bool(self._members())

    def forget(self) -> None:
        """Give the descriptors back, and the control group if nobody is in it."""
        for fd in (*self.pipes(), self.pidfd):
            if fd >= 0:
                os.close(fd)
        self.stdin = self.stdout = self.stderr = self.pidfd = -1
        if self.group:
            with suppress(OSError):
                os.rmdir(self.group)

    def _members(self) -> list[int]:
        if not self.group:
            return []
        try:
            with open(f"{self.group}/cgroup.procs") as stream:
                return [int(line) for line in stream]
        except OSError:
            return []

    def _send(self, number: int) -> None:
        for pid in self._members():
            with suppress(ProcessLookupError):
                os.kill(pid, number)
        # A session's leader that is not reaped keeps its number; afterwards it may be another's.
        if self.status is None:
            try:
                os.killpg(self.pid, number)
            except ProcessLookupError:
                # It has no session yet, and has started nothing.
                with suppress(ProcessLookupError):
                    os.kill(self.pid, number)


def _make_group(number: int) -> str:
    """Make a control group for one program below our own; empty where that cannot be."""
    try:
        with open("/proc/self/cgroup") as stream:
            own = next((line[3:].strip() for line in stream if line.startswith("0::")), "")
        if os.getuid() or not own.endswith(".service"):
            return ""
        place = f"{CGROUPS}{own}/run-{number}"
        with suppress(FileExistsError):
            os.mkdir(place)
    except OSError:
        return ""
    return place


def _become(
    argv: list[str], *, root: bool, group: str, ends: tuple[int, ...], terminal: str
) -> None:
    """Be the program from here on; never returns."""
    try:
        if group:
            _write(f"{group}/cgroup.procs", str(os.getpid()))
        if terminal:
            os.login_tty(*ends)
        else:
            os.setsid()
            for fd, end in enumerate(ends):
                os.dup2(end, fd)
        for number in (signal.SIGPIPE, *ENDING):
            # Not as whoever serves the channel takes them.
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
        account, variables = _account(root=root)
        if terminal:
            variables["TERM"] = terminal
        # The channel goes before others (rave-command.service), but not what is run over it.
        if os.getpriority(os.PRIO_PROCESS, 0) < 0:
            os.setpriority(os.PRIO_PROCESS, 0, 0)
        if root and argv == DOOR:
            _answer()
        _execute(argv, variables, "" if root else account.pw_shell)
    except OSError as error:
        os.write(2, f"{argv[0]}: {error.strerror}\n".encode())
    finally:
        os._exit(NOT_STARTED)


def _answer() -> None:
    """Be the door: that takes a copy of this process no time to start."""
    os.closerange(3, 256)
    from rave_guest import door

    door.main([])


def _account(*, root: bool) -> tuple[pwd.struct_passwd, dict[str, str]]:
    """Take on the account that is to run it; returns that and its environment."""
    try:
        operator = pwd.getpwnam(OPERATOR)
    except KeyError:
        operator = pwd.getpwuid(os.getuid())
    account = operator if not root else pwd.getpwuid(0)
    if not os.getuid() and not root:
        if os.isatty(0):
            # As sshd does: programs open the terminal by its name.
            os.fchown(0, account.pw_uid, -1)
        os.initgroups(account.pw_name, account.pw_gid)
        os.setgid(account.pw_gid)
        os.setuid(account.pw_uid)
    with suppress(OSError):
        os.chdir(operator.pw_dir)
    variables = {
        "HOME": account.pw_dir,
        "LOGNAME": account.pw_name,
        "PATH": os.environ.get("PATH", os.defpath),
        "SHELL": account.pw_shell,
        "USER": account.pw_name,
    }
    return account, variables | ({"SUDO_USER": operator.pw_name} if root else {})


def _execute(argv: list[str], variables: dict[str, str], shell: str) -> None:
    """Be the program that `argv` names, without a `shell` between, which takes as long to start as
    that under emulation; what is none but may be the shell's own is the shell's.
    """
    try:
        os.execvpe(argv[0], argv, variables)  # noqa: S606 - a program is what was asked for
    except OSError:
        if not shell:
            raise
        words = [shell, "-c", " ".join(map(quoted, argv))]
        os.execvpe(shell, words, variables)  # noqa: S606 - so here


def quoted(word: str) -> str:
    """A word as a shell reads it back; shlex would bring `re` with it."""
    if word and PLAIN.issuperset(word):
        return word
    return "'" + word.replace("'", "'\"'\"'") + "'"


def _write(path: str, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, text.encode())
    finally:
        os.close(fd)
