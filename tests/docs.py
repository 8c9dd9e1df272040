"""The `sh` blocks of the documentation, for the tests that check and run them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])

FENCE = re.compile(
    r"^```sh(?: no-run: (?P<reason>[^\n]+))?\n(?P<script>.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    """A shell block of a page; `reason` says why the tests do not run it."""

    page: Path
    script: str
    reason: str | None


def blocks(page: Path) -> list[Block]:
    """Return the shell blocks of a page, in order."""
    return [Block(page, m["script"], m["reason"]) for m in FENCE.finditer(page.read_text())]
