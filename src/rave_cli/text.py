"""Text from elsewhere, made safe to show: what a guest, a file or a program said may hold more.

Terminals act on control characters, and bidirectional ones change what a line seems to say.

Sources: ECMA-48 (C0, C1, escape sequences), xterm's ctlseqs.txt, Unicode UAX #9 (bidirectional
formatting characters).
"""

from __future__ import annotations

import re
from typing import Any

_BIDI = "\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069"
# C0 but for tab and line feed, DEL and C1.
_CONTROLS = "\x00-\x08\x0b-\x1f\x7f-\x9f"

# Sequences go as a whole, so that nothing of them is left as noise in what they stood in.
_SEQUENCE = re.compile(
    "(?:\x1b\\[|\x9b)[0-?]*[ -/]*[@-~]"  # CSI: colours, cursor
    f"|(?:\x1b[\\]PX^_]|[\x90\x98\x9d-\x9f])[^{_CONTROLS}\n]*(?:\x07|\x1b\\\\|\x9c)"  # OSC, DCS …
    "|\x1b[ -/]*[0-~]"  # everything else that begins with ESC
    f"|[{_CONTROLS}{_BIDI}\u2028\u2029]"
)
_SURROGATE = re.compile("[\ud800-\udfff]")
_JSON = re.compile(f"[\x7f-\x9f{_BIDI}\u2028\u2029\ud800-\udfff]")


def clean(text: str) -> str:
    """Return text without anything a terminal takes for more than text; tabs and newlines stay."""
    # What could not be decoded (PEP 383) cannot be encoded either.
    return _SURROGATE.sub("\ufffd", _SEQUENCE.sub("", text))


def line(text: str) -> str:
    """Return text as one clean line: what it says cannot pass for a line of ours."""
    return clean(text).replace("\n", " ")


def cell(text: str) -> str:
    """Return text as one clean line without tabs, which part the cells of a table in a pipe."""
    return line(text).replace("\t", " ")


def dump(document: Any, *, ascii_only: bool = False, indent: int | None = 2) -> str:  # noqa: ANN401 - anything JSON can carry
    """Return a document as JSON text that is safe to show; what `clean` removes is escaped.

    Without `indent` it is one line.
    """
    import json

    shown = json.dumps(document, indent=indent, ensure_ascii=ascii_only)
    return _JSON.sub(lambda found: f"\\u{ord(found[0]):04x}", shown)
