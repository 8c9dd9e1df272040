"""`rave vm`: images and machines, a file per verb."""

from __future__ import annotations

import click

from rave_cli.lazy import CONTEXT, Lazy, LazyGroup


@click.group(
    cls=LazyGroup,
    context_settings=CONTEXT,
    lazy={
        "list-profiles": Lazy(
            "rave_cli.commands.vm.list_profiles:list_profiles", "The profiles of the flake."
        ),
        "build-image": Lazy(
            "rave_cli.commands.vm.build_image:build_image", "Build a profile's image."
        ),
        "lock-closure": Lazy(
            "rave_cli.commands.vm.lock_closure:lock_closure", "Lock a profile's Debian packages."
        ),
        "launch-local": Lazy(
            "rave_cli.commands.vm.launch_local:launch_local", "Create and start a machine."
        ),
        "create": Lazy("rave_cli.commands.vm.create:create", "Make a machine from an image."),
        "start": Lazy(
            "rave_cli.commands.vm.start:start", "Start machines and wait until they are ready."
        ),
        "stop": Lazy("rave_cli.commands.vm.stop:stop", "Stop machines."),
        "restart": Lazy("rave_cli.commands.vm.restart:restart", "Stop machines and start them."),
        "suspend": Lazy("rave_cli.commands.vm.suspend:suspend", "Save machines to disk."),
        "resume": Lazy("rave_cli.commands.vm.resume:resume", "Let suspended machines go on."),
        "wait": Lazy("rave_cli.commands.vm.wait:wait", "Wait for a stage or state of a machine."),
        "status": Lazy("rave_cli.commands.vm.status:status", "What machines are doing."),
        "watch": Lazy("rave_cli.commands.vm.watch:watch", "Each change of what machines do."),
        "list": Lazy("rave_cli.commands.vm.list:list_", "All machines."),
        "ssh": Lazy("rave_cli.commands.vm.ssh:ssh", "Log in to a machine."),
        "ssh-config": Lazy(
            "rave_cli.commands.vm.ssh_config:ssh_config", "How OpenSSH reaches machines."
        ),
        "exec": Lazy("rave_cli.commands.vm.exec:exec_", "Run one command in a machine."),
        "cp": Lazy("rave_cli.commands.vm.cp:cp", "Copy files into a machine or out of it."),
        "forward": Lazy(
            "rave_cli.commands.vm.forward:forward", "Ports of this host that lead into a machine."
        ),
        "open": Lazy("rave_cli.commands.vm.open:open_", "The web pages of a machine."),
        "logs": Lazy("rave_cli.commands.vm.logs:logs", "The console or journal of a machine."),
        "console": Lazy(
            "rave_cli.commands.vm.console:console", "The serial console of a machine, live."
        ),
        "snapshot": Lazy(
            "rave_cli.commands.vm.snapshot:snapshot",
            "Keep a machine as it is, and go back to that.",
        ),
        "update": Lazy(
            "rave_cli.commands.vm.update:update", "A newer system for a machine, with its data."
        ),
        "rollback": Lazy(
            "rave_cli.commands.vm.rollback:rollback", "A machine as before its last update."
        ),
        "migrate": Lazy(
            "rave_cli.commands.vm.migrate:migrate", "A data disk for a machine that has none."
        ),
        "clone": Lazy(
            "rave_cli.commands.vm.clone:clone", "A machine with a copy of another's disk."
        ),
        "template": Lazy(
            "rave_cli.commands.vm.template:template", "Booted machines that others start from."
        ),
        "set": Lazy("rave_cli.commands.vm.set:set_", "Change a machine's memory, CPUs or disk."),
        "rename": Lazy("rave_cli.commands.vm.rename:rename", "Give a machine another name."),
        "protect": Lazy("rave_cli.commands.vm.protect:protect", "Keep machines from deletion."),
        "unprotect": Lazy("rave_cli.commands.vm.unprotect:unprotect", "Lift that again."),
        "delete": Lazy("rave_cli.commands.vm.delete:delete", "Delete machines and their disks."),
        "debug-bundle": Lazy(
            "rave_cli.commands.vm.debug_bundle:debug_bundle", "What is known of a machine, packed."
        ),
        "prune": Lazy("rave_cli.commands.vm.prune:prune", "Remove what dead machines left."),
    },
)
def vm() -> None:
    """Images and machines."""
