"""The recovery phase: everything that the services keep is restored into a second machine.

One look answers all of it, for each step needs what the one before has made.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.errors import RaveError
from rave_cli.smoke.declarations import check
from rave_cli.smoke.model import Verdict, judge

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from rave_cli.smoke.context import CheckContext
    from rave_cli.smoke.recovering import Marks, Recovers

MARKED, BACKUP, RESTORE, CONTENT, CLEAN = IDS = tuple(
    f"recovery.{name}" for name in ("marked", "backup", "restore", "content", "clean")
)


@check(MARKED, phase="recovery", viewpoint="host", step="recovery",
       title="each service that keeps something takes a mark")  # fmt: skip
@check(BACKUP, phase="recovery", viewpoint="host", step="recovery",
       title="what they keep is backed up",
       figures={"seconds": "backup_seconds", "rpo_seconds": "recovery_rpo_seconds",
                "bytes": "backup_bytes"})  # fmt: skip
@check(RESTORE, phase="recovery", viewpoint="host", step="recovery",
       title="a second machine is made of it, and is healthy",
       figures={"rto_seconds": "recovery_rto_seconds"})  # fmt: skip
@check(CONTENT, phase="recovery", viewpoint="host", step="recovery",
       title="every mark is there, whole")  # fmt: skip
@check(CLEAN, phase="recovery", viewpoint="host", step="recovery",
       title="nothing of it is left")  # fmt: skip
def recovery(context: CheckContext) -> Mapping[str, Verdict]:
    """Mark, back up, restore, compare, clean up."""
    if context.recovery is None:
        return dict.fromkeys(IDS, Verdict("skip", "nobody is here who could make a second machine"))
    return carried_out(context.recovery)


def carried_out(steps: Recovers) -> dict[str, Verdict]:
    """Take the steps; what comes after one that fails is skipped, but for the last."""
    marked: dict[str, Marks] = {}
    found: dict[str, Verdict] = {}

    def content() -> None:
        copy = steps.restore()
        found[RESTORE] = Verdict(
            "pass", f"RTO {copy.rto:.1f} s",
            {"rto_seconds": round(copy.rto, 3),
             "step_seconds": {name: round(spent, 3) for name, spent in copy.steps.items()}},
        )  # fmt: skip
        found[CONTENT] = compare(marked, copy.marks)

    def backup() -> None:
        made = steps.back_up()
        found[BACKUP] = Verdict(
            "pass", f"{made.name}: {made.size / 2**20:.1f} MiB in {made.seconds:.1f} s",
            {"seconds": round(made.seconds, 3), "rpo_seconds": round(made.rpo, 3),
             "bytes": made.size},
        )  # fmt: skip

    def mark() -> None:
        marked.update(steps.mark())
        problems = [f"{name} has no mark" for name, one in marked.items() if not one.count]
        problems += [] if marked else ["no service of this machine keeps anything"]
        found[MARKED] = judge(problems, f"{', '.join(sorted(marked))}", services=sorted(marked))

    try:
        for name, step in ((MARKED, mark), (BACKUP, backup), (RESTORE, content)):
            failed = _fault(step)
            if failed is not None:
                found[name] = failed
            if found[name].status != "pass":
                break
    finally:
        found[CLEAN] = _fault(steps.clean) or Verdict("pass", "marks, backup and machine are gone")
    why = next((name for name in IDS if name in found and found[name].status != "pass"), MARKED)
    skipped = Verdict("skip", f"{why} is a precondition")
    return {name: found.get(name, skipped) for name in IDS}


def _fault(step: Callable[[], None]) -> Verdict | None:
    """Take a step, and return what is wrong with it."""
    try:
        step()
    except RaveError as error:
        return Verdict("fail", error.message)
    return None


def compare(before: Mapping[str, Marks], after: Mapping[str, Marks]) -> Verdict:
    """Compare what was marked in a machine with what is found in its copy."""
    problems = []
    for name, mark in before.items():
        found = after.get(name)
        if found is None or not found.count:
            problems.append(f"{name} has lost its mark")
        elif found.count != mark.count:
            problems.append(f"{name} has {found.count} lines of {mark.count}")
        elif found.sha256 != mark.sha256:
            problems.append(f"{name} has other lines than it had")
    counts = {name: mark.count for name, mark in after.items()}
    lines = sum(counts.values())
    return judge(problems, f"{lines} lines in {len(counts)} services, unchanged", lines=counts)
