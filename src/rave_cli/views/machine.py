"""How a machine that is ready reads for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rave_cli.machines.qemu.argv import pretty

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.qemu.stop import StopReport
    from rave_cli.show import Show


def show_ready(show: Show, ready: Ready) -> None:
    """Print how to reach a machine that is ready."""
    note_ready(show, ready)
    show.result(ready.document, *ready_lines(ready, secrets=ready.secrets))


def note_ready(show: Show, ready: Ready) -> None:
    """Say what runs a machine that is ready, and what it may want next."""
    show.note(f"{ready.accelerator.kind}: {ready.accelerator.reason}")
    if ready.secrets != "installed":
        show.note(f"next: rave secrets install {ready.machine.name}")


def show_command(show: Show, argv: tuple[str, ...]) -> None:
    """Print what `start` would run, one option and its value per line."""
    show.result({"argv": list(argv)}, *command_lines(argv))


def command_lines(argv: tuple[str, ...]) -> list[str]:
    """Return a command for people, one option and its value per line."""
    return pretty(argv).splitlines()


def stopped_line(name: str, report: StopReport) -> str:
    """Return how a machine was stopped, for people."""
    if report.rung == "not-running":
        return f"{name} was not running"
    return f"{name} stopped by {report.rung} after {report.seconds:.1f} s"


def ready_lines(ready: Ready, *, secrets: str) -> list[str]:
    """Return how to reach a machine that is ready, for people."""
    name = ready.machine.name
    when = "was running already" if ready.joined else f"is ready after {ready.seconds:.1f} s"
    if not (ready.joined or ready.whole):
        when = (
            f"answers after {ready.seconds:.1f} s, its services come up meanwhile: rave vm wait"
            f" {name}"
        )
    lines = [f"machine {name} {when}", f"  ssh          rave vm ssh {name}"]
    if ready.status_port is not None:
        lines += [f"  status page  https://127.0.0.1:{ready.status_port}/"]
    return [*lines, f"  secrets      {secrets}"]


def snapshot_line(document: dict[str, object]) -> str:
    """Return how a snapshot reads for people."""
    what = "running" if document["running"] else "stopped"
    told = {"disk": "diskMiB", "data": "dataMiB", "memory": "memoryMiB"}
    sizes = ", ".join(f"{what} {document[member]} MiB" for what, member in told.items())
    return f"{document['name']}  {document['since']}  {what}  {sizes}"


def template_line(document: dict[str, Any]) -> str:
    """Return how a template reads for people."""
    what = f"{document['profile']}/{document['base']}, {document['accelerator']}"
    size = f"{document['bytes'] >> 20} MiB"
    return f"{document['name']}  {document['since']}  {what}  {size}  {document['digest'][:12]}"


def machine_rows(documents: Sequence[dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return the rows of the table of machines."""
    return [tuple(cell(found) for cell in COLUMNS.values()) for found in documents]


def status_rows(document: dict[str, Any]) -> list[tuple[str, str]]:
    """Return what there is to say of one machine, a line for each."""
    return [
        (key, plain(value)) for key, value in document.items() if value not in (None, "", {}, False)
    ]


def duration(seconds: float | None) -> str:
    """Return seconds as people read them: 42s, 3m07s, 2h05m, 3d04h."""
    if seconds is None:
        return ""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    if days:
        return f"{days}d{hours:02}h"
    if hours:
        return f"{hours}h{minutes:02}m"
    return f"{minutes}m{rest:02}s" if minutes else f"{rest}s"


def _memory(found: dict[str, Any]) -> str:
    if "memoryMiB" not in found:
        return ""
    used = found.get("residentMiB")
    return f"{'-' if used is None else used}/{found['memoryMiB']}"


def plain(value: object) -> str:
    """Return a value of a document as people read it."""
    if isinstance(value, dict):
        return " ".join(f"{key}={plain(entry)}" for key, entry in value.items())
    return "" if value is None else str(value)


# The heads of the table of machines, each with what stands below it.
COLUMNS: dict[str, Callable[[dict[str, Any]], str]] = {
    "name": lambda found: found["name"],
    "state": lambda found: found["state"],
    "stage": lambda found: plain(found.get("stage")),
    "image": lambda found: f"{found['profile']}/{found['base']}" if "base" in found else "",
    "mode": lambda found: plain(found.get("mode")),
    "origin": lambda found: plain(found.get("origin")),
    "accel": lambda found: plain(found.get("accelerator")),
    "MiB used/of": _memory,
    "cpu s": lambda found: plain(found.get("cpuSeconds")),
    "cpu %": lambda found: plain(found.get("cpuPercent")),
    "uptime": lambda found: duration(found.get("uptime")),
    "ports": lambda found: plain(found.get("ports")),
    "detail": lambda found: plain(found.get("detail")),
}
