"""`rave tls install`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.audited import audited
from rave_cli.options import json_option, machine_argument, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App

FILE = click.Path(dir_okay=False, path_type=Path)


@click.command()
@machine_argument
@click.option(
    "--cert", type=FILE, metavar="FILE",
    help="The certificate in PEM, the machine's own first, then those that issued it.",
)  # fmt: skip
@click.option(
    "--key", type=FILE, metavar="FILE",
    help="Its key in PEM, which nobody else may read; - is standard input.",
)  # fmt: skip
@click.option("--acme", metavar="URL", help="Get one from this ACME directory (RFC 8555).")
@click.option("--acme-agree", is_flag=True, help="Agree to the terms of that server.")
@click.option(
    "--acme-listen", metavar="ADDRESS:PORT", default="127.0.0.1:5002", show_default=True,
    help="Where its http-01 challenges are answered meanwhile.",
)  # fmt: skip
@click.option("--acme-ca", type=FILE, metavar="FILE", help="Whom to trust for that server.")
@json_option
@pass_app
@audited
def install(
    app: App,
    name: str,
    cert: Path | None,
    key: Path | None,
    *,
    acme: str | None,
    acme_agree: bool,
    acme_listen: str,
    acme_ca: Path | None,
) -> None:
    """Have the machine NAME show a certificate of your own.

    Its names must cover the machine's public origin, and it must be valid. rave keeps it over
    starts and does not renew it; `rave tls status` and an alert tell before it ends.

    \b
    Example: rave tls install team --cert fullchain.pem --key privkey.pem
    Example: pass show tls/team | rave tls install team --cert fullchain.pem --key -
    Example: rave tls install team --acme https://ca.example.org/directory --acme-agree
    """
    from rave_cli.flows import certificates
    from rave_cli.views.certificate import change_line

    if acme is not None:
        if cert or key:
            raise click.UsageError("Either --cert and --key, or --acme.")
        if not acme_agree:
            raise click.UsageError(f"Read the terms of {acme}, then say --acme-agree.")
        done = certificates.obtain(name, acme, acme_listen, ca=acme_ca)
    elif cert and key:
        place = Path("/dev/stdin") if str(key) == "-" else key
        done = certificates.install(name, cert, place)
    else:
        raise click.UsageError("Give --cert and --key, or --acme.")
    app.show.result(done.document(), change_line(done))
