"""`rave pool pull`."""

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
    "--to", "target", type=click.Path(path_type=Path), metavar="FOLDER", required=True,
    help="Put it into this folder, which is made.",
)  # fmt: skip
@click.option(
    "--key", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The public key that must have signed the job's proof: OpenSSH or PEM.",
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
    app: App, *, source: str, target: Path, key: Path | None, allowed_signers: Path | None,
    principal: str | None, **asked: Any,  # noqa: ANN401 - what Click read
) -> None:  # fmt: skip
    """Pull what a job left, which `rave pool push` has pushed, into a folder.

    SRC is oci://REGISTRY[:PORT]/REPOSITORY, with :TAG or @sha256:DIGEST. Every digest is compared.
    With --key or --allowed-signers the job's proof is verified, too: it must name exactly these
    files, and somebody that you trust must have signed it and that it was pushed.

    \b
    Example: rave pool pull oci://registry.example.org/team/app:1.0 --to out --key pool.pub
    """
    from rave_cli.flows.registries import reach
    from rave_cli.pool import pulling
    from rave_cli.registry.reference import parse
    from rave_cli.registryoptions import registry_access
    from rave_cli.transcript.trust import trusted_keys

    reference = parse(source)
    trusted = None
    if key is not None or allowed_signers is not None or principal is not None:
        trusted = trusted_keys(
            key, allowed_signers, principal, command=f"rave pool pull {reference} --to {target}"
        )
    with (
        reach(reference, registry_access(asked), writes=False) as repository,
        app.show.events() as on_event,
    ):
        found = pulling.pull(repository, target, trusted, on_event=on_event)
    if found.told is None:
        app.show.note("nobody was asked who signed for it: --key FILE does")
    else:
        told = found.told
        app.show.note(f"job {told.name} is proven: {told.result}, signed by {told.signer}")
    rows = [(one.path, str(one.size), one.sha256) for one in found.artifacts]
    table = app.show.table(("artifact", "bytes", "sha256"), rows)
    app.show.result(found.document(), found.reference, *table)
