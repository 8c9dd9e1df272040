"""JSON values as frozen dataclasses and back, checked strictly by the types of their fields.

For records that every command reads: pydantic, which checks what comes from elsewhere, takes longer
to import than such a command may take. Nothing is converted but what JSON has no type for: a list
into a tuple, a string into a path.
"""

from __future__ import annotations

import dataclasses
import re
import types
from collections.abc import Callable, Hashable, Mapping
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints


@dataclasses.dataclass(frozen=True)
class Matches:
    """A string must match a regular expression as a whole."""

    pattern: str

    def fault(self, value: object) -> str | None:
        """Return what is wrong with a value; None if nothing is."""
        good = isinstance(value, str) and re.fullmatch(self.pattern, value)
        return None if good else f"it must match {self.pattern}"


@dataclasses.dataclass(frozen=True)
class AtLeast:
    """A number must not be less."""

    least: int

    def fault(self, value: object) -> str | None:
        """Return what is wrong with a value; None if nothing is."""
        good = isinstance(value, int) and value >= self.least
        return None if good else f"it must be at least {self.least}"


class MisfitError(ValueError):
    """A value has not the shape that it should have; `faults` names each place."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = tuple(faults)


def read(shape: type[Any], value: object) -> Any:  # noqa: ANN401 - an instance of the shape
    """Return a JSON value as an instance of a dataclass. All its fields must be there, no other.

    Raises:
        MisfitError: if it is none.
    """
    faults: list[str] = []
    found = _read(shape, value, "", faults)
    if faults:
        raise MisfitError(faults)
    return found


_PLAIN = frozenset((str, int, float, bool))


def plain(value: object) -> Any:  # noqa: ANN401 - anything JSON can carry
    """Return an instance of a dataclass, or what stands in its fields, as JSON has it."""
    if value is None or type(value) in _PLAIN:
        return value
    if dataclasses.is_dataclass(value):
        return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(name): plain(entry) for name, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry) for entry in value]
    return str(value) if isinstance(value, Path) else value


def _read(kind: Any, value: object, place: str, faults: list[str]) -> Any:  # noqa: ANN401 - types as values
    """Return a value as that type says; what is wrong is added to `faults`."""
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        return _record(kind, value, place, faults)
    words = get_args(kind)
    if words:
        return _READERS[get_origin(kind)](words, value, place, faults)
    if kind is Path:
        # Of an empty one pathlib makes the working directory, whatever that is.
        good = isinstance(value, str) and value
        return Path(str(value)) if good else _wrong("a path", place, faults)
    if kind is float and type(value) is int:
        return value
    return value if type(value) is kind else _wrong(_NAMES[kind], place, faults)


_NAMES = {str: "a string", int: "a whole number", float: "a number", bool: "true or false"}


def _wrong(expected: str, place: str, faults: list[str]) -> None:
    faults.append(f"{place or 'it'}: it must be {expected}")


def _record(kind: type[Any], value: object, place: str, faults: list[str]) -> Any:  # noqa: ANN401
    if not isinstance(value, dict):
        return _wrong("an object", place, faults)
    hints, before = _hints(kind), len(faults)  # type: ignore[arg-type] # a type has a hash
    given = {}
    for name, expected in hints.items():
        if name in value:
            given[name] = _read(expected, value[name], _below(place, name), faults)
        else:
            faults.append(f"{_below(place, name)} is missing")
    faults += [f"{_below(place, name)} is unknown" for name in value if name not in hints]
    return kind(**given) if len(faults) == before else None


@cache
def _hints(kind: Hashable) -> dict[str, Any]:
    return get_type_hints(kind, include_extras=True)


def _marked(words: tuple[Any, ...], value: object, place: str, faults: list[str]) -> Any:  # noqa: ANN401
    before = len(faults)
    found = _read(words[0], value, place, faults)
    if len(faults) == before:
        faults += [f"{place}: {why}" for mark in words[1:] if (why := mark.fault(value))]
    return found


def _one_of(words: tuple[Any, ...], value: object, place: str, faults: list[str]) -> Any:  # noqa: ANN401
    if isinstance(value, str) and value in words:
        return value
    return _wrong(f"one of {', '.join(map(repr, words))}", place, faults)


def _either(words: tuple[Any, ...], value: object, place: str, faults: list[str]) -> Any:  # noqa: ANN401
    """Read an optional value; a union of anything else has no place in a record."""
    (kind,) = (word for word in words if word is not type(None))
    return None if value is None else _read(kind, value, place, faults)


def _row(words: tuple[Any, ...], value: object, place: str, faults: list[str]) -> Any:  # noqa: ANN401
    if not isinstance(value, (list, tuple)):
        return _wrong("a list", place, faults)
    many = len(words) == 2 and words[1] is Ellipsis
    if not many and len(value) != len(words):
        return _wrong(f"a list of {len(words)}", place, faults)
    kinds = [words[0]] * len(value) if many else words
    return tuple(
        _read(kind, entry, _below(place, number), faults)
        for number, (kind, entry) in enumerate(zip(kinds, value, strict=True))
    )


def _table(words: tuple[Any, ...], value: object, place: str, faults: list[str]) -> Any:  # noqa: ANN401
    if not isinstance(value, dict):
        return _wrong("an object", place, faults)
    return {
        name: _read(words[1], entry, _below(place, name), faults) for name, entry in value.items()
    }


# By the origin of a type that has arguments.
_READERS: dict[Any, Callable[[tuple[Any, ...], object, str, list[str]], Any]] = {
    Annotated: _marked,
    Literal: _one_of,
    Union: _either,
    types.UnionType: _either,
    tuple: _row,
    dict: _table,
    Mapping: _table,
}


def _below(place: str, name: object) -> str:
    text = str(name)
    shown = text if text.isprintable() else repr(text)
    return f"{place}.{shown}" if place else shown
