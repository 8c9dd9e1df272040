"""`rave secrets install`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app, secrets_file_option

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App


@click.command()
@machine_argument
@secrets_file_option
@json_option
@pass_app
@audited
def install(app: App, name: str, file: Path | None) -> None:
    """Give the machine NAME the secrets its profile needs, and prove that its services took them.

    The machine gets nothing else of the file. Running it again changes nothing.

    \b
    Example: rave secrets install demo
    """
    from rave_cli.flows import plan as plans
    from rave_cli.flows import secure
    from rave_cli.machines import store
    from rave_cli.secrets.store import place

    machine = store.load(name)
    spec = machine.spec
    with app.show.events() as on_event:
        plan = plans.of(
            machine, lambda: app.plan(spec.profile, spec.base, spec.mode), on_event=on_event
        )
        report = secure.install(machine, plan, place(file), on_event=on_event)
    text = (
        f"{name}: {len(report.secrets)} secrets in place, {len(report.changed)} changed, "
        f"{len(report.proofs)} services proven, {report.seconds['total']:.1f} s"
    )
    app.show.result(report.document(), text)
