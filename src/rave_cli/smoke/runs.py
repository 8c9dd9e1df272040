"""Finds the transcripts of earlier runs. Nothing is verified here: that is `rave smoke verify`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from pathlib import Path

PATTERN = "boot_transcript_*.json"
OTHER = (".dsse.json", ".report.json")


@dataclass(frozen=True)
class Run:
    """What a transcript says of itself."""

    file: Path
    started: str
    status: str
    profile: str
    base: str
    counts: str

    def document(self) -> dict[str, Any]:
        """Return it as JSON data."""
        return asdict(self) | {"file": str(self.file)}


def find_runs(directory: Path) -> list[Run]:
    """Return the runs whose transcripts lie in `directory`, the newest first; damaged ones too."""
    files = [p for p in directory.glob(PATTERN) if not p.name.endswith(OTHER)]
    return sorted((_read(path) for path in files), key=lambda run: run.file.name, reverse=True)


def _read(path: Path) -> Run:
    try:
        document = json.loads(path.read_bytes())
        counts = document["test_summary"]
        return Run(
            file=path,
            started=str(document["start_time"]),
            status=str(document["overall_status"]),
            profile=str(document["profile"]),
            base=str(document["base"]),
            counts=", ".join(f"{value} {name}" for name, value in counts.items() if value),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return Run(path, "?", "damaged", "?", "?", "")
