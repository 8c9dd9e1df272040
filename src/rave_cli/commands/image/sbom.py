"""`rave image sbom`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.options import json_option, pass_app, profile_option

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command("sbom")
@profile_option
@click.option(
    "--format", "form", type=click.Choice(["cyclonedx", "spdx"]), default="cyclonedx",
    show_default=True, help="CycloneDX 1.5 or SPDX 2.3, as JSON.",
)  # fmt: skip
@click.option(
    "-o", "--output", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Write it to a file, and print the file's sha256.",
)  # fmt: skip
@json_option
@pass_app
def sbom(app: App, *, profile: str | None, form: str, output: Path | None) -> None:
    """Print the bill of materials of a profile's image on the Debian base.

    It is made from the lock alone, of the image that is there, or else of the checkout: every file
    with version, sha256, licence and package URL. The same lock gives the same bytes. It says the
    lock's sha256, which the image's manifest and the transcript say, too.

    \b
    Example: rave image sbom --profile demo > demo.cdx.json
    Example: rave image sbom --profile demo --format spdx --output demo.spdx.json
    """
    from rave_cli.flows.image import bill

    found = bill(app.plan(profile, "debian"), app.settings, form)
    app.show.note(f"the bill of materials of {found.of}")
    if output is None:
        app.show.raw(found.data)
        return
    found.write(output)
    document = {"file": str(output), "format": form, "sha256": found.sha256}
    app.show.result(document, f"{found.sha256}  {output}")
