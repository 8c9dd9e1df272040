"""`rave pool source add`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from rave_cli.audited import audited
from rave_cli.joboptions import recurring_work_options
from rave_cli.options import (
    FORGES,
    TRIGGERS,
    complete_machine,
    complete_secret,
    json_option,
    pass_app,
)

if TYPE_CHECKING:
    from rave_cli.options import App
    from rave_cli.pool.sources.source import Forge, Trigger


@click.command(context_settings={"ignore_unknown_options": True})
@click.argument("name", metavar="NAME")
@click.option("--forge", type=click.Choice(FORGES), required=True, help="What speaks there.")
@click.option(
    "--url", metavar="URL", required=True, help="Where people find the forge, https://HOST."
)
@click.option(
    "--repository", "path", metavar="PATH", required=True, help="The repository, GROUP/NAME."
)
@click.option(
    "--on", "triggers", type=click.Choice(TRIGGERS), multiple=True, default=("push",),
    show_default=True, help="What a job is made for (repeatable).",
)  # fmt: skip
@click.option(
    "--ref", "refs", multiple=True, metavar="PATTERN",
    help="Only branches and tags like this, and merge requests for such branches (repeatable).",
)  # fmt: skip
@click.option(
    "--secret-from", "signed_with", multiple=True, metavar="SECRET", shell_complete=complete_secret,
    help="The secret that signs the forge's hooks; the one of before, too, while it is rotated.",
)  # fmt: skip
@click.option(
    "--token-from", "token", default="", metavar="SECRET", shell_complete=complete_secret,
    help="The secret with which the forge is asked and told, and the commit fetched.",
)  # fmt: skip
@click.option(
    "--every", type=click.FloatRange(0, 86400), default=300, show_default=True, metavar="SECONDS",
    help="Ask the forge so often what no hook told; 0 for never.",
)  # fmt: skip
@click.option(
    "--forks", is_flag=True, help="Build merge requests of forks, too; they read no secret."
)
@click.option(
    "--dispatcher", default="", metavar="MACHINE", shell_complete=complete_machine,
    help="Take the hooks that this machine's dispatcher took.",
)  # fmt: skip
@click.option(
    "--sender", default="", metavar="NAME",
    help="What that dispatcher calls the forge; else what --forge says.",
)  # fmt: skip
@click.option("--clone", default="", metavar="URL", help="Where git fetches from, if elsewhere.")
@click.option(
    "--link", default="", metavar="URL", help="What a commit's status links to, with {job} in it."
)
@click.option("--run", "file", metavar="FILE", help="Run this file of the repository.")
@recurring_work_options
@json_option
@pass_app
@audited
def add(
    app: App,
    /,
    *,
    name: str,
    forge: Forge,
    url: str,
    path: str,
    triggers: tuple[Trigger, ...],
    refs: tuple[str, ...],
    signed_with: tuple[str, ...],
    token: str,
    every: float,
    forks: bool,
    dispatcher: str,
    sender: str,
    clone: str,
    link: str,
    file: str | None,
    **asked: Any,  # noqa: ANN401 - what Click read
) -> None:
    """Make a job of each push, merge request or tag of a repository, once.

    What it runs is COMMAND, in a copy of the commit; a job knows the commit by FORGE_COMMIT and the
    branch, tag or number by FORGE_NAME. Nothing else that a forge says decides what is run. Point
    the forge's webhook at /v1/hooks/NAME of the pool's address.

    \b
    Example: rave pool source add app --forge gitea --url https://git.example.org \\
        --repository team/app --secret-from forge/app --run ci.sh
    """
    from rave_cli.joboptions import work_of
    from rave_cli.pool.jobs.rows import work_text
    from rave_cli.pool.sources import source as sources
    from rave_cli.views.source import source_document

    if file is not None:
        if asked["script"] is not None:
            raise click.UsageError("Either --run or --script.")
        asked["command"] = (_below(file), *asked["command"])
    source = sources.ForgeSource(
        name=name,
        forge=forge,
        url=url.rstrip("/"),
        repository=path,
        on=tuple(dict.fromkeys(triggers)),
        refs=refs,
        secrets=signed_with,
        token=token,
        every=every,
        forks=forks,
        dispatcher=dispatcher,
        sender=(sender or _sender(forge)) if dispatcher else "",
        clone=clone,
        link=link,
        asked=work_text(work_of(asked)),
    )
    sources.add(source)
    if signed_with:
        app.show.note(f"the forge's webhook goes to /v1/hooks/{name}; rave pool source test {name}")
    app.show.result(source_document(source), f"source {name} added")


def _below(file: str) -> str:
    if {"", ".", ".."} & set(file.removeprefix("./").split("/")):
        raise click.UsageError(f"--run {file!r} is not a file below the repository.")
    return f"./{file.removeprefix('./')}"


def _sender(forge: Forge) -> str:
    """Return what a dispatcher of our images calls a forge: two that speak alike have one name."""
    return "forgejo" if forge == "gitea" else forge
