"""`rave pool verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.options import endpoint_option, job_argument, json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App


@click.command()
@job_argument
@click.option(
    "--key", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The public key you trust: OpenSSH or PEM.",
)  # fmt: skip
@click.option(
    "--allowed-signers", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The keys you trust, as OpenSSH lists them.",
)  # fmt: skip
@click.option("--principal", metavar="NAME", help="Who of the allowed signers it must have been.")
@click.option(
    "--save", type=click.Path(dir_okay=False, path_type=Path), metavar="FILE",
    help="Also write the signed statement (in-toto in DSSE) there, for other tools.",
)  # fmt: skip
@endpoint_option
@json_option
@pass_app
def verify(
    app: App,
    *,
    job: str,
    key: Path | None,
    allowed_signers: Path | None,
    principal: str | None,
    save: Path | None,
    endpoint: str | None,
) -> None:
    """Verify the proof of a job that is over, with a key that you have from elsewhere.

    What was asked for, in which machine it ran, how it ended, what it printed and what it left must
    be what was signed when it ended. Neither the network nor whoever serves the pool is asked; with
    --endpoint all of it is taken from there and judged here. Exit code 7 with the reason if
    anything is not as it must be; how the job ended is told, not judged.

    \b
    Example: rave pool verify 3f2a --key ~/.config/rave/signing/id_ed25519.pub
    """
    from dataclasses import asdict

    from rave_cli import paths
    from rave_cli.pool import proof
    from rave_cli.pool.access.reach import reach
    from rave_cli.pool.files import artifacts
    from rave_cli.pool.jobs.store import printout_of
    from rave_cli.transcript.trust import trusted_keys

    trusted = trusted_keys(key, allowed_signers, principal, command=f"rave pool verify {job}")
    with reach(endpoint) as pool:
        found = pool.load(job)
        envelope = pool.proof(found)
        proven = proof.verify(found, printout_of(pool.output(found)), envelope, trusted)
        artifacts.refuse_changed(found, pool.artifact)
    if save is not None and envelope is not None:
        paths.atomic_write(save, envelope)
    machine = (
        f"in a machine of template sha256:{proven.template}, of image sha256:{proven.image}"
        if proven.image
        else "no machine brought it to its end"
    )
    lines = (
        f"job {proven.name} is proven: {proven.result}",
        f"what was asked for has sha256:{proven.digest}",
        machine,
        f"signed by {proven.signer}",
    )
    app.show.result(asdict(proven), *lines)
