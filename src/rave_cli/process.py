"""The only door to subprocesses: argv lists, explicit environment, deadlines, redacted logging."""

from __future__ import annotations

import logging
import os
import select
import shlex
import shutil
import signal
import subprocess
import time
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, NoReturn

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

log = logging.getLogger("rave.process")

# What a child may inherit. Everything else, tokens of the caller included, stays here.
INHERITED = (
    "HOME", "LANG", "LC_ALL", "LOGNAME", "PATH", "SHELL", "TERM", "TMPDIR", "TZ", "USER",
    "DBUS_SESSION_BUS_ADDRESS", "XDG_RUNTIME_DIR", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
    "XDG_DATA_HOME", "XDG_STATE_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR", "NIX_SSL_CERT_FILE",
    "NIX_REMOTE", "http_proxy", "https_proxy", "all_proxy", "no_proxy", "HTTP_PROXY",
    "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY",
)  # fmt: skip

SHOWN = 1.0  # seconds in which the kernel shows the arguments of what was started
GRACE = 2.0  # seconds that a program gets to end by itself before it is killed

# Debian package that brings a tool, for the hint of a missing one: infra/host/debian-packages.
APT_PACKAGE = {
    "git": "git",
    "newuidmap": "uidmap",
    "nix": "nix-bin",
    "nix-store": "nix-bin",
    "qemu-img": "qemu-utils",
    "qemu-system-x86_64": "qemu-system-x86",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}

# The same for what some commands alone need; `rave doctor` does not miss it.
EXTRA_PACKAGE = {"restic": "restic", "xdg-open": "xdg-utils"}


@dataclass(frozen=True)
class Completed:
    """A finished subprocess. Output is undecoded; `text` and `error_text` decode it."""

    argv: tuple[str, ...]
    returncode: int
    stdout: bytes
    stderr: bytes

    @property
    def ok(self) -> bool:
        """Whether the process exited with status 0."""
        return self.returncode == 0

    @property
    def text(self) -> str:
        """Standard output as text."""
        return self.stdout.decode(errors="replace")

    @property
    def error_text(self) -> str:
        """Standard error as text."""
        return self.stderr.decode(errors="replace")

    def tail(self, lines: int = 12) -> tuple[str, ...]:
        """Return the last lines of standard error, or of standard output if that is empty."""
        text = self.error_text.strip() or self.text.strip()
        return tuple(text.splitlines()[-lines:])


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the environment a child gets: the inherited names that are set, plus `extra`.

    A relative XDG directory is left out, as the specification demands: not every tool ignores it.
    """
    inherited = {name: os.environ[name] for name in INHERITED if name in os.environ}
    odd = {n for n, value in inherited.items() if n.startswith("XDG_") and value[:1] != "/"}
    return {name: inherited[name] for name in inherited.keys() - odd} | dict(extra or {})


def find(tool: str) -> str | None:
    """Return the absolute path of `tool` on PATH, or None."""
    return shutil.which(tool)


def read_packages(listing: str) -> dict[str, str]:
    """Return a list of infra/host as a map: a command, or a file's path, to the Debian package."""
    lines = (line for line in listing.splitlines() if line and not line.startswith("#"))
    return dict(line.split() for line in lines)


def require(tool: str) -> str:
    """Return the absolute path of `tool` on PATH.

    Raises:
        RaveError: HOST, with the package to install, if it is missing.
    """
    path = find(tool)
    if path is None:
        package = (APT_PACKAGE | EXTRA_PACKAGE).get(tool, tool)
        raise RaveError(
            f"{tool} is not on PATH",
            hint=f"apt-get install {package}   (rave doctor lists everything that is missing)",
            exit_code=ExitCode.HOST,
        )
    return path


def run(
    argv: Sequence[str | Path],
    *,
    timeout: float,
    stdin: bytes | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Completed:
    """Run a program to its end and return what it said, whatever its exit status.

    Args:
        argv: the program and its arguments. Never a secret: those go through `stdin` or a file.
        timeout: seconds; afterwards the whole process group is killed.
        stdin: bytes for standard input, never logged; None means /dev/null.
        env: additions to the inherited environment (see `environment`).
        cwd: working directory.
        pass_fds: file descriptors the child keeps open.

    Raises:
        RaveError: HOST if the program is missing or does not end in time.
    """
    with spawn(
        argv,
        stdin=subprocess.DEVNULL if stdin is None else subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
    ) as child:
        try:
            stdout, stderr = child.communicate(stdin, timeout=timeout)
        except subprocess.TimeoutExpired as error:
            raise RaveError(
                f"{argv[0]} did not finish within {timeout:g} s",
                hint="rave doctor",
                exit_code=ExitCode.HOST,
            ) from error
    done = Completed(tuple(map(str, argv)), child.returncode, stdout, stderr)
    log.debug("exit %d: %s", done.returncode, done.argv[0])
    return done


def foreground(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> int:
    """Run a program that owns the terminal, such as an editor, and return its exit status.

    Ctrl-C and Ctrl-\\ are its own business meanwhile: there they mean something else. If we are
    told to end, it is asked to end first: an editor then saves what it has.

    Raises:
        RaveError: HOST if the program is missing or cannot be started.
    """
    words = tuple(map(str, argv))
    log.debug("run: %s", shlex.join(words))
    with signals.ignored(signal.SIGINT, signal.SIGQUIT), signals.held() as hold:
        child = _popen(words, env=env, new_session=False)
        try:
            with hold.released():
                return child.wait()
        finally:
            for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGKILL):
                if child.poll() is None:
                    child.send_signal(number)
                    _ended(child.pid, GRACE)
            child.wait()


def ask(argv: Sequence[str | Path], *, timeout: float) -> Completed:
    """Run a program of the user's own that answers on standard output, such as a key helper.

    It stays in our session and gets our whole environment, so that it can ask on the terminal; its
    standard error is ours.

    Args:
        argv: the program and its arguments.
        timeout: seconds; afterwards it is killed.

    Raises:
        RaveError: HOST if it is missing, cannot be started, or does not end in time.
    """
    words = tuple(map(str, argv))
    log.debug("ask: %s", words[0])
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=timeout, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise RaveError(
            f"{words[0]} did not finish within {timeout:g} s",
            hint="try it by hand",
            exit_code=ExitCode.HOST,
        ) from error
    except OSError as error:
        raise RaveError(
            f"{words[0]} cannot be started: {error.strerror}",
            hint="try it by hand",
            exit_code=ExitCode.HOST,
        ) from error
    return Completed(words, done.returncode, done.stdout, b"")


@contextmanager
def spawn(
    argv: Sequence[str | Path],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a program in its own process group; on leaving, whatever still runs of it is killed.

    Raises:
        RaveError: HOST if the program is missing or cannot be started.
    """
    words = tuple(map(str, argv))
    with signals.held() as hold:
        child = start(
            words, stdin=stdin, stdout=stdout, stderr=stderr, env=env, cwd=cwd, pass_fds=pass_fds
        )
        try:
            with hold.released():
                yield child
        finally:
            if child.poll() is None:
                kill_group(child)
            for stream in (child.stdin, child.stdout, child.stderr):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()


def start(
    argv: Sequence[str | Path],
    *,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    umask: int = -1,
) -> subprocess.Popen[bytes]:
    """Start a program in a session of its own and leave it to the caller.

    Raises:
        RaveError: HOST if the program is missing or cannot be started.
    """
    words = tuple(map(str, argv))
    log.debug("run: %s", shlex.join(words))
    return _popen(
        words,
        stdin=stdin,
        stdout=stdout,
        stderr=stderr,
        env=env,
        cwd=cwd,
        pass_fds=pass_fds,
        umask=umask,
    )


def _popen(
    words: tuple[str, ...],
    *,
    env: Mapping[str, str] | None,
    stdin: int | IO[bytes] | None = None,
    stdout: int | IO[bytes] | None = None,
    stderr: int | IO[bytes] | None = None,
    cwd: Path | None = None,
    pass_fds: Sequence[int] = (),
    umask: int = -1,
    new_session: bool = True,
) -> subprocess.Popen[bytes]:
    # A signal between fork and return would leave a child that nobody knows of.
    with signals.held():
        try:
            return subprocess.Popen(
                words,
                stdin=stdin,
                stdout=stdout,
                stderr=stderr,
                env=environment(env),
                cwd=cwd,
                pass_fds=tuple(pass_fds),
                umask=umask,
                start_new_session=new_session,
            )
        except OSError as error:
            raise _unstartable(words[0], error) from error


def _unstartable(program: str, error: OSError) -> RaveError:
    """Return the error of a program that cannot be started; a missing one is named as such."""
    if isinstance(error, FileNotFoundError):
        require(program)
    about = f" ({error.filename})" if error.filename and error.filename != program else ""
    return RaveError(
        f"{program} cannot be started: {error.strerror}{about}",
        hint="rave doctor",
        exit_code=ExitCode.HOST,
    )


def detach(argv: Sequence[str | Path], *, output: int, pass_fds: Sequence[int] = ()) -> int:
    """Start a program that outlives us, its output going to the descriptor `output`; it keeps
    `pass_fds` open. What it makes, its sockets included, is the caller's alone.

    Returns its pid; os.waitpid tells its exit status while we live.

    Raises:
        RaveError: HOST if the program is missing or cannot be started.
    """
    with signals.held():
        child = start(
            argv, stdout=output, stderr=output, cwd=Path("/"), pass_fds=pass_fds, umask=0o077
        )
        # A Popen whose child still runs complains when it is collected; this one is to run on.
        child.returncode = 0
        _await_argv(child.pid)
        return child.pid


def _await_argv(pid: int) -> None:
    """Wait until a child can be told by its arguments: for a moment after execve(2) has succeeded,
    proc_pid_cmdline(5) is empty.
    """
    place = Path(f"/proc/{pid}/cmdline")
    until = time.monotonic() + SHOWN
    while time.monotonic() < until:
        ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None or place.read_bytes():
            return
        time.sleep(0.0005)


def become(argv: Sequence[str | Path], *, env: Mapping[str, str] | None = None) -> NoReturn:
    """Replace this process by a program that owns the terminal from here on.

    Raises:
        RaveError: HOST if the program is missing or cannot be started.
    """
    words = tuple(map(str, argv))
    log.debug("become: %s", shlex.join(words))
    try:
        os.execve(require(words[0]), words, environment(env))  # noqa: S606 - this is the one door
    except OSError as error:
        raise _unstartable(words[0], error) from error


def kill_group(child: subprocess.Popen[bytes], grace: float = GRACE) -> None:
    """End a child's process group: SIGTERM, `grace` seconds, SIGKILL; the child is reaped."""
    with signals.held():
        # Until the child is reaped its pid, and with it the group's, belongs to nobody else.
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGTERM)
            _ended(child.pid, grace)
            # Also for what the child has left behind in its group.
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()


def _ended(pid: int, seconds: float) -> bool:
    """Return whether a child ends within `seconds`; it is not reaped."""
    pidfd = os.pidfd_open(pid)
    try:
        poll = select.poll()
        poll.register(pidfd, select.POLLIN)
        return bool(poll.poll(seconds * 1000))
    finally:
        os.close(pidfd)
