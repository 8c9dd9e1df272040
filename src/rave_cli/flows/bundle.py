"""What is known of a machine, in one archive to attach to a report: bounded, without secrets.

It is made of a machine in any state: one that runs, that died, whose record is damaged. What cannot
be had is in the archive, too, as the reason.
"""

from __future__ import annotations

import io
import json
import os
import platform
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_cli import __version__, paths, process
from rave_cli.doctor import examine
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import hiding
from rave_cli.flows.events import step
from rave_cli.images import carried
from rave_cli.machines import logfiles, runs, snapshots, status, store
from rave_cli.machines.guest import connection
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.argv import pretty
from rave_cli.machines.qemu.program import QEMU
from rave_cli.machines.qemu.qmp import MonitorGoneError, Qmp, QmpError
from rave_cli.machines.spec import Machine, check_name, machines_dir
from rave_cli.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.flows.hiding import Hiding

    Source = Callable[[], str]

# Bytes of one part, of which the end is kept, and of all of them.
MOST_PART = 512 << 10
MOST = 16 << 20

# Seconds for one question to the guest, and after which no further one is put.
QUESTION = 20.0
GUEST = 90.0
MONITOR = 5.0

# How many failed units the journal is asked for.
MOST_UNITS = 12

# Read of every machine, whatever its record says: the name in the archive, and in the directory.
LOGS = {
    "console.log": "console.log",
    "qemu.log": "qemu.log",
    "stages.jsonl": "stages.jsonl",
}
RECORDS = (store.RECORD, carried.NAME, runs.NAME, "forwards.json", "known_hosts")

# What a guest that answers is asked, as root. No command lines of processes: they may hold secrets.
QUESTIONS: dict[str, tuple[str, ...]] = {
    "units.txt": ("systemctl", "--no-pager", "--full", "--plain", "--all", "list-units"),
    "warnings.txt": ("journalctl", "-b", "--no-pager", "--priority=warning", "--lines=1000"),
    "kernel.txt": ("journalctl", "-k", "-b", "--no-pager", "--lines=500"),
    "status.json": ("cat", "/run/rave/status.json"),
    "disks.txt": ("df", "-h"),
    "memory.txt": ("cat", "/proc/meminfo"),
    "pressure.txt": ("sh", "-c", "grep . /proc/pressure/* /proc/loadavg /proc/uptime"),
    "processes.txt": ("ps", "-eo", "pid,ppid,user,stat,etimes,time,rss,comm"),
    "mounts.txt": ("cat", "/proc/mounts"),
    "release.txt": ("sh", "-c", "cat /etc/os-release; uname -a"),
}
FAILED = ("systemctl", "--no-pager", "--plain", "--no-legend", "--failed", "list-units")

# What the host is described by.
HOST_FILES = ("/etc/os-release", "/proc/meminfo", "/proc/loadavg", "/proc/uptime")

README = """\
What rave knows of machine {name}: `rave vm debug-bundle`, rave {version}, {when}.

  machine/   its record, plan, status, logs and QEMU command line
  guest/     what its guest answered, if it did
  host/      this host, and what `rave doctor` found

Each part keeps its last {most} KiB. Where something could not be had, the part says why.

{count} places were replaced by [redacted]: secrets of the machine and of the operator in every form
in which they are known to turn up, and whatever looks like a key, a token or a password. Look
through it all the same before you hand it on: hosts, users, addresses and what services logged are
in it.
{unknown}"""


@dataclass(frozen=True)
class Bundle:
    """An archive that was made: where, what is in it, and how often something was replaced."""

    place: Path
    parts: tuple[str, ...]
    missing: tuple[str, ...]
    redacted: int
    size: int

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        return {
            "file": str(self.place),
            "bytes": self.size,
            "parts": list(self.parts),
            "missing": list(self.missing),
            "redacted": self.redacted,
        }


def make(name: str, place: Path | None, *, on_event: OnEvent) -> Bundle:
    """Collect what is known of a machine into an archive (tar, gzip; mode 0600).

    Args:
        name: the machine's.
        place: the file; None for one named after machine and time in the working directory.
        on_event: told what is being collected.

    Raises:
        RaveError: USAGE if there is no such machine, or `place` exists; HOST if it cannot be
            written.
    """
    directory = machines_dir() / check_name(name)
    if not directory.is_dir():
        store.load(name)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
    top = f"rave-debug-{name}-{stamp}"
    target = _target(place, top)
    with step(on_event, "bundle", f"Collecting what is known of {name}") as doing:
        collected = _Collected(hiding.learn(directory), doing)
        collected.take("machine", _of_machine(directory, name))
        machine = _loaded(name)
        if machine is not None:
            collected.take("machine", _of_process(machine))
            collected.take("guest", _of_guest(machine))
        collected.take("host", _of_host())
        collected.parts["README.txt"] = _readme(name, collected.hiding)
        data = _archive(top, collected.parts)
        paths.atomic_write(target, data, mode=0o600)
    return Bundle(
        target, tuple(sorted(collected.parts)), tuple(collected.missing),
        collected.hiding.count, len(data),
    )  # fmt: skip


def _target(place: Path | None, top: str) -> Path:
    with paths.refusing(Path()):
        target = (place or Path(f"{top}.tar.gz")).absolute()
    if target.exists():
        raise RaveError(
            f"{target} exists already",
            hint="give another file with -o",
            exit_code=ExitCode.USAGE,
        )
    return target


def _loaded(name: str) -> Machine | None:
    try:
        return store.load(name)
    except RaveError:
        return None


class _Collected:
    """The parts of a bundle so far, each without secrets and within its bound."""

    def __init__(self, hidden: Hiding, doing: Step) -> None:
        self.hiding = hidden
        self.parts: dict[str, str] = {}
        self.missing: list[str] = []
        self._doing = doing
        self._size = 0

    def take(self, folder: str, sources: Iterator[tuple[str, Source]]) -> None:
        """Ask each source; one that cannot answer leaves the reason."""
        for name, source in sources:
            path = f"{folder}/{name}"
            self._doing.progress(path)
            try:
                found = source()
            except (RaveError, OSError, ValueError, LookupError) as error:
                found = f"(could not be had: {error})\n"
                self.missing.append(path)
            # In documents of ours a word beside `secrets` is none.
            ours = folder != "guest" and name.endswith(".json")
            hidden = self.hiding.known(found) if ours else self.hiding.text(found)
            kept = _end(hidden, min(MOST_PART, MOST - self._size))
            self._size += len(kept)
            self.parts[path] = kept


def _end(text: str, most: int) -> str:
    """Return the end of a text, from the beginning of a line on."""
    if len(text.encode()) <= most:
        return text
    tail = text.encode()[-most:].partition(b"\n")[2].decode(errors="replace") if most > 0 else ""
    return f"(what was before this is left out)\n{tail}"


def _of_machine(directory: Path, name: str) -> Iterator[tuple[str, Source]]:
    """Yield what lies in a machine's directory, but for its disk and keys."""
    for record in RECORDS:
        if (directory / record).exists():
            yield record, (directory / record).read_text
    for title, log in LOGS.items():
        yield title, lambda log=log: _log(directory / log)  # type: ignore[misc]
    yield "files.txt", lambda: _listing(directory)
    yield "status.json", lambda: _dump(status.of(store.load(name), thorough=True).document)


def _log(place: Path) -> str:
    # Twice what is kept: a control sequence takes room until it is cleaned away.
    return logfiles.end(place, 2 * MOST_PART).decode(errors="replace")


def _listing(directory: Path) -> str:
    lines = []
    for place in sorted(directory.rglob("*")):
        found = place.lstat()
        when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(found.st_mtime))
        lines.append(
            f"{found.st_mode:o} {found.st_uid} {found.st_size:>12} {found.st_blocks * 512:>12}"
            f" {when} {place.relative_to(directory)}"
        )
    return "\n".join(lines) + "\n"


def _of_process(machine: Machine) -> Iterator[tuple[str, Source]]:
    """Yield what is known of a machine's QEMU and of the image that it was made from."""
    yield "image.json", lambda: _dump(_image(machine))
    yield "snapshots.json", lambda: _dump(_snapshots(machine))
    yield "qemu-version.txt", _qemu_version
    running = processes.find(machine)
    if running is None:
        return
    yield "argv.txt", lambda: pretty(running.argv) + "\n"
    yield "qmp.json", lambda: _dump(_monitor(machine))


def _snapshots(machine: Machine) -> list[dict[str, object]]:
    return [snapshots.load(machine, name).document for name in snapshots.names(machine)]


def _image(machine: Machine) -> dict[str, Any]:
    image = machine.spec.image
    there = image.qcow2.exists()
    return {
        "sha256": image.sha256, "storePath": image.store_path, "narHash": image.nar_hash,
        "qcow2": str(image.qcow2), "there": there, "boot": image.boot.kind,
        "size": image.size, "sizeNow": image.qcow2.stat().st_size if there else None,
    }  # fmt: skip


def _qemu_version() -> str:
    return process.run([process.require(QEMU), "--version"], timeout=10).text


def _monitor(machine: Machine) -> dict[str, Any]:
    with Qmp.connect(machine.qmp_socket, timeout=MONITOR) as monitor:
        asked = ("query-status", "query-version", "query-block", "query-chardev", "query-balloon")
        return {
            **{command: _answer(monitor, command) for command in asked},
            "info usernet": monitor.human("info usernet", timeout=MONITOR).splitlines(),
        }


def _answer(monitor: Qmp, command: str) -> Any:  # noqa: ANN401 - whatever QEMU answers
    """Return what QEMU says to a command; that it refuses one takes no other with it."""
    try:
        return monitor.execute(command, timeout=MONITOR)
    except MonitorGoneError:
        raise
    except QmpError as error:
        return {"refused": error.message}


def _of_guest(machine: Machine) -> Iterator[tuple[str, Source]]:
    """Yield what the guest answers, over one connection; nothing if it does not run."""
    if processes.find(machine) is None:
        return
    until = time.monotonic() + GUEST
    try:
        with connection.connect(machine) as session:

            def ask(argv: tuple[str, ...]) -> str:
                left = min(QUESTION, until - time.monotonic())
                if left <= 0:
                    raise ValueError(
                        f"the guest took more than {GUEST:g} s for what was asked before"
                    )
                done = session.run(argv, timeout=left, sudo=True)
                return done.text + done.error_text

            for name, argv in QUESTIONS.items():
                yield name, lambda argv=argv: ask(argv)  # type: ignore[misc]
            failed: list[str] = []

            def list_failed() -> str:
                said = ask(FAILED)
                failed.extend(line.split()[0] for line in said.splitlines() if line.split())
                return said

            yield "failed.txt", list_failed
            for unit in [unit for unit in failed if _is_unit(unit)][:MOST_UNITS]:
                words = ("journalctl", "-b", "--no-pager", "--lines=300", f"--unit={unit}")
                yield f"journal/{unit}.txt", lambda words=words: ask(words)  # type: ignore[misc]
    except RaveError as error:
        said = error

        def tell() -> str:
            raise said

        yield "unreachable.txt", tell


def _is_unit(name: str) -> bool:
    """Return whether a guest's word can be a unit's name, and so a file's in the archive."""
    plain = all(letter.isalnum() or letter in "@_.-:" for letter in name)
    return plain and len(name) < 128 and name.endswith((".service", ".mount", ".socket", ".timer"))


def _of_host() -> Iterator[tuple[str, Source]]:
    yield "doctor.json", lambda: _dump([found.document for found in examine()])
    yield "facts.json", lambda: _dump(_facts())
    for place in HOST_FILES:
        yield f"{Path(place).name}.txt", Path(place).read_text
    yield "machines.json", lambda: _dump([entry.document for entry in status.of_all()])


def _facts() -> dict[str, Any]:
    return {
        "rave": __version__,
        "python": platform.python_version(),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "root": os.getuid() == 0,
        "path": os.environ.get("PATH", ""),
        "locale": os.environ.get("LC_ALL") or os.environ.get("LANG", ""),
    }


def _dump(value: object) -> str:
    return json.dumps(value, indent=2, default=str) + "\n"


def _readme(name: str, hidden: Hiding) -> str:
    unknown = [
        f"\nNot known, so only found by what they look like: {what}" for what in hidden.unknown
    ]
    return README.format(
        name=name, version=__version__, most=MOST_PART >> 10, count=hidden.count,
        when=time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        unknown=clean("".join(unknown)),
    )  # fmt: skip


def _archive(top: str, parts: dict[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        for name in sorted(parts):
            data = parts[name].encode(errors="replace")
            member = tarfile.TarInfo(f"{top}/{name}")
            member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
            archive.addfile(member, io.BytesIO(data))
    return packed.getvalue()
