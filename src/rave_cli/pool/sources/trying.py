"""Tries what a source needs, without building anything."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli import process
from rave_cli.errors import RaveError
from rave_cli.flows import webhooks
from rave_cli.pool.files import inputs
from rave_cli.pool.sources import keys, making
from rave_cli.pool.sources.client import asking

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.sources.source import ForgeSource


@dataclass(frozen=True)
class SourceCheck:
    """Something that a source needs, whether it has it, and what there is to say."""

    what: str
    good: bool
    said: str


def trial(source: ForgeSource) -> Iterator[SourceCheck]:
    """Yield what a source needs."""
    values: dict[str, str] = {}
    names = [*source.secrets, *([source.token] if source.token else []), *source.work.secrets]
    if names:
        try:
            values = keys.opened(names)
            keys.scheme(source, values)
        except RaveError as error:
            yield SourceCheck("secrets", good=False, said=error.message)
        for name in dict.fromkeys(names):
            there = name in values
            said = "there" if there else "rave secrets edit"
            yield SourceCheck(f"secret {name}", good=there, said=said)
    token = values.get(source.token, "")
    if source.every or source.token:
        yield _api(source, token)
    yield _git(source, token)
    if source.dispatcher:
        yield _dispatcher(source)


def _api(source: ForgeSource, token: str) -> SourceCheck:
    try:
        with asking(source, token) as client:
            client.look()
    except RaveError as error:
        return SourceCheck("the forge's API", good=False, said=error.message)
    return SourceCheck("the forge's API", good=True, said="it answers")


def _git(source: ForgeSource, token: str) -> SourceCheck:
    what = f"git ls-remote {inputs.shown(source.fetched_from)}"
    try:
        process.require("git")
        count = inputs.look(source.fetched_from, authorization=making.authorization(source, token))
    except RaveError as error:
        said = "; ".join((error.message, *error.detail[-1:]))
        return SourceCheck(what, good=False, said=said)
    return SourceCheck(what, good=True, said=f"{count} refs")


def _dispatcher(source: ForgeSource) -> SourceCheck:
    what = f"dispatcher of machine {source.dispatcher}"
    try:
        found = webhooks.listed(source.dispatcher, source=source.sender, most=1)
    except RaveError as error:
        return SourceCheck(what, good=False, said=error.message)
    said = "it has events" if found else f"it answers, and has none of {source.sender} yet"
    return SourceCheck(what, good=True, said=said)
