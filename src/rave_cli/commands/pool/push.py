"""`rave pool push`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rave_cli.audited import audited
from rave_cli.options import endpoint_option, job_argument, json_option, pass_app
from rave_cli.registryoptions import registry_options

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@job_argument
@click.argument("dest", metavar="DEST")
@click.option("--wait", is_flag=True, help="Wait for the end of a job that is not over.")
@registry_options
@endpoint_option
@json_option
@pass_app
@audited
def push(
    app: App, *, job: str, dest: str, wait: bool, endpoint: str | None,
    **asked: Any,  # noqa: ANN401 - what Click read
) -> None:  # fmt: skip
    """Push what a job left to an OCI registry, and print where it is, with its digest.

    DEST is oci://REGISTRY[:PORT]/REPOSITORY[:TAG]. The job's proof goes beside it, and a signed
    statement that it was pushed. What the registry has already is not sent again. A tag may name
    something else tomorrow; the digest cannot. Of a pool at an endpoint the files go over this
    host, whose credentials and signing key count.

    \b
    Example: rave pool push 3f2a oci://registry.example.org/team/app:1.0
    """
    from rave_cli.flows.registries import reach
    from rave_cli.pool import pushing
    from rave_cli.pool.access.reach import reach as reach_pool
    from rave_cli.registry.reference import parse
    from rave_cli.registryoptions import registry_access
    from rave_cli.transcript import signing_key

    reference = parse(dest)
    with (
        reach(reference, registry_access(asked), writes=True) as repository,
        reach_pool(endpoint) as pool,
    ):
        found = pool.load(job)
        if wait and not found.over:
            for _ in pool.follow(found.name):
                pass
            found = pool.load(found.name)
        with app.show.events() as on_event:
            done = pushing.push(
                found, pool.proof(found), pool.left(found), repository, signing_key(),
                on_event=on_event,
            )  # fmt: skip
    app.show.result(done.document(), str(done.reference))
