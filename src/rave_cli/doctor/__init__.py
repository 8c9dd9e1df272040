"""What this host has and lacks: named examinations that try things rather than look for them."""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import TYPE_CHECKING

from rave_cli import process
from rave_cli.doctor import backup, building, keys, machine, system
from rave_cli.doctor.examination import Diagnosis, Examination, declared
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["EXAMINATIONS", "Diagnosis", "Examination", "examine", "mend"]

EXAMINATIONS: Mapping[str, Examination] = {
    found.id: found
    for module in (system, building, machine, keys, backup)
    for found in declared(module)
}

# Seconds that a fix may take: packages are downloaded.
FIX_TAKES = 900.0


def examine(names: Iterable[str] = ()) -> list[Diagnosis]:
    """Run the named examinations, or all, in the order of EXAMINATIONS.

    Raises:
        RaveError: USAGE for an unknown name.
    """
    wanted = list(names) or list(EXAMINATIONS)
    for name in wanted:
        if name not in EXAMINATIONS:
            raise RaveError(
                f"there is no examination {name!r}",
                hint=f"rave doctor [{'|'.join(EXAMINATIONS)}]",
                exit_code=ExitCode.USAGE,
            )
    return [EXAMINATIONS[name].run() for name in EXAMINATIONS if name in wanted]


def mend(findings: Iterable[Diagnosis], on_fix: Callable[[Diagnosis], None]) -> list[Diagnosis]:
    """Run the fix of everything that is not ok, and return what is found there then."""
    again = []
    for finding in findings:
        if finding.status in ("ok", "skip") or not finding.fix:
            continue
        on_fix(finding)
        done = process.run(
            _runnable(finding.fix), env={"DEBIAN_FRONTEND": "noninteractive"}, timeout=FIX_TAKES
        )
        found = EXAMINATIONS[finding.id].run()
        if not done.ok and found.status not in ("ok", "skip"):
            why = " ".join(done.tail(1)) or f"exit status {done.returncode}"
            found = replace(found, detail=f"{found.detail}; the fix failed: {why}")
        again.append(found)
    return again


def _runnable(fix: tuple[str, ...]) -> tuple[str, ...]:
    """Return a command with rave as this very program, which need not be on PATH."""
    return (sys.executable, "-m", "rave_cli", *fix[1:]) if fix[0] == "rave" else fix
