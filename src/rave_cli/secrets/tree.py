"""Strict reading of YAML: plain trees of text, with line numbers and without YAML's surprises.

Refused are duplicate keys, merge keys, keys that are no text, anchors, aliases, tags, directives
and more than one document, because two readers could disagree about what they mean.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# libyaml where PyYAML was built with it: ten times as fast.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

MAX_BYTES = 4 << 20
MAX_DEPTH = 8
MERGE_KEY = "<<"

# What sops takes an unquoted scalar for, other than text; a little more than it really does is
# harmless. Source: resolve.go of go.yaml.in/yaml/v3, which sops reads YAML with.
_OTHER_TYPES = {
    "nothing": re.compile(r"|~|null|Null|NULL"),
    "a truth value": re.compile(r"true|True|TRUE|false|False|FALSE"),
    "a number": re.compile(
        r"[-+]?(?:0[xX][0-9a-fA-F_]+|0[oO][0-7_]+|0[bB][01_]+"
        r"|(?:[0-9_]+\.?[0-9_]*|\.[0-9_]+)(?:[eE][-+]?[0-9_]+)?|\.(?:inf|Inf|INF))"
        r"|\.(?:nan|NaN|NAN)"
    ),
    "a date": re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}(?:[Tt ].*)?"),
}


class TreeError(ValueError):
    """The text is not a tree we accept; the message has a line number and never a value."""


@dataclass(frozen=True)
class Scalar:
    """A leaf. `text` is its YAML content; `plain` says that it stood there without quotes."""

    text: str
    plain: bool
    line: int

    @property
    def empty(self) -> bool:
        """Whether it is null or the empty string."""
        return not self.text or (self.plain and _other_type(self.text) == "nothing")

    @property
    def taken_for(self) -> str | None:
        """What sops takes it for if that is not text, in words; None if it is text."""
        return _other_type(self.text) if self.plain else None


@dataclass(frozen=True)
class Sequence:
    """A list."""

    items: tuple[Node, ...]
    line: int


@dataclass(frozen=True)
class Map:
    """A map; keys are in the order of the text."""

    entries: Mapping[str, Node]
    line: int

    def text(self, key: str) -> str | None:
        """Return the text of a leaf, or None if there is no such leaf."""
        node = self.entries.get(key)
        return node.text if isinstance(node, Scalar) else None


Node: TypeAlias = Scalar | Sequence | Map


def parse(text: bytes) -> Map:
    """Read a YAML (or JSON) text whose top is a map.

    Raises:
        TreeError: it is not YAML, or uses something that is refused here.
    """
    if len(text) > MAX_BYTES:
        raise TreeError(f"it is larger than {MAX_BYTES >> 20} MiB")
    try:
        events = iter(list(yaml.parse(text.decode(), Loader=_LOADER)))
    except UnicodeDecodeError as error:
        raise TreeError(f"byte {error.start} is not UTF-8") from error
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 0
        raise TreeError(f"line {line}: {error.problem}") from error
    except yaml.YAMLError as error:
        raise TreeError("it has a character that YAML forbids") from error
    return _document(events)


def leaves(node: Node, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Yield every leaf under `node` with its path; a list or an empty map counts as one leaf."""
    if isinstance(node, Map) and node.entries:
        for key, child in node.entries.items():
            yield from leaves(child, (*path, key))
    else:
        yield path, node


def _document(events: Iterator[yaml.Event]) -> Map:
    documents = 0
    top: Node | None = None
    for event in events:
        if isinstance(event, yaml.DocumentStartEvent):
            documents += 1
            if documents > 1:
                raise TreeError(f"line {_line(event)}: a second document begins")
            if event.version or event.tags:
                raise TreeError(f"line {_line(event)}: directives are refused")
            top = _node(next(events), events, 0)
    if not isinstance(top, Map):
        raise TreeError("its top level is not a map")
    return top


def _node(event: yaml.Event, events: Iterator[yaml.Event], depth: int) -> Node:
    if depth > MAX_DEPTH:
        raise TreeError(f"line {_line(event)}: it is nested deeper than {MAX_DEPTH} levels")
    if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
        raise TreeError(f"line {_line(event)}: anchors and aliases are refused")
    if getattr(event, "tag", None) is not None:
        raise TreeError(f"line {_line(event)}: tags are refused")
    if isinstance(event, yaml.ScalarEvent):
        return Scalar(event.value, event.style is None or event.style == "", _line(event))
    if isinstance(event, yaml.SequenceStartEvent):
        return Sequence(tuple(_items(events, depth)), _line(event))
    return Map(_entries(events, depth), _line(event))


def _items(events: Iterator[yaml.Event], depth: int) -> Iterator[Node]:
    while not isinstance(event := next(events), yaml.SequenceEndEvent):
        yield _node(event, events, depth + 1)


def _entries(events: Iterator[yaml.Event], depth: int) -> dict[str, Node]:
    entries: dict[str, Node] = {}
    while not isinstance(event := next(events), yaml.MappingEndEvent):
        key = _node(event, events, depth + 1)
        if not isinstance(key, Scalar):
            raise TreeError(f"line {_line(event)}: a key is not text")
        if key.text == MERGE_KEY:
            raise TreeError(f"line {key.line}: merge keys ({MERGE_KEY}) are refused")
        if key.taken_for is not None:
            raise TreeError(f"line {key.line}: the key {key.text!r} is {key.taken_for}, not text")
        if key.text in entries:
            raise TreeError(f"line {key.line}: the key {key.text!r} is there twice")
        entries[key.text] = _node(next(events), events, depth + 1)
    return entries


def _other_type(plain: str) -> str | None:
    return next((name for name, form in _OTHER_TYPES.items() if form.fullmatch(plain)), None)


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 0
