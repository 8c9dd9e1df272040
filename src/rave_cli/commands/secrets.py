"""`rave secrets`: make, check and change the secrets file, and install it in a machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from rave_cli.commands.vm import machine_argument
from rave_cli.errors import ExitCode
from rave_cli.options import json_option, pass_app

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.secrets.validate import Report

file_option = click.option(
    "--file",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Secrets file instead of $XDG_CONFIG_HOME/rave/secrets.sops.yaml.",
)


def _complete_secret(_ctx: click.Context, _param: click.Parameter, start: str) -> list[str]:
    """Return the secrets of the baked catalog whose names begin with `start`."""
    from rave_cli.profiles.source import load_catalog

    return [name for name in load_catalog(None).secrets if name.startswith(start)]


@click.group()
def secrets() -> None:
    """Make, check and change the SOPS secrets file, and install it in a machine.

    Values are never shown. Recipients come from the `.sops.yaml` beside the file (or above it).
    """


@secrets.command()
@file_option
@click.option(
    "--recipient", "recipients", multiple=True, metavar="AGE1…",
    help="A further operator who may read the file (repeatable; only for a new policy).",
)  # fmt: skip
@json_option
@pass_app
def init(app: App, file: Path | None, recipients: tuple[str, ...]) -> None:
    """Make the age identity, the policy, and a value for every secret that has none.

    What exists stays as it is, so running it again adds what a newer catalog asks for.

    \b
    Example: rave secrets init
    """
    from rave_cli.secrets.init import init as initialize

    with app.show.progress("Making what is missing"):
        done = initialize(_file(file), app.catalog().secrets, recipients=recipients)
    if done.made_key:
        app.show.note(f"made your age identity: {done.key_file}   (keep a copy in a safe place)")
    if done.made_policy:
        app.show.note(f"made the policy: {done.policy}")
    text = f"{done.file}: {len(done.added)} secrets added, {len(done.kept)} kept"
    app.show.result(done.document(), text)


@secrets.command()
@file_option
@click.option("--reencrypt", is_flag=True, help="Only write it anew for the policy's recipients.")
@json_option
@pass_app
def edit(app: App, file: Path | None, reencrypt: bool) -> None:
    """Change the secrets in your editor; the plaintext lies in memory, and only meanwhile.

    The editor is $VISUAL or $EDITOR.

    \b
    Example: EDITOR=nano rave secrets edit
    """
    from rave_cli.secrets import edit as editing
    from rave_cli.secrets import identity

    place, keys = _file(file), identity.load()
    if reencrypt:
        editing.reencrypt(place, keys)
        changed = True
    else:
        changed = editing.edit(place, keys, editor=editing.launch_editor, again=_again)
    text = f"{place}: {'written' if changed else 'unchanged'}"
    if changed:
        app.show.note("check it: rave secrets validate")
    app.show.result({"file": str(place), "changed": changed}, text)


@secrets.command()
@click.argument("names", nargs=-1, metavar="[NAME]...", shell_complete=_complete_secret)
@click.option("--all", "everything", is_flag=True, help="Every secret of the catalog.")
@file_option
@json_option
@pass_app
def rotate(app: App, names: tuple[str, ...], everything: bool, file: Path | None) -> None:
    """Give secrets new values in the file; `rave secrets install` then brings them to a machine.

    \b
    Example: rave secrets rotate redis/password
    """
    from rave_cli.secrets import identity
    from rave_cli.secrets.init import rotate as renew

    if bool(names) == everything:
        raise click.UsageError("Name the secrets to rotate, or give --all.")
    catalog, place = app.catalog().secrets, _file(file)
    with app.show.progress("Making new values"):
        changed = renew(place, catalog, names or tuple(catalog), identity.load())
    app.show.result(
        {"file": str(place), "changed": list(changed)},
        "\n".join(["new values:", *(f"  {name}" for name in changed)]),
    )


@secrets.command()
@file_option
@click.option("--keyless", is_flag=True, help="Check only what needs no age identity.")
@json_option
@pass_app
def validate(app: App, file: Path | None, keyless: bool) -> int:
    """Check the secrets file against policy and catalog; refuse what plain sops would accept.

    Exits with 6 if anything is wrong with it.

    \b
    Example: rave secrets validate
    """
    from rave_cli.secrets import identity
    from rave_cli.secrets import validate as validation

    keys = None if keyless else identity.load()
    report = validation.validate(_file(file), app.catalog().secrets, keys)
    app.show.result(report.document(), _verdict(app, report))
    return int(ExitCode.SECRETS if report.errors else ExitCode.OK)


@secrets.command(name="list")
@file_option
@json_option
@pass_app
def list_(app: App, file: Path | None) -> None:
    """Show every secret: its owner and place in the guest, and whether the file has it.

    Needs no key, and never shows a value.

    \b
    Example: rave secrets list
    """
    from rave_cli.secrets.listing import listing

    found = listing(_file(file), app.catalog().secrets)
    rows = [
        (entry.name, entry.owner, entry.path, "yes" if entry.present else "no")
        for entry in found.entries
    ]
    app.show.note(f"file: {found.file}   your recipient: {found.recipient or 'none yet'}")
    columns = ("secret", "owner", "place in the guest", "in the file")
    app.show.result(found.document(), app.show.table(columns, rows))


@secrets.command()
@machine_argument
@file_option
@json_option
@pass_app
def install(app: App, name: str, file: Path | None) -> None:
    """Give the machine NAME the secrets its profile needs, and prove that its services took them.

    The machine gets nothing else of the file. Running it again changes nothing.

    \b
    Example: rave secrets install demo
    """
    from rave_cli.machines import store
    from rave_cli.secrets.install import install as bring

    machine = store.load(name)
    plan = app.plan(machine.spec.profile, machine.spec.base)
    with app.show.progress(f"Installing secrets in {name}") as progress:
        report = bring(machine, plan, _file(file), on_event=progress.update)
    for finding in report.warnings:
        app.show.warning(finding.message)
    text = (
        f"{name}: {len(report.secrets)} secrets in place, {len(report.changed)} changed, "
        f"{len(report.proofs)} services proven, {report.seconds['total']:.1f} s"
    )
    app.show.result(report.document(), text)


def _file(file: Path | None) -> Path:
    from rave_cli.secrets.store import default_file

    return (file or default_file()).absolute()


def _again(why: str) -> bool:
    return click.confirm(f"The text cannot be used: {why}. Edit again?", default=True, err=True)


def _verdict(app: App, report: Report) -> str:
    from rave_cli.secrets.validate import describe

    status = {"error": "fail", "warning": "warn"}
    lines = [f"{app.show.mark(status[f.severity])}\t{describe(f)}" for f in report.findings]
    lines += [f"\thint: {hint}" for hint in dict.fromkeys(f.hint for f in report.errors if f.hint)]
    how = "with your key" if report.keyed else "without a key"
    verdict = "refused" if report.errors else "valid"
    lines.append(f"{report.file}: {verdict}, {len(report.names)} secrets, checked {how}")
    return "\n".join(lines)
