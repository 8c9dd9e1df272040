"""`rave secrets validate`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from rave_cli.errors import ExitCode
from rave_cli.options import json_option, pass_app, secrets_file_option

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.options import App
    from rave_cli.secrets.validate import Report
    from rave_cli.show import Line


@click.command()
@secrets_file_option
@click.option("--keyless", is_flag=True, help="Check only what needs no age identity.")
@json_option
@pass_app
def validate(app: App, file: Path | None, keyless: bool) -> int:
    """Check the secrets file against policy and catalog; refuse what plain sops would accept.

    Exits with 6 if anything is wrong with it.

    \b
    Example: rave secrets validate
    """
    from rave_cli.secrets import identity, store
    from rave_cli.secrets import validate as validation

    keys = None if keyless else identity.load()
    report = validation.validate(store.place(file), app.catalog().secrets, keys)
    app.show.result(report.document(), *_verdict(app, report))
    return int(ExitCode.SECRETS if report.errors else ExitCode.OK)


def _verdict(app: App, report: Report) -> list[Line]:
    from rave_cli.secrets.validate import describe

    status = {"error": "fail", "warning": "warn"}
    lines: list[Line] = [
        (app.show.mark(status[f.severity]), f"\t{describe(f)}") for f in report.findings
    ]
    lines += [f"\thint: {hint}" for hint in dict.fromkeys(f.hint for f in report.errors if f.hint)]
    how = "with your key" if report.keyed else "without a key"
    verdict = "refused" if report.errors else "valid"
    return [*lines, f"{report.file}: {verdict}, {len(report.names)} secrets, checked {how}"]
