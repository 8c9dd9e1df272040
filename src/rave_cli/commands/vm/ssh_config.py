"""`rave vm ssh-config`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.options import complete_machine, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine
    from rave_cli.options import App


@click.command("ssh-config")
@click.argument("names", metavar="[NAME]...", nargs=-1, shell_complete=complete_machine)
@click.option("--all", "every", is_flag=True, help="All machines that run.")
@json_option
@pass_app
def ssh_config(app: App, names: tuple[str, ...], *, every: bool) -> None:
    """Print how OpenSSH reaches machines, for editors, ansible and other programs.

    A machine gets a new port with each start, so print it anew after one. Put `Include` with the
    file's name at the top of ~/.ssh/config, or give it to a program with -F.

    \b
    Example: rave vm ssh-config demo >demo.conf && ssh -F demo.conf demo uptime
    """
    from rave_cli.machines import store
    from rave_cli.machines.guest.ssh import openssh_config
    from rave_cli.machines.qemu import ports

    if bool(names) == every:
        raise click.UsageError("Name machines, or say --all.")
    machines = _running() if every else [store.load(name) for name in dict.fromkeys(names)]
    configs = {machine.name: openssh_config(machine, ports.ssh(machine)) for machine in machines}
    if not configs:
        app.show.note("no machine runs; start one: rave vm start NAME")
    app.show.result(configs, *("\n".join(configs.values()).splitlines()))


def _running() -> list[Machine]:
    from rave_cli.machines import store
    from rave_cli.machines.qemu import processes
    from rave_cli.machines.spec import Machine

    entries = store.list_machines()
    return [entry for entry in entries if isinstance(entry, Machine) and processes.find(entry)]
