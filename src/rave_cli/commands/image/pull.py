"""`rave image pull`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, pass_app
from rave_cli.registryoptions import registry_options

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@click.argument("source", metavar="SRC")
@click.option(
    "--key", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The public key that must have signed for it: OpenSSH or PEM.",
)  # fmt: skip
@click.option(
    "--allowed-signers", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The keys of which one must have, as OpenSSH lists them.",
)  # fmt: skip
@click.option("--principal", metavar="NAME", help="Who of the allowed signers it must have been.")
@registry_options
@json_option
@pass_app
@audited
def pull(
    app: App, *, source: str, key: Path | None, allowed_signers: Path | None,
    principal: str | None, **asked: Any,  # noqa: ANN401 - what Click read
) -> None:  # fmt: skip
    """Pull an image that `rave image push` has pushed; machines are made from it as from one that
    was built.

    SRC is oci://REGISTRY[:PORT]/REPOSITORY, with :TAG or @sha256:DIGEST. Every digest is compared,
    and what is no image of rave's is refused. With --key or --allowed-signers somebody that you
    trust must have signed for it; without, it is as trustworthy as whoever may push there.

    \b
    Example: rave image pull oci://registry.example.org/rave/demo:1.0 --key builder.pub
    """
    from rave_cli.flows import shipping
    from rave_cli.flows.registries import reach
    from rave_cli.registry.reference import parse
    from rave_cli.registryoptions import registry_access
    from rave_cli.transcript.trust import trusted_keys

    reference = parse(source)
    trusted = None
    if key is not None or allowed_signers is not None or principal is not None:
        trusted = trusted_keys(
            key, allowed_signers, principal, command=f"rave image pull {reference}"
        )
    with (
        reach(reference, registry_access(asked), writes=False) as repository,
        app.show.events() as on_event,
    ):
        found = shipping.pull(repository, app.catalog(), trusted, on_event=on_event)
    if found.vouched is None:
        app.show.note("nobody was asked who signed for it: --key FILE does")
    app.show.result(found.document(), str(reference.at(found.digest)), str(found.image.qcow2))
