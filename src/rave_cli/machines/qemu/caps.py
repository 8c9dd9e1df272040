"""The cap around a QEMU process: a transient systemd scope, where a systemd manager runs.

Without one the guest's own memory size is the only limit, and the caller is told so.
"""

from __future__ import annotations

import getpass
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import paths, process

if TYPE_CHECKING:
    from rave_cli.machines.qemu.program import Kind
    from rave_cli.machines.spec import MachineSpec

# MiB that QEMU itself may need on top of the guest's memory. With the demo guest under TCG, all of
# its 2048 MiB touched, QEMU 7.2 held 2371 MiB when TCG's translation cache was 256: 67 besides.
OVERHEAD: dict[Kind, int] = {"kvm": 256, "tcg": 768}

# QEMU's main, vCPU and I/O threads; its I/O pool alone may grow to 64.
TASKS = 256

# MiB that a program beside QEMU may need: Python with hardly a module has 9.
BESIDE = 64


LINGER = Path("/var/lib/systemd/linger")
LINGER_NOTE = "the machine ends with your last login session; to keep it: loginctl enable-linger"


@dataclass(frozen=True)
class Cap:
    """What goes before QEMU's argv, what to tell the user if that is nothing, and what goes before
    the argv of a small program that must live as long as QEMU.
    """

    prefix: tuple[str, ...]
    note: str
    beside: tuple[str, ...] = ()


def memory_ceiling(spec: MachineSpec, kind: Kind) -> int:
    """Return the MiB that the whole QEMU process may use."""
    return spec.memory_mib + OVERHEAD[kind]


def scope_argv(spec: MachineSpec, kind: Kind, *, user: bool) -> tuple[str, ...]:
    """Return the command that runs what follows it in a scope of its own (systemd-run(1)).

    One processor's worth beyond the guest's CPUs is left for QEMU's own threads.
    """
    return (
        "systemd-run",
        *(("--user",) if user else ()),
        "--scope",
        "--quiet",
        "--collect",
        "--description", f"rave machine {spec.name}",
        "-p", f"MemoryMax={memory_ceiling(spec, kind)}M",
        "-p", "MemorySwapMax=0",
        "-p", f"CPUQuota={(spec.cpus + 1) * 100}%",
        "-p", f"TasksMax={TASKS}",
        "--",
    )  # fmt: skip


def beside_argv(spec: MachineSpec, *, user: bool) -> tuple[str, ...]:
    """Return the command that runs a small program in a scope of its own: one that the end of the
    session does not end before QEMU.
    """
    return (
        "systemd-run",
        *(("--user",) if user else ()),
        "--scope",
        "--quiet",
        "--collect",
        "--description", f"logs of rave machine {spec.name}",
        "-p", f"MemoryMax={BESIDE}M",
        "--",
    )  # fmt: skip


def choose(spec: MachineSpec, kind: Kind) -> Cap:
    """Return the cap this host can give, found out by giving it to `true`."""
    user = os.getuid() != 0
    why = no_manager()
    if why is None:
        prefix = scope_argv(spec, kind, user=user)
        done = process.run((*prefix, "true"), timeout=10)
        if done.ok:
            note = LINGER_NOTE if user and not _lingers() else ""
            return Cap(prefix, note, beside_argv(spec, user=user))
        why = f"systemd-run refused: {' '.join(done.tail(1))}"
    return Cap((), f"no cap around QEMU ({why}); the guest's {spec.memory_mib} MiB still hold")


def _lingers() -> bool:
    """Return whether the user's manager outlives the last login session (loginctl(1))."""
    return (LINGER / getpass.getuser()).exists()


def no_manager() -> str | None:
    """Return why there is no systemd manager to ask for a cap, or None if there is one."""
    if process.find("systemd-run") is None:
        return "systemd-run is not on PATH"
    if os.getuid() == 0:
        return None if Path("/run/systemd/system").is_dir() else "systemd does not run here"
    if not (paths.session_dir() / "systemd/private").exists():
        return "no systemd user manager runs for you"
    return None
