"""Opens the operator's secrets for a run: to search for them, and to compare certificates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.secrets import identity, policy, store, validate

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rave_cli.profiles.catalog import Plan


@dataclass(frozen=True)
class Operator:
    """The operator's secrets. `values` is empty, and `missing` says why, where there are none.

    Args:
        values: name -> value of every secret of the plan.
        problems: what validation found to be wrong with the file.
        missing: why there are no values; None if there are.
    """

    values: Mapping[str, str] = field(default_factory=dict, repr=False)
    problems: tuple[str, ...] = ()
    missing: str | None = None

    @property
    def why_none(self) -> str:
        """Why there is nothing to search for, for a check that is skipped."""
        return self.missing or "the plan needs none"


def open_operator(plan: Plan, file: Path) -> Operator:
    """Return the plan's values from the operator's file, and what is wrong with the file.

    A missing file is not a fault of the machine, so nothing is raised: what depends on the values
    is skipped with the reason.
    """
    if not file.exists():
        return Operator(missing=f"there is no secrets file {file}")
    try:
        keys = identity.load()
        report, opened = validate.examine(
            file, store.read(file), policy.load(file), plan.secrets, keys
        )
    except RaveError as error:
        return Operator(problems=(error.message,), missing=error.message)
    problems = tuple(validate.describe(finding) for finding in report.errors)
    if opened is None:
        return Operator(problems=problems, missing="the secrets file cannot be opened")
    values = {name: opened.values[name] for name in plan.secrets if name in opened.values}
    return Operator(values=values, problems=problems)
