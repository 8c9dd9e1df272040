"""JSON as rave writes it and as it accepts it back: one form for each value, nothing else.

All files of a transcript are ASCII, so that `sed` and `sha256sum` see the same bytes in every
locale. Reading is strict: duplicate keys, NaN, trailing data and endless nesting are refused, and
a text that differs from the canonical form of what it says is refused too.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn, TypeAlias

# What a guest says is cut to this, so that it cannot make a record too large or too deep to read.
LONGEST_TEXT = 16 * 1024
ROOM_FOR_NOTE = 64
DEEPEST = 32
# What is recorded twice, in an event and in the document, lies at other depths there. Nothing may
# be cut in one of them alone, so it is cut at this depth before.
DEEPEST_DATA = DEEPEST // 2
# A reader may take a whole number for a float, and even then it must be one.
LARGEST_NUMBER = 10**300

Json: TypeAlias = "dict[str, Json] | list[Json] | str | int | float | bool | None"


class DamagedError(ValueError):
    """Data that is not what it must be; the message goes on after "it is damaged: "."""


def to_json(value: object, depth: int = DEEPEST) -> Json:
    """Return `value` as plain JSON data that can always be written.

    Tuples become lists, numbers that are none (NaN, infinity) or beyond `LARGEST_NUMBER` become
    null, lone surrogates, which no decoder need accept, become U+FFFD, and what is nested more than
    `depth` deep is left out.

    Raises:
        TypeError: for anything that has no JSON form (bytes, paths, sets).
    """
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int | float):
        return value if abs(value) <= LARGEST_NUMBER else None
    if isinstance(value, str):
        return _whole(value)
    if depth == 0:
        return "[nested too deeply]"
    if isinstance(value, Mapping):
        return {_whole(str(name)): to_json(item, depth - 1) for name, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return [to_json(item, depth - 1) for item in value]
    raise TypeError(f"{type(value).__name__} has no JSON form")


def clip(value: Json) -> Json:
    """Return `value` with every text cut to `LONGEST_TEXT` characters, saying so.

    What was cut once is not cut again, so that a value which is recorded twice is the same twice.
    """
    if isinstance(value, dict):
        return {_clipped(name): clip(item) for name, item in value.items()}
    if isinstance(value, list):
        return [clip(item) for item in value]
    return _clipped(value) if isinstance(value, str) else value


def _clipped(text: str) -> str:
    if len(text) <= LONGEST_TEXT:
        return text
    kept = LONGEST_TEXT - ROOM_FOR_NOTE
    return f"{text[:kept]} [{len(text) - kept} more characters]"


def _whole(text: str) -> str:
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def document_bytes(value: Json) -> bytes:
    """Return the canonical bytes of a document: two spaces of indent, a final newline."""
    return _dumps(value, indent=2) + b"\n"


def line_bytes(value: Json) -> bytes:
    """Return the canonical bytes of one line: no spaces, a final newline."""
    return _dumps(value, separators=(",", ":")) + b"\n"


def _dumps(value: Json, **layout: Any) -> bytes:  # noqa: ANN401 - options of json.dumps
    return json.dumps(value, ensure_ascii=True, allow_nan=False, **layout).encode("ascii")


def same(one: Json, other: Json) -> bool:
    """Return whether two values are written the same; 1, 1.0 and true are three."""
    return line_bytes(one) == line_bytes(other)


def parse(raw: bytes) -> Json:
    """Read strict JSON.

    Raises:
        DamagedError: if it is not ASCII, not JSON, has a duplicate key, a number that is none,
            data behind its end, or is nested too deeply.
    """
    try:
        value: Json = json.loads(
            raw.decode("ascii"),
            object_pairs_hook=_unique,
            parse_constant=_no_number,
            parse_float=_finite,
            parse_int=_whole_number,
        )
    except DamagedError:
        raise
    except UnicodeDecodeError as error:
        raise DamagedError(f"byte {error.start} is not ASCII") from error
    except json.JSONDecodeError as error:
        raise DamagedError(f"it is not JSON ({error})") from error
    except ValueError as error:
        raise DamagedError("it holds a number that is too long") from error
    except RecursionError as error:
        raise DamagedError("it is nested too deeply") from error
    return value


def parse_document(raw: bytes) -> dict[str, Json]:
    """Read a JSON object that must be written exactly as `document_bytes` writes it.

    Raises:
        DamagedError: if it is not strict JSON, not an object, or not in canonical form.
    """
    return _exact(raw, document_bytes)


def parse_line(raw: bytes) -> dict[str, Json]:
    """Read a JSON object that must be written exactly as `line_bytes` writes it.

    Raises:
        DamagedError: if it is not strict JSON, not an object, or not in canonical form.
    """
    return _exact(raw, line_bytes)


def _exact(raw: bytes, write: Callable[[Json], bytes]) -> dict[str, Json]:
    value = parse(raw)
    if not isinstance(value, dict):
        raise DamagedError("it is not a JSON object")
    try:
        written = write(value)
    except RecursionError as error:
        raise DamagedError("it is nested too deeply") from error
    if written != raw:
        raise DamagedError("it is not written in the canonical form")
    return value


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise DamagedError(f"the key {twice!r} appears twice")
    return found


def _no_number(name: str) -> NoReturn:
    raise DamagedError(f"{name} is not a number")


def _whole_number(text: str) -> int:
    number = int(text)
    if abs(number) > LARGEST_NUMBER:
        raise DamagedError("it holds a number that is too long")
    return number


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise DamagedError(f"{text} is out of range")
    return number
