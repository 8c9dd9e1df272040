"""`rave flow hello-world`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.errors import ExitCode
from rave_cli.options import complete_machine, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.transcript.check import CheckResult


@click.command("hello-world")
@click.option(
    "--machine", "--vm", "name", metavar="NAME", shell_complete=complete_machine,
    help="The running machine; without it the only one that there is.",
)  # fmt: skip
@json_option
@pass_app
@audited
def hello_world(app: App, *, name: str | None) -> int:
    """Let agents make a project, write code in it and have it merged, by sentences in the chat, and
    tell each step as it happens.

    Somebody is made for it who signs in to the chat and commands. A project is made in the forge,
    which whoever reaches it may read meanwhile; an agent writes code with tests, and opens a merge
    request; it is approved in the chat, and merged. Then project and account are deleted, also
    where a step failed or you break it off. It is phase 8 of the smoke run, without a transcript.

    Exit code 1 if a step failed. What cannot be had on the machine, such as a sandbox where no pool
    is lent to it, is skipped with the reason.

    \b
    Example: rave flow hello-world --machine dev
    """
    from rave_cli.flows import plan as plans
    from rave_cli.flows import traces, workflow
    from rave_cli.machines import store
    from rave_cli.views.workflow import narrated, outcome

    machine = store.load(traces.machine_of(name))
    spec = machine.spec

    def told(result: CheckResult) -> None:
        app.show.note(narrated(result))

    with app.show.events() as on_event:
        plan = plans.of(
            machine, lambda: app.plan(spec.profile, spec.base, spec.mode), on_event=on_event
        )
        steps = workflow.steps_of(machine, plan)
        found = workflow.hello_world(machine, steps, on_event=on_event, on_step=told)
    app.show.result(found.document(), *outcome(app.show, found))
    return ExitCode.OK if found.passed else ExitCode.CHECK_FAILED
