"""What a registry wants to see of whoever asks: the challenges of a `WWW-Authenticate` header.

Source: RFC 9110, 11.2, 11.3 and 11.6.1; RFC 6750, 3 (Bearer).
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Characters of all headers together.
LONGEST = 8192

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"  # noqa: S105 - of a grammar
_PARAMETER = re.compile(rf'({_TOKEN})[ \t]*=[ \t]*(?:"((?:[^"\\]|\\.)*)"|({_TOKEN}))')
_SCHEME = re.compile(rf"({_TOKEN})(?:[ ]+|(?=,)|\Z)")
_TOKEN68 = re.compile(r"[A-Za-z0-9._~+/-]+=*[ \t]*(?=,|\Z)")
_BETWEEN = re.compile(r"[ \t]*(?:,[ \t]*)*")


@dataclass(frozen=True)
class Challenge:
    """A scheme, in small letters, and its parameters, by names in small letters."""

    scheme: str
    parameters: Mapping[str, str] = field(default_factory=dict)


def parse(headers: Sequence[str]) -> list[Challenge]:
    """Return the challenges in the values of `WWW-Authenticate`, in their order.

    What is not understood ends the reading of its header: what came before it holds.
    """
    if sum(map(len, headers)) > LONGEST:
        return []
    return [challenge for header in headers for challenge in _read(header)]


def _read(text: str) -> list[Challenge]:
    found: list[Challenge] = []
    at = _after(_BETWEEN, text, 0)
    while at < len(text):
        parameter = _PARAMETER.match(text, at)
        if parameter is not None and found:
            name, quoted, plain = parameter.groups()
            value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
            known = found[-1].parameters
            # The first of two with one name: nobody can take it back behind it.
            found[-1] = Challenge(found[-1].scheme, {name.lower(): value, **known})
            at = parameter.end()
        else:
            scheme = _SCHEME.match(text, at)
            if scheme is None:
                break
            found.append(Challenge(scheme[1].lower()))
            at = scheme.end()
            if _PARAMETER.match(text, at) is None:
                at = _after(_TOKEN68, text, at)
        after = _after(_BETWEEN, text, at)
        if after == at and at < len(text) and not text[at - 1].isspace():
            break
        at = after
    return found


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return at if found is None else found.end()
