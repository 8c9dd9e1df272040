"""What this host's QEMU can do, asked of a QEMU without a machine through its monitor."""

from __future__ import annotations

import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_cli import paths, process
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.qemu.argv import SANDBOX
from rave_cli.machines.qemu.program import QEMU
from rave_cli.machines.qemu.qmp import MonitorGoneError, Qmp, QmpError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# Seconds in which QEMU opens its monitor, and in which it answers there.
OPENS = 10.0
ANSWERS = 5.0

# What a machine is made of (argv.py), by the name of its type in QEMU's object model.
DEVICES = (
    "virtio-blk-pci", "virtio-net-pci", "virtio-rng-pci", "virtio-balloon-pci",
    "virtio-serial-pci", "virtserialport",
)  # fmt: skip
CHARDEVS = ("pipe", "file", "socket")
MACHINE = "q35"

# What makes some things faster or possible, where it is there: capabilities of migration.
EXTRAS = ("mapped-ram", "x-ignore-shared", "background-snapshot")


@dataclass(frozen=True)
class Features:
    """What QEMU has. `missing` is what a machine cannot be without; `extras` is what it may use."""

    version: str
    missing: tuple[str, ...]
    extras: tuple[str, ...]


def ask() -> Features:
    """Return what this host's QEMU has.

    Raises:
        RaveError: HOST if it is missing, does not start in the sandbox that machines get, or does
            not answer.
    """
    process.require(QEMU)
    paths.private_dir(paths.runtime_dir())
    with tempfile.TemporaryDirectory(prefix="qemu-", dir=paths.runtime_dir()) as folder:
        monitor = Path(folder) / "qmp"
        argv = (
            QEMU,
            "-nodefaults",
            "-no-user-config",
            "-display", "none",
            "-machine", "none",
            "-sandbox", SANDBOX,
            "-chardev", f"socket,id=qmp,path={monitor},server=on,wait=off",
            "-mon", "chardev=qmp,mode=control",
        )  # fmt: skip
        with (
            process.spawn(argv, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as child,
            _connected(monitor, child) as client,
        ):
            return read(_Answers(client))


def _connected(monitor: Path, child: subprocess.Popen[bytes]) -> Qmp:
    """Connect as soon as QEMU listens.

    Raises:
        RaveError: HOST if it ends or never does.
    """
    until = time.monotonic() + OPENS
    while time.monotonic() < until and child.poll() is None:
        try:
            return Qmp.connect(monitor, timeout=ANSWERS)
        except MonitorGoneError:
            time.sleep(0.01)
    said = child.stderr.read(4096) if child.poll() is not None and child.stderr else b""
    why = said.decode(errors="replace").strip() or f"it opened no monitor within {OPENS:g} s"
    raise RaveError(
        f"QEMU does not start without a machine: {why}",
        hint="apt-get install --reinstall qemu-system-x86",
        exit_code=ExitCode.HOST,
    )


class _Answers:
    """What QEMU answers; each question is asked once."""

    def __init__(self, client: Qmp) -> None:
        self._client = client

    def ask(self, command: str, **arguments: object) -> Any:  # noqa: ANN401 - as the QMP schema says
        return self._client.execute(command, timeout=ANSWERS, **arguments)

    def refuses(self, command: str, **arguments: object) -> bool:
        """Return whether QEMU refuses a command."""
        try:
            self.ask(command, **arguments)
        except QmpError:
            return True
        return False


def read(qemu: _Answers) -> Features:
    """Ask QEMU for everything and return what it has."""
    version = qemu.ask("query-version")["qemu"]
    migration = {entry["capability"] for entry in qemu.ask("query-migrate-capabilities")}
    return Features(
        version=f"{version['major']}.{version['minor']}.{version['micro']}",
        missing=tuple(_missing(qemu)),
        extras=tuple(name for name in EXTRAS if name in migration),
    )


def _missing(qemu: _Answers) -> Iterator[str]:
    types = _names(qemu.ask("qom-list-types", abstract=False))
    yield from (f"the device {name}" for name in DEVICES if name not in types)
    machines: list[Mapping[str, Any]] = qemu.ask("query-machines")
    if not any(MACHINE in (entry.get("alias"), entry["name"]) for entry in machines):
        yield f"the machine {MACHINE}"
    backends = _names(qemu.ask("query-chardev-backends"))
    yield from (f"the chardev {name}" for name in CHARDEVS if name not in backends)
    # Nothing lists the network backends that were compiled in.
    if qemu.refuses("netdev_add", type="user", id="tried"):
        yield "the user network (libslirp)"


def _names(entries: list[Mapping[str, Any]]) -> set[str]:
    return {str(entry["name"]) for entry in entries}
