"""The sandbox phase as this host sees it; what the guest sees of it, rave_guest/checks has."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.smoke.declarations import check
from rave_cli.smoke.model import Verdict, judge
from rave_cli.smoke.provisioning import NOT_LENT

if TYPE_CHECKING:
    from rave_cli.smoke.context import CheckContext

# Seconds for the machine of a job that is over to be gone.
GOES = 60.0

# Those of the guest: it has that many jobs run.
JOBS = 4


@check("sandbox.proven", phase="sandbox", viewpoint="host", step="sandbox",
       needs=("sandbox.runs",),
       title="each job ran in a machine of its own, and its end is signed for")  # fmt: skip
def proven(context: CheckContext) -> Verdict:
    """The pool knows the jobs as this machine's, and has a proof of each that is over."""
    if context.provisions is None:
        return Verdict("skip", NOT_LENT)
    found = context.provisions.jobs()
    problems = [
        f"job {one.name} is {one.state}, without a proof" for one in found if not one.proven
    ]
    problems += [f"job {one.name} names no machine" for one in found if not one.machine]
    if len(found) != JOBS:
        problems.append(f"{len(found)} jobs of this machine instead of {JOBS}")
    return judge(problems, f"{len(found)} jobs", jobs=[one.name for one in found])


@check("sandbox.clean", phase="sandbox", viewpoint="host", step="sandbox",
       needs=("sandbox.door",),
       title="no machine, disk or process of a sandbox is left, and none came out")  # fmt: skip
def clean(context: CheckContext) -> Verdict:
    """Nothing is left of the jobs' machines, and no listener of this host was reached."""
    if context.provisions is None:
        return Verdict("skip", NOT_LENT)
    names = [one.name for one in context.provisions.jobs()]
    problems = [*context.provisions.left(names, context.within(GOES))]
    visits = sum(decoy.visits() for decoy in context.decoys)
    if visits:
        problems.append(f"{visits} connections came to listeners of this host")
    return judge(problems, f"nothing of {len(names)} jobs is left", jobs=names)
