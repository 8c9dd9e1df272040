"""Reads a message as a command, or says what was expected and which word is the nearest.

    !rave VERB WORD... TEXT

Words are set apart by white space; "..." holds one that has some, with \\" and \\\\ within. The
text at the end is taken as it is written, unless all of it is quoted.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping  # noqa: TC003 - read where values are made
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import TYPE_CHECKING

from rave_platform.domain.chat import characters
from rave_platform.domain.chat.commands import (
    FORMS,
    PREFIX,
    ParameterKind,
    Verb,
    form,
    verb_of,
)
from rave_platform.domain.tasks import AgentKind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_platform.domain.chat.commands import ChatCommand, CommandForm, Parameter

# Characters of a text: what an AgentTask takes; and of a message, in which each may be escaped.
LONGEST_TEXT = 16_000
LONGEST_MESSAGE = 40_000
# Characters of a word that an answer repeats.
LONGEST_WORD = 60

VERBS = tuple(verb.value for verb in Verb)
AGENTS = tuple(kind.value for kind in AgentKind)

NAME = r"(?!.*\.\.)(?!.*\.git(/|$))[A-Za-z0-9][A-Za-z0-9._-]{0,62}"
# How each kind is written, and what is said of a word that is not.
WRITTEN: Mapping[ParameterKind, tuple[re.Pattern[str], str]] = MappingProxyType(
    {
        ParameterKind.NAME: (
            re.compile(NAME),
            "a name: letters, digits, dot, hyphen and underscore, at most 63",
        ),
        ParameterKind.PROJECT: (
            re.compile(rf"{NAME}(/[A-Za-z0-9][A-Za-z0-9._-]{{0,62}}){{0,3}}"),
            "the path of a project, such as hello-world or team/hello-world",
        ),
        ParameterKind.TASK: (
            re.compile(r"[0-9a-f]{8}(-?[0-9a-f]){0,24}"),
            "a task: the eight letters and digits that its answer names, such as 3f2a91c4",
        ),
    }
)

OPENING = {'"': '"', "\u201c": "\u201d", "\u201e": "\u201c"}


@dataclass(frozen=True)
class NotUnderstood:
    """Why a message that is addressed to us is no command."""

    why: str
    expected: str
    nearest: str = ""


class _MisreadError(Exception):
    def __init__(self, why: str, nearest: str = "") -> None:
        super().__init__(why)
        self.why, self.nearest = why, nearest


def parse(message: str) -> ChatCommand | NotUnderstood | None:
    """Return the command of a message, why it is none, or None where nobody addressed us."""
    text = message.strip()
    if not _addressed(text):
        return None
    text = text[len(PREFIX) :].replace("\r\n", "\n").strip()
    everything = f"{PREFIX} {{{' | '.join(VERBS)}}}"
    if len(text) > LONGEST_MESSAGE:
        return NotUnderstood(f"a message has at most {LONGEST_MESSAGE} characters", everything)
    if unseen := characters.unseen(text):
        return NotUnderstood(
            f"there is a character in it that nobody sees ({unseen}); type it anew", everything
        )
    try:
        found, rest = _form(text)
    except _MisreadError as fault:
        return NotUnderstood(fault.why, everything, fault.nearest)
    try:
        return found.made(**_arguments(found, rest))
    except _MisreadError as fault:
        return NotUnderstood(fault.why, found.usage, fault.nearest)


def render(command: ChatCommand) -> str:
    """Return a command as it can be written; `parse` reads the same command in it."""
    found = form(verb_of(command))
    values = {field.name: getattr(command, field.name) for field in fields(command)}
    words = [
        _quoted(values[p.name]) if p.kind is ParameterKind.TEXT else values[p.name]
        for p in found.parameters
        if values[p.name]
    ]
    return " ".join([PREFIX, found.verb, *words])


def _addressed(text: str) -> bool:
    head, rest = text[: len(PREFIX)], text[len(PREFIX) :]
    return head.lower() == PREFIX and (not rest or rest[0].isspace())


def _form(text: str) -> tuple[CommandForm, str]:
    """Return which command it is, and what follows its verb.

    Raises:
        _MisreadError: if it is none.
    """
    words = text.split(None, 2)
    for found in FORMS:
        verb = found.verb.split()
        if [word.lower() for word in words[: len(verb)]] == verb:
            rest = text
            for _ in verb:
                rest = _after_word(rest)
            return found, rest
    if not words:
        raise _MisreadError("a command is missing")
    said = " ".join(words[:2])
    nearest = _nearest(words[0], VERBS) or _nearest(said, VERBS)
    raise _MisreadError(f'"{_shown(words[0])}" is no command', nearest)


def _after_word(text: str) -> str:
    parts = text.split(None, 1)
    return parts[1] if len(parts) > 1 else ""


def _arguments(found: CommandForm, rest: str) -> dict[str, str]:
    arguments: dict[str, str] = {}
    for parameter in found.parameters:
        rest = rest.strip()
        if parameter.kind is ParameterKind.TEXT:
            value, rest = _text(rest), ""
        elif parameter.kind is ParameterKind.VERB:
            # It may have two words.
            value, rest = " ".join(rest.split()), ""
        else:
            value, rest = _word(rest) if rest else ("", "")
        if value:
            arguments[parameter.name] = _checked(parameter, value)
        elif parameter.required:
            raise _MisreadError(f"{parameter.shown} is missing")
    if rest.strip():
        raise _MisreadError(f'"{_shown(rest.split()[0])}" is more than was expected')
    return arguments


def _checked(parameter: Parameter, value: str) -> str:
    """Return a value as it is meant.

    Raises:
        _MisreadError: if it is not written as its kind is.
    """
    match parameter.kind:
        case ParameterKind.TEXT:
            if len(value) > LONGEST_TEXT:
                raise _MisreadError(f"{parameter.shown} has at most {LONGEST_TEXT} characters")
            return value
        case ParameterKind.AGENT:
            return _one_of(value, AGENTS, "no agent")
        case ParameterKind.VERB:
            return _one_of(value, VERBS, "no command")
        case ParameterKind.TASK:
            value = value.lower()
    pattern, expected = WRITTEN[parameter.kind]
    if not pattern.fullmatch(value):
        raise _MisreadError(f'"{_shown(value)}" is not {expected}')
    return value


def _one_of(value: str, choices: Sequence[str], is_none: str) -> str:
    if value.lower() in choices:
        return value.lower()
    raise _MisreadError(
        f'"{_shown(value)}" is {is_none}; there are {", ".join(choices)}', _nearest(value, choices)
    )


def _word(text: str) -> tuple[str, str]:
    """Return the first word of a text, and what follows it.

    Raises:
        _MisreadError: if its quote is not closed.
    """
    if text[0] not in OPENING:
        return text.split(None, 1)[0], _after_word(text)
    found = _quote(text)
    if found is None:
        raise _MisreadError(f"the quote that begins with {_shown(text)} is not closed")
    return found


def _text(text: str) -> str:
    """Return the text at the end: as it is written, unless all of it is quoted."""
    found = _quote(text) if text and text[0] in OPENING else None
    return found[0].strip() if found and not found[1] else text


def _quote(text: str) -> tuple[str, str] | None:
    """Return what a quote holds, and what follows it; None if it is not closed."""
    closing, at = OPENING[text[0]], 1
    said: list[str] = []
    while at < len(text):
        if text[at] == closing:
            return "".join(said), text[at + 1 :].strip()
        at += text[at] == "\\" and text[at + 1 : at + 2] in {'"', "\\"}
        said.append(text[at])
        at += 1
    return None


def _quoted(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _nearest(word: str, choices: Sequence[str]) -> str:
    found = difflib.get_close_matches(word[:LONGEST_WORD].lower(), choices, n=1, cutoff=0.6)
    return found[0] if found else ""


def _shown(word: str) -> str:
    return word if len(word) <= LONGEST_WORD else word[:LONGEST_WORD] + "…"
