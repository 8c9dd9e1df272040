"""What a check of the secrets file found, as frozen values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One fault or doubt. `place` is a secret's name or a line of the file; never a value."""

    severity: Severity
    code: str
    message: str
    place: str | None = None
    hint: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the finding for JSON."""
        return asdict(self)


def error(code: str, message: str, *, place: str | None = None, hint: str | None = None) -> Finding:
    """Return a finding that makes the file unfit for use."""
    return Finding("error", code, message, place, hint)


def warning(
    code: str, message: str, *, place: str | None = None, hint: str | None = None
) -> Finding:
    """Return a finding that somebody should look at."""
    return Finding("warning", code, message, place, hint)
