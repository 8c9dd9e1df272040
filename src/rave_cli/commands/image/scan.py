"""`rave image scan`."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import click

from rave_cli.errors import ExitCode
from rave_cli.options import json_option, pass_app, profile_option

if TYPE_CHECKING:
    from rave_cli.images.scanners import Severity
    from rave_cli.options import App

# As scanners.SCANNERS and scanners.SEVERITIES have them, which are not imported for a help text.
NAMES = ("grype", "trivy", "debsecan")
LEVELS = ("low", "medium", "high", "critical", "never")


@click.command("scan")
@profile_option
@click.option(
    "--scanner", type=click.Choice(NAMES),
    help="Which to ask.  [default: the first that the host has]",
)  # fmt: skip
@click.option(
    "--refuse", type=click.Choice(LEVELS), default="critical", show_default=True,
    help="Exit with 1 if there is a hole as severe as this.",
)  # fmt: skip
@click.option(
    "--accept", multiple=True, metavar="ID",
    help="A hole that is not refused, such as CVE-2026-1234. May be repeated.",
)  # fmt: skip
@json_option
@pass_app
def scan(
    app: App, *, profile: str | None, scanner: str | None, refuse: str, accept: tuple[str, ...]
) -> int:
    """Ask a scanner of this host for known holes in a profile's image on the Debian base.

    It is told what the image that is there, or else the checkout's lock, is made of; what the build
    alone uses is left out. debsecan knows Debian's packages, the others wheels and npm's, too.

    \b
    Example: rave image scan --profile demo
    Example: rave image scan --profile development --refuse high --accept CVE-2026-1234
    """
    from rave_cli.flows.scanning import scan as look

    level = None if refuse == "never" else cast("Severity", refuse)
    with app.show.progress("Asking for known holes"):
        found = look(
            app.plan(profile, "debian"), app.settings, scanner=scanner, refuse=level, accept=accept
        )
    app.show.note(f"{found.scanner} knows {len(found.holes)} holes in {found.of}")
    rows = [
        (hole.severity, hole.id, hole.package, hole.version, hole.fixed) for hole in found.holes
    ]
    head = ("severity", "id", "package", "version", "fixed in")
    app.show.result(found.document, *(app.show.table(head, rows) if rows else []))
    for name in found.unmet:
        app.show.warning(f"{name} is accepted, and nobody knows of it here")
    if found.refused:
        app.show.warning(
            f"{len(found.refused)} of severity {refuse} or worse: rave vm lock-closure --update"
            " takes what was fixed; --accept ID lets one pass"
        )
    return int(ExitCode.CHECK_FAILED if found.refused else ExitCode.OK)
