"""Text as HTML; the html module would import re."""

from __future__ import annotations


def escape(text: object) -> str:
    """Text as HTML, also within an attribute."""
    table = {"&": "&amp;", "<": "&lt;", ">": "&gt;", '"': "&quot;", "'": "&#39;"}
    return "".join(table.get(character, character) for character in str(text))


def marked(text: str) -> str:
    """Text as HTML, with what is between backticks as code."""
    parts = escape(text).split("`")
    return "".join(f"<code>{part}</code>" if at % 2 else part for at, part in enumerate(parts))
