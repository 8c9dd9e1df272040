"""How a machine that is ready reads for people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.machines.qemu.argv import pretty

if TYPE_CHECKING:
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.show import Show


def show_ready(show: Show, ready: Ready) -> None:
    """Print how to reach a machine that is ready."""
    show.note(f"{ready.accelerator.kind}: {ready.accelerator.reason}")
    show.result(ready.document, *ready_lines(ready, secrets=ready.secrets))
    if ready.secrets != "installed":
        show.note(f"next: rave secrets install {ready.machine.name}")


def show_command(show: Show, argv: tuple[str, ...]) -> None:
    """Print what `start` would run, one option and its value per line."""
    show.result({"argv": list(argv)}, *pretty(argv).splitlines())


def ready_lines(ready: Ready, *, secrets: str) -> list[str]:
    """Return how to reach a machine that is ready, for people."""
    name = ready.machine.name
    when = "was running already" if ready.joined else f"is ready after {ready.seconds:.1f} s"
    lines = [f"machine {name} {when}", f"  ssh          rave vm ssh {name}"]
    if ready.status_port is not None:
        lines += [f"  status page  https://127.0.0.1:{ready.status_port}/"]
    return [*lines, f"  secrets      {secrets}"]


def snapshot_line(document: dict[str, object]) -> str:
    """Return how a snapshot reads for people."""
    what = "running" if document["running"] else "stopped"
    sizes = f"disk {document['diskMiB']} MiB, memory {document['memoryMiB']} MiB"
    return f"{document['name']}  {document['since']}  {what}  {sizes}"


def plain(value: object) -> str:
    """Return a value of a document as people read it."""
    if isinstance(value, dict):
        return " ".join(f"{key}={plain(entry)}" for key, entry in value.items())
    return "" if value is None else str(value)
