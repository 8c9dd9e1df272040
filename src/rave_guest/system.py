"""What several checks look at, looked at once: units, sockets, the secrets' places, facts."""

from __future__ import annotations

import os
import subprocess
import threading

from rave_guest import facts
from rave_guest.manager import Manager

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import Any

# What tells whether a unit runs, what it uses, and how often it had to be started again.
STATE = ("LoadState", "ActiveState", "SubState", "Result", "ActiveEnterTimestampMonotonic")
MEMORY = ("MemoryCurrent", "MemoryMax")
RESTARTS = ("NRestarts",)


def run(
    argv: list[str], timeout: float, *, user: str | None = None, stdin: str = "",
    env: dict[str, str] | None = None,
) -> subprocess.CompletedProcess[str]:  # fmt: skip
    """Run a program and return what it said.

    Raises:
        FileNotFoundError: there is no such program.
        TimeoutError: it did not end in time.
    """
    try:
        return subprocess.run(
            argv,
            input=stdin,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=timeout,
            check=False,
            user=user,
            # Root's groups must not follow into another account.
            extra_groups=[] if user else None,
            cwd="/",
            env={"PATH": PATH, "LC_ALL": "C.UTF-8"} | (env or {}),
        )
    except subprocess.TimeoutExpired as error:
        raise TimeoutError(f"{argv[0]} did not end within {timeout:g} s") from error


PATH = "/run/wrappers/bin:/run/current-system/sw/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def read(path: str) -> str:
    """Return a small text file, or nothing if it is not there."""
    try:
        with open(path, errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


class System:
    """The machine that the probe runs on. Every property is looked at once, by one thread."""

    run = staticmethod(run)
    read = staticmethod(read)

    def __init__(self, units: Iterable[str] = ()) -> None:
        """`units`: names of all units that anybody is going to ask about."""
        self._lock = threading.Lock()
        self._locks: dict[str, threading.Lock] = {}
        self._known: dict[str, Any] = {}
        self._names = set(units)
        self._units: dict[tuple[str, ...], dict[tuple[str, str], str]] = {}

    def units(
        self, names: list[str], properties: tuple[str, ...] = STATE
    ) -> dict[str, dict[str, str]]:
        """Return properties of units that PID 1 tells; it is asked once for everybody.

        Raises:
            OSError, ManagerError: it does not answer.
        """
        with self._lock:
            if properties not in self._units or not self._names.issuperset(names):
                self._names.update(names)
                wanted = [(name, each) for name in sorted(self._names) for each in properties]
                self._units[properties] = self.manager(wanted)
            found = self._units[properties]
            return {
                name: {each: found[name, each] for each in properties if (name, each) in found}
                for name in names
            }

    def once(self, name: str, look: Callable[[], Any]) -> Any:
        """Return what `look` returned when it was first called under this name.

        Raises:
            Exception: what `look` raised; the next one who asks looks again.
        """
        with self._lock:
            lock = self._locks.setdefault(name, threading.Lock())
        with lock:
            if name not in self._known:
                self._known[name] = look()
            return self._known[name]

    def forget_units(self) -> None:
        """Let the next check that asks look anew."""
        with self._lock:
            self._units = {}

    @staticmethod
    def manager(wanted: Iterable[tuple[str, str]]) -> dict[tuple[str, str], str]:
        """Return properties that PID 1 tells; see `Manager.properties`."""
        asked = Manager()
        try:
            return asked.properties(wanted)
        finally:
            # It tells whoever is there of each change.
            asked.close()

    @staticmethod
    def listeners() -> list[facts.Listener]:
        """Return every socket that waits for peers."""
        found = []
        for name in ("tcp", "tcp6", "udp", "udp6"):
            found += facts.listeners(read(f"/proc/net/{name}"), name[:3])
        return found

    @staticmethod
    def secret(path: str) -> str | None:
        """Return a secret's value without its final newline, or None if it is not installed."""
        try:
            with open(path) as stream:
                return stream.read().rstrip("\n")
        except OSError:
            return None

    @staticmethod
    def facts() -> dict[str, Any]:
        """Return what the transcript says about the machine."""
        memory = facts.meminfo(read("/proc/meminfo"))
        system = os.uname()
        release = dict(
            line.partition("=")[::2] for line in read("/etc/os-release").splitlines() if "=" in line
        )
        return {
            "hostname": system.nodename,
            "kernel": system.release,
            "arch": system.machine,
            "os": release.get("PRETTY_NAME", "").strip('"'),
            "cpu_cores": os.cpu_count(),
            "memory_mib": memory.get("MemTotal", 0),
            "memory_available_mib": memory.get("MemAvailable", 0),
            "boot_id": read("/proc/sys/kernel/random/boot_id").strip(),
            "instance": read("/run/rave/instance-id").strip(),
            "uptime": float((read("/proc/uptime").split() or ["0"])[0]),
        }
