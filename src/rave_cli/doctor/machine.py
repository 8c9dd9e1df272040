"""Examinations of what machines run on: QEMU, its accelerator, caps, ports, and what was left."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

from rave_cli.doctor.examination import Diagnosis, examination
from rave_cli.machines import leftovers as leaving
from rave_cli.machines import store
from rave_cli.machines.qemu import accelerator as accelerators
from rave_cli.machines.qemu import caps as limits
from rave_cli.machines.qemu import features, processes
from rave_cli.machines.spec import Machine

if TYPE_CHECKING:
    from collections.abc import Iterator


@examination("accelerator", "does KVM run guests here, and faster than emulation?")
def accelerator() -> Diagnosis:
    """Run the smallest guest under KVM and under TCG."""
    found = accelerators.detect(fresh=True)
    return Diagnosis(
        "ok" if found.kind == "kvm" else "warn",
        f"{found.kind}: {found.reason}",
        facts={"kind": found.kind, "seconds": dict(found.seconds),
               "kvmFeatures": list(found.kvm_features)},
    )  # fmt: skip


@examination("qemu", "has QEMU what machines are made of?")
def qemu() -> Diagnosis:
    """Start a QEMU without a machine and ask its monitor, in the sandbox that machines get."""
    found = features.ask()
    facts = {"version": found.version, "missing": list(found.missing), "extras": list(found.extras)}
    if found.missing:
        return Diagnosis(
            "fail", f"QEMU {found.version} lacks {', '.join(found.missing)}",
            advice="apt-get install --reinstall qemu-system-x86", facts=facts,
        )  # fmt: skip
    extras = f"; also {', '.join(found.extras)}" if found.extras else ""
    return Diagnosis("ok", f"QEMU {found.version} has all that machines need{extras}", facts=facts)


@examination("caps", "is QEMU kept within its memory and CPU?")
def caps() -> Diagnosis:
    """Ask for a manager of systemd that makes scopes."""
    why = limits.no_manager()
    if why is None:
        return Diagnosis("ok", "systemd caps memory, CPU and tasks of each QEMU")
    return Diagnosis("warn", f"{why}: only the guest's own memory size limits QEMU")


@examination("ports", "are the ports free that machines were given?")
def ports() -> Diagnosis:
    """Bind each fixed port of a machine that does not run; any other is chosen at its start."""
    among = processes.machines()
    machines = [found for found in store.list_machines(among) if isinstance(found, Machine)]
    stopped = [found for found in machines if processes.find(found, among) is None]
    asked = [(found.name, port) for found in stopped for port in _fixed(found)]
    taken = [f"{port} of machine {name}" for name, port in asked if not _free(port)]
    facts = {"fixed": len(asked), "taken": taken}
    if taken:
        return Diagnosis(
            "warn", f"another program has port {', '.join(taken)}, which will not start",
            advice="ss -ltnp   (who listens)", facts=facts,
        )  # fmt: skip
    if not _free(0):
        return Diagnosis("fail", "no port of 127.0.0.1 can be had at all", advice="ip address")
    return Diagnosis("ok", f"{len(asked)} fixed ports of stopped machines are free", facts=facts)


def _fixed(machine: Machine) -> Iterator[int]:
    yield from (forward.host for forward in machine.spec.forwards if forward.host)


def _free(port: int) -> bool:
    try:
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
    except OSError:
        return False
    return True


@examination("machines", "can the records of all machines be read?")
def machines() -> Diagnosis:
    """Read each machine's record."""
    found = store.list_machines()
    bad = [entry for entry in found if not isinstance(entry, Machine)]
    if bad:
        names = ", ".join(f"{entry.name} ({entry.state})" for entry in bad)
        return Diagnosis(
            "fail", f"not readable: {names}", advice=f"rave vm status {bad[0].name}"
        )  # fmt: skip
    return Diagnosis("ok", f"{len(found)} machines")


@examination("leftovers", "did dead machines or killed commands leave something?")
def leftovers() -> Diagnosis:
    """Find what `rave vm prune` would remove."""
    found = leaving.find(images=False)
    if not found:
        return Diagnosis("ok", "nothing is left over")
    size = sum(entry.size for entry in found)
    return Diagnosis(
        "warn",
        f"{len(found)} leftovers, {size / 2**20:.1f} MiB: {found[0].place} ({found[0].why})"
        + (" and others" if len(found) > 1 else ""),
        ("rave", "vm", "prune", "--yes"),
        facts={"count": len(found), "bytes": size},
    )
