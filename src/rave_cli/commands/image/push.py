"""`rave image push`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rave_cli.audited import audited
from rave_cli.options import base_option, json_option, pass_app, profile_option
from rave_cli.registryoptions import registry_options

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("dest", metavar="DEST")
@profile_option
@base_option
@click.option(
    "--transcript", type=click.Path(exists=True, dir_okay=False, path_type=Path), metavar="FILE",
    help="Also push this transcript of the image, with its other files.",
)  # fmt: skip
@registry_options
@json_option
@pass_app
@audited
def push(
    app: App, *, dest: str, profile: str | None, base: str | None, transcript: Path | None,
    **asked: Any,  # noqa: ANN401 - what Click read
) -> None:  # fmt: skip
    """Push a built image to an OCI registry, and print where it is, with its digest.

    DEST is oci://REGISTRY[:PORT]/REPOSITORY[:TAG]. What is pushed is an OCI image whose first layer
    is /disk/….qcow2: KubeVirt takes it as a containerDisk. Its bill of materials goes beside it,
    and a signed statement that it was pushed. What the registry has already is not sent again.

    \b
    Example: rave image push oci://registry.example.org/rave/demo:1.0 --base debian
    """
    from rave_cli.flows import image, shipping
    from rave_cli.flows.registries import reach
    from rave_cli.registry.reference import parse
    from rave_cli.registryoptions import registry_access
    from rave_cli.transcript import signing_key

    reference = parse(dest)
    built = image.built(app.plan(profile, base))
    with (
        reach(reference, registry_access(asked), writes=True) as repository,
        app.show.events() as on_event,
    ):
        done = shipping.push(
            built, repository, signing_key(), transcript=transcript, on_event=on_event
        )
    app.show.result(done.document(), str(done.reference))
