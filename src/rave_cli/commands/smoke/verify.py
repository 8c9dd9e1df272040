"""`rave smoke verify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.options import base_option, json_option, pass_app, profile_option

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.transcript import Verified


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
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
    "--image", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="The qcow2 that the run must have been about.",
)  # fmt: skip
@click.option(
    "--policy", type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What must have been tested (YAML; docs/how-to/verify-a-transcript.md).",
)  # fmt: skip
@click.option("--max-age", metavar="AGE", help="How old the run may be: 90m, 24h, 7d.")
@click.option("--nonce", metavar="TEXT", help="The challenge that the run must carry.")
@profile_option
@base_option
@json_option
@pass_app
def verify(
    app: App,
    *,
    file: Path,
    key: Path | None,
    allowed_signers: Path | None,
    principal: str | None,
    image: Path | None,
    policy: Path | None,
    max_age: str | None,
    nonce: str | None,
    profile: str | None,
    base: str | None,
) -> None:
    """Verify a transcript and all its files with a key that you have from elsewhere.

    Skipped checks, errors and aborted runs never count as passed. Exit code 7 with the reason if
    anything is not as it must be.

    \b
    Example: rave smoke verify artifacts/boot_transcript_….json --key id_ed25519.pub --max-age 24h
    """
    from dataclasses import asdict

    from rave_cli.transcript import parse_age
    from rave_cli.transcript import verify as check

    found = check(
        file,
        key=key,
        allowed_signers=allowed_signers,
        principal=principal,
        image=image,
        policy=policy,
        max_age=parse_age(max_age) if max_age else None,
        nonce=nonce,
        profile=profile,
        base=base,
    )
    counts = f"{len(found.passed)} passed, {len(found.warned)} warned, {len(found.skipped)} skipped"
    lines = [
        f"{file.name} is authentic",
        f"{found.status}: {found.profile} on {found.base}, completed {found.completed}",
        f"signed by {found.signer}",
        f"{counts}; {found.events} events",
        f"image sha256:{found.image_sha256}",
        *([f"which took the place of image sha256:{old}"] if (old := found.updated_from) else []),
        *_packages(found),
    ]
    if found.format == 1:
        app.show.note(
            "it is of the first format, whose documents are wrong about the viewpoint, attempts and"
            " data of checks; the event log is right"
        )
    if not found.image_checked:
        app.show.note("the image itself was not compared: add --image QCOW2")
    if not found.policy_checked:
        app.show.note("what had to be tested was not checked: add --policy FILE")
    app.show.result(asdict(found), *lines)


def _packages(found: Verified) -> list[str]:
    """Say what the image was assembled from, if its transcript does."""
    keys = found.trusted_archive_keys
    if found.lock_sha256 is None or keys is None:
        return []
    others = "".join(f", and {key}" for key in keys) or " alone"
    return [
        f"packages of the lock sha256:{found.lock_sha256}",
        f"whose archives were trusted: by the distribution's keys{others}",
    ]
