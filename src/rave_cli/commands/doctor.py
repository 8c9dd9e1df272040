"""`rave doctor`: what this host has and lacks, and the command that mends it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
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
@click.option("--list-checks", is_flag=True, help="Only say what would be examined.")
@json_option
@pass_app
@audited
def doctor(app: App, checks: tuple[str, ...], fix: bool, list_checks: bool) -> int:
    """Examine this host: try KVM, ask QEMU and Nix, open the secrets, look at memory and disk.

    Exits with 3 if something fails. `warn` means slower, less protected or untidy, not broken.
    Each finding names the page that tells of it. --fix runs what is shown as `fix` and takes
    nothing from anybody; what is shown as `try` is yours to decide.

    \b
    Example: rave doctor
    Example: rave doctor accelerator
    """
    from rave_cli.doctor import EXAMINATIONS, examine, mend

    if list_checks:
        known = list(EXAMINATIONS.values())
        rows = [(entry.id, entry.title) for entry in known]
        table = app.show.table(("check", "what it asks"), rows)
        app.show.result([entry.document for entry in known], *table)
        return int(ExitCode.OK)
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
    return int(ExitCode.HOST if failed else ExitCode.OK)


def _lines(app: App, findings: list[Diagnosis]) -> list[Line]:
    rows = [(app.show.mark(f.status), f.id, f.detail) for f in findings]
    lines = app.show.table(("", "check", "finding"), rows)
    for found in findings:
        if found.status in ("warn", "fail"):
            if found.fix:
                lines.append(f"fix {found.id}: {shlex.join(found.fix)}")
            if found.advice:
                lines.append(f"try {found.id}: {found.advice}")
            lines.append(f"see {found.page}")
    return lines
