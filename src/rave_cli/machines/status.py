"""What a machine is doing now, read from the world: its QEMU process, QEMU's monitor and what the
guest reported; never from a stored flag.
"""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.machines import causes, evidence, generations, runs, saved, store, underway
from rave_cli.machines.guest.stages import read_events
from rave_cli.machines.logfiles import last_lines
from rave_cli.machines.qemu import processes, usernet
from rave_cli.machines.qemu.argv import from_template
from rave_cli.machines.qemu.qmp import IO_ERROR, MonitorGoneError, Qmp, QmpError
from rave_cli.machines.store import Unreadable

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.machines.guest.stages import StageEvent
    from rave_cli.machines.spec import Machine
    from rave_cli.machines.states import State

# States of QEMU (RunState of its QMP reference) in which it only waits for somebody to go on.
RESUMABLE = ("paused", "postmigrate", IO_ERROR)

# A machine whose sockets are gone, as with XDG_RUNTIME_DIR after the last logout, still runs.
LOST = "its guest can still be reached (rave vm ssh {name}) and shut down (rave vm stop {name})"

_GO_ON = "go on: rave vm resume {name}"

# How many monitors are asked at once.
AT_ONCE = 16

# Seconds in which a healthy QEMU answers on its monitor, and after which one that was started has
# its monitor, wherever that was put.
MONITOR_ANSWERS = 2.0
QEMU_STARTS = 10.0


# What `Status.document` has, in its order.
FIELDS = (
    "name", "state", "detail", "stage", "profile", "base", "mode", "origin", "protected",
    "accelerator", "memoryMiB", "residentMiB", "proportionalMiB", "cpus", "cpuSeconds",
    "cpuPercent", "diskGiB", "dataDisk", "network", "publicOrigin", "pid", "uptime", "ports",
    "secrets", "boot", "image", "previousImage", "change", "directory",
)  # fmt: skip


@dataclass(frozen=True)
class Status:
    """What a machine is doing now.

    Attributes:
        machine: the machine.
        state: in one word.
        detail: why, where that is worth a line.
        process: its QEMU, if it runs.
        uptime: seconds since that was started.
        proportional_mib: what QEMU holds, with what is shared divided; None if not looked up.
        ports: guest port -> port of 127.0.0.1.
        stage: what the guest reported last in this boot.
        boot: the id of the guest's boot.
        secrets: what the guest said last of its secrets.
        previous_image: sha256 of the image that an update can be taken back to, if there is one.
        change: the update, rollback or migration that is under way, or was broken off.
    """

    machine: Machine
    state: State
    detail: str = ""
    process: processes.Process | None = None
    uptime: float | None = None
    proportional_mib: int | None = None
    ports: dict[int, int] | None = None
    stage: str | None = None
    boot: str | None = None
    secrets: str | None = None
    previous_image: str | None = None
    change: dict[str, object] | None = None

    @property
    def pid(self) -> int | None:
        """The pid of its QEMU, if it runs."""
        return self.process.pid if self.process is not None else None

    @property
    def resident_mib(self) -> int | None:
        """The MiB that its QEMU really holds, if it runs."""
        return self.process.resident_mib if self.process is not None else None

    @property
    def origin(self) -> str | None:
        """How the guest that runs began: `cold`, by a boot, `resumed`, from a saved memory, or
        `template`, from one of its own kind.
        """
        return None if self.process is None else began(self.process)

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        spec, process = self.machine.spec, self.process
        used = process.cpu_seconds if process is not None else None
        average = 100 * used / self.uptime if used is not None and self.uptime else None
        values = (
            spec.name, self.state, self.detail, self.stage, spec.profile, spec.base, spec.mode,
            self.origin, spec.protected,
            process.accelerator if process is not None else None,
            spec.memory_mib,
            self.resident_mib,
            self.proportional_mib, spec.cpus, _rounded(used), _rounded(average), spec.disk_gib,
            str(self.machine.data_disk) if spec.has_data else "none",
            spec.network, spec.public_origin,
            self.pid,
            _rounded(self.uptime),
            {str(guest): host for guest, host in sorted((self.ports or {}).items())},
            self.secrets, self.boot,
            {"sha256": spec.image.sha256, "storePath": spec.image.store_path},
            self.previous_image,
            self.change,
            str(self.machine.directory),
        )  # fmt: skip
        return dict(zip(FIELDS, values, strict=True))


def began(process: processes.Process) -> str:
    """Return how the guest of a QEMU began: `template`, `resumed` or `cold`."""
    if from_template(process.argv):
        return "template"
    return "resumed" if saved.INCOMING in pairwise(process.argv) else "cold"


def origin_of(machine: Machine) -> str:
    """Return how the guest of a machine began, with the digest of the template if it was from one;
    empty if it does not run.
    """
    process = processes.find(machine)
    if process is None:
        return ""
    how, template = began(process), machine.spec.template
    return f"template sha256:{template.digest}" if how == "template" and template else how


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def of(
    machine: Machine,
    among: Sequence[processes.Process] | None = None,
    *,
    thorough: bool = False,
) -> Status:
    """Return what a machine is doing now.

    Args:
        machine: the machine.
        among: what processes.machines found, for whoever asks about several.
        thorough: look up as well what takes long: how much of its memory QEMU shares.
    """
    found = _now(machine, among, thorough=thorough)
    kept = _kept(machine) if thorough else None
    change, text = _change(machine)
    if not text:
        return replace(found, previous_image=kept)
    detail = "; ".join(word for word in (text, found.detail) if word)
    return replace(found, previous_image=kept, change=change, detail=detail)


def _kept(machine: Machine) -> str | None:
    """Return the image that an update can be taken back to."""
    with suppress(RaveError):
        before = generations.previous(machine)
        return None if before is None else before.spec.image.sha256
    return None


def _change(machine: Machine) -> tuple[dict[str, object] | None, str]:
    """Return what is under way with a machine's system, and how that is told."""
    try:
        change = underway.read(machine)
    except RaveError as error:
        return None, error.message
    if change is None:
        return None, ""
    goes_on = underway.goes_on(machine.name)
    document = change.document | {"goesOn": goes_on}
    if goes_on:
        return document, f"{change.told} is under way ({change.step})"
    return document, (
        f"{change.told} was broken off {underway.DOING[change.step]}; rave vm start"
        f" {machine.name} puts it in order"
    )


def _now(machine: Machine, among: Sequence[processes.Process] | None, *, thorough: bool) -> Status:
    running = processes.find(machine, among)
    reports = read_events(machine.stage_file)
    if running is None and machine.suspended.is_dir():
        return Status(machine, "suspended", _GO_ON.format(name=machine.name))
    if running is None:
        return Status(machine, "stopped", _ended(machine, reports, among))
    state, detail, forwards = _asked(machine, running, reports)
    if machine.suspended.is_dir() and state in ("paused", "unresponsive", "starting"):
        # A command was killed between the saved memory and the end, or beginning, of this QEMU.
        state, detail = "suspended", _GO_ON.format(name=machine.name)
    if machine.restoring.exists():
        state = "starting"
        detail = f"a start from a template; if none is under way: rave vm start {machine.name}"
    state, detail = _explained(machine, state, detail)
    return Status(
        machine=machine,
        state=state,
        detail=detail,
        process=running,
        uptime=time.monotonic() - running.started,
        proportional_mib=processes.proportional_mib(running) if thorough else None,
        ports=forwards,
        stage=reports[-1].stage if reports else None,
        boot=reports[-1].boot if reports else None,
        secrets=reported_secrets(reports),
    )


def of_all() -> list[Status | Unreadable]:
    """Return what every machine is doing now, sorted by name: one look at the processes, and all
    monitors asked at once, so that one which does not answer holds up nothing else.
    """
    among = processes.machines()
    machines = store.list_machines(among)

    def look(entry: Machine | Unreadable) -> Status | Unreadable:
        return entry if isinstance(entry, Unreadable) else of(entry, among)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        return list(pool.map(look, machines))


def _ended(
    machine: Machine, reports: Sequence[StageEvent], among: Sequence[processes.Process] | None
) -> str:
    """Return what is to be said of a machine that does not run."""
    original = processes.find_original(machine, among)
    if original is not None:
        return f"a copy of the machine in {original.directory}, which runs"
    return runs.end_of(machine, in_order=judge(reports)[0] == "stopping")


def _explained(machine: Machine, state: State, detail: str) -> tuple[State, str]:
    """Return state and detail with the cause first, where the evidence shows one."""
    if state in ("starting", "running") and causes.panic(last_lines(machine.console_log, 1)):
        state = "failed"
    if state not in ("failed", "paused"):
        return state, detail
    found = causes.of(evidence.of(machine, ended=False, stays=True))
    if not found:
        return state, detail
    why, hint = found[0].why, found[0].hint
    return state, "; ".join(word for word in (why, "" if detail in why else detail, hint) if word)


def reported_secrets(reports: Sequence[StageEvent]) -> str | None:
    """Return what the guest said last of its secrets."""
    said = [report.secrets for report in reports if report.stage in ("services", "secrets")]
    return said[-1] if said else None


def _asked(
    machine: Machine, running: processes.Process, reports: Sequence[StageEvent]
) -> tuple[State, str, dict[int, int] | None]:
    """Return state, its detail and the ports as QEMU's monitor and the guest tell them."""
    try:
        with Qmp.connect(machine.qmp_socket, timeout=MONITOR_ANSWERS) as monitor:
            answer = monitor.execute("query-status", timeout=MONITOR_ANSWERS)
            forwards = usernet.forwards(monitor, machine, timeout=MONITOR_ANSWERS)
    except MonitorGoneError as error:
        if time.monotonic() - running.started < QEMU_STARTS:
            return "starting", "", None
        if judge(reports)[0] == "stopping":
            return "stopping", "its guest has shut down, and QEMU ends", None
        return "unresponsive", f"{error.message}; {LOST.format(name=machine.name)}", None
    except QmpError as error:
        return "unresponsive", error.message, None
    if not answer.get("running", False):
        why = str(answer.get("status", ""))
        if why in RESUMABLE:
            why += f"; go on: rave vm start {machine.name}"
        return "paused", why, forwards
    return (*judge(reports), forwards)


def _verdict(report: StageEvent) -> tuple[State, str]:
    """Return the state of a machine whose guest tells of its services."""
    if broken := report.failed_services:
        return "failed", f"failed: {', '.join(broken)}"
    coming = report.starting_services
    return "running", f"starting: {', '.join(coming)}" if coming else ""


def judge(reports: Sequence[StageEvent]) -> tuple[State, str]:
    """Return the state of a machine whose QEMU runs, from what its guest reported in this boot."""
    state: tuple[State, str] = ("starting", "")
    for report in reports:
        if report.stage == "failed":
            state = ("failed", report.reason)
        if report.stage == "stopping":
            state = ("stopping", "the guest shuts down or starts anew")
        if report.stage == "services":
            state = _verdict(report)
    return state
