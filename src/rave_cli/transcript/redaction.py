"""Keeps secret values out of everything a run writes, in whatever form they turn up."""

from __future__ import annotations

import base64
import html
import json
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_plus

from rave_cli.transcript.canonical import DEEPEST, Json, clip, to_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MARK = "[redacted]"

# Below these lengths a value turns up by chance, in ordinary words and in digests.
SHORTEST_SECRET = 6
SHORTEST_FORM = 8
SHORTEST_LINE = 16

# Column widths at which base64 is commonly wrapped (PEM, coreutils).
WRAPS = (64, 76)


class Redactor:
    """Replaces secret values in text and JSON, and counts how often it had to.

    It knows each value as it is, JSON-, URL-, HTML-, shell- and Python-escaped, in hex and in
    base64 at any offset; values of several lines are also known line by line. Secrets shorter
    than six bytes are not searched for.
    """

    def __init__(self, secrets: Iterable[bytes] = ()) -> None:
        self.count = 0
        self._forms: tuple[str, ...] = ()
        self._escaped: tuple[str, ...] = ()
        self.learn(secrets)

    def learn(self, secrets: Iterable[bytes]) -> None:
        """Add values that must not be written from now on."""
        known = set(self._forms)
        for secret in secrets:
            known.update(forms(secret))
        self._forms = tuple(sorted(known, key=lambda form: (-len(form), form)))
        self._escaped = tuple(_json_escape(form) for form in self._forms)

    def text(self, text: str) -> str:
        """Return `text` with every form of every secret replaced by the mark."""
        for form in self._forms:
            found = text.count(form)
            if found:
                self.count += found
                text = text.replace(form, MARK)
        return text

    def value(self, value: object, depth: int = DEEPEST) -> Json:
        """Return `value` as JSON data without secrets, keys included.

        See `canonical.to_json` and `canonical.clip` for what becomes of odd and endless data; it is
        cut after redaction, so that no part of a secret is left at the cut.
        """
        plain = to_json(value, depth)
        return clip(self._walk(plain) if self.finds(json.dumps(plain)) else plain)

    def finds(self, written: str) -> bool:
        """Return whether JSON text, as rave writes it, holds any form of any secret."""
        return any(form in written for form in self._escaped)

    def _walk(self, value: Json) -> Json:
        if isinstance(value, dict):
            return {self.text(name): self._walk(item) for name, item in value.items()}
        if isinstance(value, list):
            return [self._walk(item) for item in value]
        if isinstance(value, str):
            return self.text(value)
        if value is None or isinstance(value, bool):
            return value
        written = json.dumps(value)
        redacted = self.text(written)
        return value if redacted == written else redacted


def redact(value: object, secrets: Iterable[bytes]) -> tuple[Json, int]:
    """Return text or JSON data without `secrets`, and how many places were replaced."""
    redactor = Redactor(secrets)
    return redactor.value(value), redactor.count


def forms(secret: bytes) -> set[str]:
    """Return the texts in which a secret value may turn up; none if it is too short to tell."""
    secret = secret.strip()
    if len(secret) < SHORTEST_SECRET:
        return set()
    found = set(_encoded(secret))
    for text in _texts(secret):
        found.add(text)
        found.update(form for form in _escapes(text) if len(form) >= SHORTEST_FORM)
    return found


def _texts(secret: bytes) -> Iterator[str]:
    """Yield the secret as text, and each of its lines, as a journal would split it."""
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return
    yield text
    for line in text.splitlines():
        if len(line.strip()) >= SHORTEST_LINE and not line.startswith("-----"):
            yield line.strip()


def _escapes(text: str) -> Iterator[str]:
    yield _json_escape(text)
    yield _json_escape(_json_escape(text))
    yield json.dumps(text, ensure_ascii=False)[1:-1]
    yield repr(text)[1:-1]
    yield html.escape(text)
    yield text.replace("'", "'\\''")
    yield text.replace("'", "'\"'\"'")
    for encoded in (quote(text), quote(text, safe=""), quote_plus(text)):
        yield encoded
        yield _lower_percent(encoded)


def _encoded(secret: bytes) -> Iterator[str]:
    for digits in (secret.hex(), secret.hex(":")):
        yield digits
        yield digits.upper()
    for lead in range(3):
        # What base64 makes of the secret behind 0, 1 or 2 other bytes, without the characters
        # that also depend on its neighbours.
        padded = base64.b64encode(b"\0" * lead + secret)
        start = (0, 2, 3)[lead]
        end = len(padded) if (lead + len(secret)) % 3 == 0 else len(padded.rstrip(b"=")) - 1
        core = padded[start:end].decode()
        if len(core) >= SHORTEST_FORM:
            yield core
            yield core.replace("+", "-").replace("/", "_")
    whole = base64.b64encode(secret).decode()
    for width in WRAPS:
        if len(whole) > width:
            pieces = [whole[at : at + width] for at in range(0, len(whole), width)]
            yield from (piece for piece in pieces if len(piece) >= SHORTEST_LINE)


def _json_escape(text: str) -> str:
    return json.dumps(text)[1:-1]


def _lower_percent(text: str) -> str:
    parts = text.split("%")
    return "%".join([parts[0], *(part[:2].lower() + part[2:] for part in parts[1:])])
