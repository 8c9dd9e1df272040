"""The documentation: links lead somewhere, and every rave command in it exists as written.

That the commands also do what the pages say is tests/e2e/test_docs.py.
"""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from rave_cli import app
from tests.docs import PAGES, blocks

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def commands_of(script: str) -> list[list[str]]:
    """Return every simple command of a shell script that begins with `rave`."""
    found = []
    for line in script.replace("\\\n", " ").splitlines():
        for part in re.split(r"\$\(|\||&&|[;)>]", line.split(" #")[0]):
            words = part.split()
            while words and (words[0] in {"!", "env"} or re.fullmatch(r"\w+=.*", words[0])):
                words = words[1:]
            if words and words[0] == "rave":
                found.append(words[1:])
    return found


SHOWN = [
    (str(page.relative_to(ROOT)), words)
    for page in PAGES
    for block in blocks(page)
    for words in commands_of(block.script)
]
CASES = [pytest.param(words, id=f"{page}: rave {' '.join(words)}") for page, words in SHOWN]


@pytest.mark.parametrize("words", CASES)
def test_every_command_parses(words: list[str]) -> None:
    command: click.Command = app.cli
    ctx = click.Context(command, info_name="rave")
    rest = list(words)
    while isinstance(command, click.Group):
        while rest and rest[0].startswith("-"):
            rest.pop(0)
        if not rest:
            return
        name = rest.pop(0)
        child = command.get_command(ctx, name)
        assert child is not None, f"there is no command {name!r}"
        command, ctx = child, click.Context(child, parent=ctx, info_name=name)
    known = {flag for p in command.params for flag in (*p.opts, *p.secondary_opts)} | {
        "-h",
        "--help",
    }
    before_command = rest[: rest.index("--")] if "--" in rest else rest
    used = [word.split("=")[0] for word in before_command if re.match("-.", word)]
    assert set(used) <= known, f"{command.name} has no option {set(used) - known}"


def leaves(command: click.Command, words: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Return the words of every command below one."""
    if not isinstance(command, click.Group):
        return [words]
    ctx = click.Context(command)
    below = [(name, command.get_command(ctx, name)) for name in command.list_commands(ctx)]
    return [found for name, child in below if child for found in leaves(child, (*words, name))]


def test_every_command_for_machines_is_shown_in_a_how_to() -> None:
    shown = {
        tuple(word for word in words if word != "--json")
        for page, words in SHOWN
        if page.startswith(("docs/how-to/", "docs/tutorials/"))
    }
    group = app.cli.get_command(click.Context(app.cli), "vm")
    assert group is not None
    wanted = [*leaves(group, ("vm",)), ("doctor",), ("bench",), ("up",), ("down",)]
    assert len(wanted) > 40
    assert [words for words in wanted if not any(c[: len(words)] == words for c in shown)] == []
