"""Which characters a command may have, and how whatever was said elsewhere becomes plain text."""

from __future__ import annotations

import re
import unicodedata

# Characters of an answer; what is longer is cut.
LONGEST_ANSWER = 4000
CUT = " … (cut)"

# What nobody sees and everything that reads the text does: controls, marks that turn the direction
# of writing, tags, halves of pairs, and what no character is.
UNSEEN = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
# These are how people write: line ends, and what joins letters and emoji.
WRITTEN = frozenset("\n\t\u200c\u200d")

# Whom a word behind an @ reaches is decided by the chat, not by who wrote the text.
MENTION = re.compile(r"@(?=\w)")


def unseen(text: str) -> str:
    """Return the first character that nobody would see as U+XXXX; nothing if there is none."""
    for character in text:
        if _hidden(character):
            return f"U+{ord(character):04X}"
    return ""


def plain(text: str, most: int = LONGEST_ANSWER) -> str:
    """Return text that says no more than it shows, calls nobody, and is not longer than `most`."""
    # Cut first, so that what is endless costs nothing; nothing below makes it twice as long.
    head = text[: most * 2].replace("\r\n", "\n").replace("\r", "\n")
    seen = "".join("\ufffd" if _hidden(character) else character for character in head)
    quiet = MENTION.sub("(at)", seen)
    return quiet if len(quiet) <= most else quiet[: most - len(CUT)] + CUT


def storable(text: str) -> str:
    """Return text that can be written as UTF-8: halves of pairs are replaced."""
    return text.encode("utf-8", "replace").decode()


def _hidden(character: str) -> bool:
    return unicodedata.category(character) in UNSEEN and character not in WRITTEN
