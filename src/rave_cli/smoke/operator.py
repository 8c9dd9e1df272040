"""Opens the operator's secrets for a run: to search for them, and to compare certificates."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.secrets import identity, policy, store, validate
from rave_cli.smoke.scene import Operator

if TYPE_CHECKING:
    from pathlib import Path

    from rave_cli.profiles.catalog import Plan


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
