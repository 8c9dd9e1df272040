"""Why a machine does not come up: evidence in, causes out, the likeliest first. Pure.

Each cause says what is wrong and which command mends it; none of them loses data. What the guest
says of itself counts before what QEMU and the host show of it, and a console's lines come last.
"""

from __future__ import annotations

import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.machines.guest.readiness import FATAL_CONSOLE
from rave_cli.machines.guest.symptoms import Symptoms
from rave_cli.machines.qemu.qmp import INTERNAL_ERROR, IO_ERROR

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_cli.machines.guest.stages import StageEvent
    from rave_cli.machines.guest.symptoms import FailedUnit
    from rave_cli.machines.spec import MachineSpec

MIB = 1 << 20

# Bytes below which a disk counts as full: PostgreSQL needs 16 MiB for its next segment; journald
# and QEMU take some MiB at a time.
FULL = 32 * MIB

# Files that can still be made, below which the inodes count as used up.
FEW_INODES = 64

# GiB by which a full disk is proposed to grow.
GROWTH_GIB = 8

UNIT_FAILED = "unit-failed"
LOCKED_UP = "guest-locked-up"

# Causes that a guest tells of itself, beside which its console has nothing to say.
TOLD = ("guest-disk-full", "guest-inodes-used", "guest-read-only", "guest-out-of-memory")

# Lines of a console that are shown, that tell of now, and that are read.
SHOWN, RECENT, READ = 8, 30, 120

_PANIC = re.compile(r"Kernel panic - not syncing:? ?(.*)")
_PANIC_BEGIN = re.compile(r"(?<!end )Kernel panic - not syncing")
# Printed as the last line of all by Linux' panic(): whatever runs prints no more.
_PANIC_END = re.compile(r"---\[ end Kernel panic - not syncing:? ?(.*?) ?\]---")
# Of QEMU's accel/kvm: what it says when KVM does not run the guest.
_KVM = re.compile(
    r"[Ff]ailed to initialize kvm|KVM: entry failed|KVM internal error|kvm run failed"
)
_NO_SPACE, _NO_MEMORY = "No space left on device", "Cannot allocate memory"
# Of the kernel's watchdog: a task has kept a processor for that long without letting go of it.
_LOCKUP = re.compile(r"watchdog: BUG: soft lockup - (CPU#\d+ stuck for \d+s)!")
_KILLED = re.compile(r"Killed process \d+ \(([^)]*)\)")


@dataclass(frozen=True)
class Cause:
    """A known cause: a code word for programs, what is wrong, and the command that mends it."""

    name: str
    why: str
    hint: str


@dataclass(frozen=True)
class Evidence:
    """What can be seen of a machine that does not come up.

    Attributes:
        spec: the machine's specification.
        directory: where its disk lies on the host.
        reports: what the guest reported in this boot.
        console: the last lines of its console.
        qemu: the last lines of QEMU itself.
        run_state: QEMU's own state, None if it cannot be asked.
        ended: whether QEMU has ended.
        returncode: how it ended, as subprocess says it; None if nobody knows.
        host_kills: processes that the host's kernel killed for lack of memory meanwhile.
        host_free: bytes that are free where the disk lies; None if unknown.
        stays: whether the machine goes on running.
        fault: what whoever watches this boot saw go wrong; empty if nobody does.
    """

    spec: MachineSpec
    directory: str
    reports: tuple[StageEvent, ...] = ()
    console: tuple[str, ...] = ()
    qemu: tuple[str, ...] = ()
    run_state: str | None = None
    ended: bool = False
    returncode: int | None = None
    host_kills: int = 0
    host_free: int | None = None
    stays: bool = False
    fault: str = ""

    @property
    def name(self) -> str:
        """The machine's name."""
        return self.spec.name

    @property
    def symptoms(self) -> Symptoms:
        """What the guest saw of itself at its last verdict on its services."""
        told = [report.symptoms for report in self.reports if report.stage == "services"]
        return (told[-1] if told else None) or Symptoms()

    @property
    def way_in(self) -> str:
        """The commands that lead into the machine as it is."""
        into = f"rave vm ssh {self.name}"
        return into if self.stays else f"rave vm start {self.name} --keep-running, then {into}"


def of(evidence: Evidence) -> list[Cause]:
    """Return the causes that the evidence shows, the one that explains the others first."""
    return [cause for look in _LOOKS if (cause := look(evidence)) is not None]


def words(evidence: Evidence, causes: Sequence[Cause]) -> tuple[str, ...]:
    """Return the lines that help to understand causes: the others, then the last words of what
    failed; those of QEMU and of the console where the guest itself did not say what is wrong.
    """
    # The last words of units tell more of them than that they failed.
    also = [f"also: {cause.why}" for cause in causes[1:] if cause.name != UNIT_FAILED]
    units = [f"{unit.name}: {said}" for unit in evidence.symptoms.units for said in unit.said]
    if units or any(cause.name in TOLD for cause in causes):
        return (*also, *units)
    qemu = [f"qemu: {line}" for line in folded(evidence.qemu)[-SHOWN:]]
    console = [f"console: {line}" for line in folded(_told(evidence.console))[-SHOWN:]]
    return (*also, *qemu, *console)


def _told(console: Sequence[str]) -> Sequence[str]:
    """Return the lines of a console up to a panic: registers and addresses follow it."""
    ends = [number for number, line in enumerate(console, 1) if _PANIC_BEGIN.search(line)]
    return console[: ends[-1]] if ends else console


def folded(lines: Sequence[str]) -> list[str]:
    """Return lines with those that say the same told once, where they were last said; times,
    numbers and addresses make no difference.
    """
    last: dict[str, str] = {}
    counts: dict[str, int] = {}
    for line in lines:
        kind = re.sub(r"0x[0-9a-f]+|\d+", "#", line)
        counts[kind] = counts.get(kind, 0) + 1
        last.pop(kind, None)
        last[kind] = line
    return [
        line if counts[kind] == 1 else f"{line} (… {counts[kind] - 1} more like it)"
        for kind, line in last.items()
    ]


def panic(console: Sequence[str]) -> str | None:
    """Return why a guest's kernel has panicked, None if its console does not end with that."""
    found = _PANIC_END.search(console[-1]) if console else None
    return found[1] if found else None


# --- the host ------------------------------------------------------------------------------------


def _host_disk_full(evidence: Evidence) -> Cause | None:
    said = any(_NO_SPACE in line for line in evidence.qemu)
    if evidence.run_state != IO_ERROR and not said:
        return None
    free, place = evidence.host_free, evidence.directory
    if not said and (free is None or free >= FULL):
        return Cause(
            "host-disk-error",
            f"QEMU stopped the machine because its disk in {place} could not be read or written",
            f"dmesg tells what the host's disk has; then rave vm start {evidence.name} goes on",
        )
    left = "" if free is None else f" ({free // MIB} MiB left)"
    return Cause(
        "host-disk-full",
        f"the host's disk is full{left}: QEMU could not write to {place}",
        f"df -h {place} shows the disk; free some of it, then rave vm start {evidence.name}",
    )


def _qemu_killed(evidence: Evidence) -> Cause | None:
    if not evidence.ended or evidence.returncode not in (None, 1, -signal.SIGKILL):
        return None
    refused = any(_NO_MEMORY in line for line in evidence.qemu)
    if refused or (evidence.host_kills and evidence.returncode != 1):
        return Cause(
            "host-out-of-memory",
            f"the host ran out of memory, its own or what QEMU's cap allows, and its kernel"
            f" {'refused QEMU more' if refused else 'killed QEMU'}",
            "rave vm list shows what runs; stop a machine, or give this one less: rave vm set"
            f" {evidence.name} --memory {max(512, evidence.spec.memory_mib // 2)}",
        )
    if evidence.returncode != -signal.SIGKILL:
        return None
    return Cause(
        "qemu-killed",
        "somebody killed QEMU (SIGKILL); the host's kernel did not, it had memory",
        f"rave vm start {evidence.name}",
    )


def _kvm_failed(evidence: Evidence) -> Cause | None:
    said = [line for line in evidence.qemu if _KVM.search(line)]
    if not said and evidence.run_state != INTERNAL_ERROR:
        return None
    why = f": {said[-1]}" if said else ""
    return Cause("kvm-failed", f"KVM does not run the guest{why}", "rave doctor accelerator")


# --- the guest as a whole ------------------------------------------------------------------------


def _kernel_panic(evidence: Evidence) -> Cause | None:
    why = panic(evidence.console)
    if why is None and (seen := _PANIC.search(evidence.fault)):
        # Who watched it saw it in this boot; a guest of ours starts anew a second later.
        why = seen[1]
    if why is None:
        found = [m[1] for line in evidence.console if (m := _PANIC.search(line))]
        # A guest that reports has outlived whatever an earlier boot printed.
        why = found[-1] if found and not evidence.reports else None
    if why is None:
        return None
    again = f"rave vm stop {evidence.name}; rave vm start {evidence.name}"
    return Cause(
        "guest-kernel-panic",
        f"the guest's kernel panicked: {why}" if why else "the guest's kernel panicked",
        f"rave vm logs {evidence.name} shows what came before; a new boot: "
        + (again if evidence.stays else f"rave vm start {evidence.name}"),
    )


def _guest_disk_full(evidence: Evidence) -> Cause | None:
    free, size = evidence.symptoms.free, evidence.symptoms.size
    if free is None or free >= FULL:
        return None
    whole = f" of {size // MIB} MiB" if size else ""
    left = f"({free // MIB}{whole} left)"
    if evidence.spec.has_data and evidence.symptoms.disk == "/":
        # What grows is the other one.
        return Cause(
            "guest-disk-full",
            f"the disk of the guest's system is full {left}",
            f"look what fills it: {evidence.way_in} -- sudo du -xhd3 /",
        )
    return Cause(
        "guest-disk-full",
        f"the guest's disk is full {left}",
        f"grow it: rave vm set {evidence.name} --disk {evidence.spec.disk_gib + GROWTH_GIB};"
        f" rave vm start {evidence.name}; or look what fills it: {evidence.way_in}",
    )


def _guest_inodes_used(evidence: Evidence) -> Cause | None:
    free = evidence.symptoms.free_inodes
    if free is None or free >= FEW_INODES:
        return None
    return Cause(
        "guest-inodes-used",
        f"the guest's disk holds as many files as it can ({free} more)",
        f"delete some: {evidence.way_in} -- du --inodes -xd3 / shows where they are",
    )


def _guest_read_only(evidence: Evidence) -> Cause | None:
    if not evidence.symptoms.read_only:
        return None
    return Cause(
        "guest-read-only",
        "the guest's file system is read-only, which it becomes after an error",
        f"look at it before anything else: {evidence.way_in} -- sudo journalctl -k -p err;"
        f" and keep copies: cp {evidence.directory}/*.qcow2 ELSEWHERE",
    )


def _guest_out_of_memory(evidence: Evidence) -> Cause | None:
    symptoms = evidence.symptoms
    hit = [unit.name for unit in symptoms.units if unit.result == "oom-kill"]
    killed = [m[1] for line in symptoms.kernel if (m := _KILLED.search(line))]
    if not hit and not symptoms.oom_kills:
        return None
    whom = ", ".join(hit or dict.fromkeys(killed)) or f"{symptoms.oom_kills} processes"
    stop = f"rave vm stop {evidence.name}; " if evidence.stays else ""
    return Cause(
        "guest-out-of-memory",
        f"the guest, or a service within its cap, ran out of memory: its kernel killed {whom}",
        f"give it more: {stop}rave vm set {evidence.name} --memory"
        f" {evidence.spec.memory_mib + 1024}; rave vm start {evidence.name}; or look what takes it:"
        f" {evidence.way_in}",
    )


def _emergency(evidence: Evidence) -> Cause | None:
    reports = [report for report in evidence.reports if report.stage == "failed"]
    if reports:
        units = ", ".join(reports[-1].units)
        why = (
            f"the guest is in emergency mode, because {units} failed"
            if units
            else f"the guest gave up: {reports[-1].reason or 'it does not say why'}"
        )
    elif (found := _emergency_on(evidence.console[-RECENT:])) is not None:
        why = found
    else:
        return None
    hint = f"rave vm logs {evidence.name} has its last words"
    if evidence.spec.base == "debian":
        # There emergency mode wants the SSH server; root is locked on the console of either base.
        hint = f"mend it from inside: {evidence.way_in}; {hint}"
    return Cause("guest-emergency", why, hint)


def _emergency_on(console: Sequence[str]) -> str | None:
    """Return what a console means that ends in an emergency: that of an initrd, or of a guest that
    is none of ours.
    """
    text = "\n".join(console).encode()
    return next((meaning for said, meaning in FATAL_CONSOLE[1:] if said.search(text)), None)


# --- within the guest ----------------------------------------------------------------------------


def _secrets_failed(evidence: Evidence) -> Cause | None:
    told = [report.secrets for report in evidence.reports if report.stage in _TELL_SECRETS]
    if not told or told[-1] != "failed":
        return None
    units = [unit for unit in evidence.symptoms.units if unit.name in SECRETS_UNITS]
    return Cause(
        "secrets-failed",
        f"the guest could not put its secrets in force{_said(units)}",
        f"rave secrets install {evidence.name}",
    )


_TELL_SECRETS = ("services", "secrets")
SECRETS_UNITS = ("rave-secrets.service", "sops-install-secrets.service")


def _unit_failed(evidence: Evidence) -> Cause | None:
    units = [unit for unit in evidence.symptoms.units if unit.name not in SECRETS_UNITS]
    if not units:
        return None
    # What another took down with it has nothing to say of its own.
    first = max(units, key=lambda unit: bool(unit.said))
    again = f", started again {first.restarts} times," if first.restarts else ""
    result = f" ({first.result})" if first.result not in ("", "success") else ""
    return Cause(
        UNIT_FAILED,
        f"{first.name}{again} failed{result}{_said([first])}",
        f"{evidence.way_in} -- sudo journalctl -b -u {first.name}",
    )


def _said(units: Sequence[FailedUnit]) -> str:
    lines = [unit.said[-1] for unit in units if unit.said]
    return f": {lines[-1]}" if lines else ""


def _locked_up(evidence: Evidence) -> Cause | None:
    """A boot that goes no further while its kernel says that a processor is stuck, as one says
    that gets too little of the host's. One that goes on all the same may have said it, too.
    """
    found = [m[1] for line in evidence.console[-RECENT:] if (m := _LOCKUP.search(line))]
    if not found or not evidence.fault:
        return None
    why = f"its kernel says {found[-1]}: too little time from the host, or QEMU (before 8.1) hangs"
    return Cause(LOCKED_UP, why, f"uptime; rave vm start {evidence.name}")


# In the order in which one explains the other.
_LOOKS: tuple[Callable[[Evidence], Cause | None], ...] = (
    _host_disk_full,
    _qemu_killed,
    _kvm_failed,
    _kernel_panic,
    _guest_read_only,
    _guest_disk_full,
    _guest_inodes_used,
    _emergency,
    _guest_out_of_memory,
    _secrets_failed,
    _unit_failed,
    _locked_up,
)
