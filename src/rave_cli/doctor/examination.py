"""What an examination of the host is, and what it finds."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from rave_cli.errors import RaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from types import ModuleType

Status = Literal["ok", "warn", "fail", "skip"]

# The page that says of each examination what it tries and what mends what it finds.
PAGE = "docs/reference/doctor.md"


@dataclass(frozen=True)
class Diagnosis:
    """What one examination found.

    Attributes:
        status: `warn` means slower, less protected or untidy, not broken.
        detail: what was found, in one line.
        fix: a command that mends it, if one does that takes nothing from anybody.
        advice: what to do about it by hand.
        facts: the same for programs: figures in the unit that their names say.
        id: of the examination.
    """

    status: Status
    detail: str
    fix: tuple[str, ...] = ()
    advice: str = ""
    facts: Mapping[str, object] = field(default_factory=dict)
    id: str = ""

    @property
    def page(self) -> str:
        """Where the documentation tells of it."""
        return f"{PAGE}#{self.id}"

    @property
    def document(self) -> dict[str, object]:
        """What `--json` carries."""
        return {
            "id": self.id,
            "status": self.status,
            "detail": self.detail,
            "fix": list(self.fix),
            "advice": self.advice,
            "page": self.page,
            "facts": dict(self.facts),
        }


@dataclass(frozen=True)
class Examination:
    """A question to the host. `title` is what it asks; `ask` tries to find out."""

    id: str
    title: str
    ask: Callable[[], Diagnosis]

    def run(self) -> Diagnosis:
        """Return what is found; a RaveError is a finding."""
        try:
            found = self.ask()
        except RaveError as error:
            found = Diagnosis("fail", error.message, advice=error.hint or "")
        return replace(found, id=self.id)

    @property
    def document(self) -> dict[str, object]:
        """What `--list-checks --json` carries."""
        return {"id": self.id, "title": self.title, "page": f"{PAGE}#{self.id}"}


def examination(name: str, title: str) -> Callable[[Callable[[], Diagnosis]], Examination]:
    """Declare the function below as an examination."""
    return lambda ask: Examination(name, title, ask)


def declared(module: ModuleType) -> list[Examination]:
    """Return the examinations that a module declares, in its order."""
    return [value for value in vars(module).values() if isinstance(value, Examination)]
