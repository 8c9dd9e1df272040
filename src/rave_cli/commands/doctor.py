"""`rave doctor`: what this host has and lacks, and the command that mends it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from rave_cli.errors import ExitCode
from rave_cli.options import completing, json_option, pass_app

if TYPE_CHECKING:
    from collections.abc import Iterable

    from rave_cli.doctor import Diagnosis
    from rave_cli.options import App
    from rave_cli.show import Line


def _examinations() -> Iterable[str]:
    from rave_cli.doctor import EXAMINATIONS

    return EXAMINATIONS


@click.command()
@click.argument("checks", nargs=-1, metavar="[CHECK]...", shell_complete=completing(_examinations))
@click.option("--fix", is_flag=True, help="Run the commands that mend what was found.")
@json_option
@pass_app
def doctor(app: App, checks: tuple[str, ...], fix: bool) -> int:
    """Examine this host: try KVM, ask Nix, look at keys, memory and disk.

    Exits with 1 if something fails. `warn` means slower or less protected, not broken.

    \b
    Example: rave doctor
    Example: rave doctor accelerator
    """
    from rave_cli.doctor import examine, mend

    with app.show.progress("Examining the host"):
        findings = examine(checks)
    if fix:
        mended = mend(findings, lambda finding: app.show.note(f"fixing: {shlex.join(finding.fix)}"))
        newer = {finding.id: finding for finding in mended}
        findings = [newer.get(finding.id, finding) for finding in findings]
    failed = any(finding.status == "fail" for finding in findings)
    app.show.result(
        {"ok": not failed, "checks": [finding.document for finding in findings]},
        *_lines(app, findings),
    )
    return int(ExitCode.CHECK_FAILED if failed else ExitCode.OK)


def _lines(app: App, findings: list[Diagnosis]) -> list[Line]:
    rows = [(app.show.mark(f.status), f.id, f.detail) for f in findings]
    fixes = [f"fix {f.id}: {shlex.join(f.fix)}" for f in findings if f.fix and f.status != "ok"]
    return [*app.show.table(("", "check", "finding"), rows), *fixes]
