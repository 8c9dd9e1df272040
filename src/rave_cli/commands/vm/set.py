"""`rave vm set`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("set")
@machine_argument
@click.option("--memory", type=int, metavar="MIB", help="Memory; only while it is stopped.")
@click.option("--cpus", type=int, metavar="N", help="CPUs; only while it is stopped.")
@click.option(
    "--disk", type=int, metavar="GIB", help="Size of the disk (of its data), which never shrinks."
)
@json_option
@pass_app
@audited
def set_(app: App, name: str, memory: int | None, cpus: int | None, disk: int | None) -> None:
    """Change the sizes of a machine. Its file system grows with its disk.

    A running guest takes a larger disk at once, if it can; else at its next start.

    \b
    Example: rave vm set demo --memory 3072 --cpus 2
    Example: rave vm set demo --disk 20
    """
    from rave_cli.machines import changes

    if memory is None and cpus is None and disk is None:
        raise click.UsageError("Give --memory, --cpus or --disk.")
    done = changes.resize(name, memory_mib=memory, cpus=cpus, disk_gib=disk)
    spec = done.machine.spec
    document = {
        "name": name,
        "memoryMiB": spec.memory_mib,
        "cpus": spec.cpus,
        "diskGiB": spec.disk_gib,
        "fileSystem": None
        if done.grown is None
        else "grown"
        if done.grown
        else "at the next start",
    }
    if done.grown is False:
        app.show.note(f"the file system of {name} grows at its next start")
    app.show.result(
        document, f"{name}: {spec.memory_mib} MiB, {spec.cpus} CPUs, disk {spec.disk_gib} GiB"
    )
