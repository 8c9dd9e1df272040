"""A smoke run that carries nothing out: which checks a machine would be asked, each marked as such.

It is recorded as an aborted run, which is never signed, and in it every check is skipped: either
alone keeps it from satisfying a policy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rave_cli.smoke import onhost
from rave_cli.smoke.model import Verdict, settle, unasked
from rave_cli.smoke.recorder import RunRecorder
from rave_cli.smoke.runner import NOT_ASKED, Settled, checks_of
from rave_cli.smoke.suite import asked

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.smoke.model import Check, SmokeRun
    from rave_cli.smoke.request import SmokeRequest
    from rave_cli.transcript.check import CheckResult

WHY = "simulated: nothing was carried out"
# As what the data of each simulated check have it.
MARK = "simulated"


def simulate(request: SmokeRequest, *, on_event: Callable[[Settled], None]) -> SmokeRun:
    """Record what would be asked of a machine, which need not run.

    Raises:
        RaveError: HOST if something cannot be written.
    """
    hidden = onhost.hidden(request.plan, request.operator, request.machine)
    checks = checks_of(request)
    chosen = asked(checks, request.phases)
    carried_out = {check.id for check in chosen}
    with RunRecorder.begin(request, hidden, checks, chosen) as recorder:
        for number, check in enumerate(checks, 1):
            wanted = check.id in carried_out
            result = simulated(check) if wanted else unasked(check, NOT_ASKED)
            recorder.add(result)
            on_event(Settled(result, number, len(checks)))
        return recorder.abort(WHY)


def simulated(check: Check) -> CheckResult:
    """Return what stands for a check that would be carried out, or skipped."""
    if check.skip is not None:
        would = f"would be skipped: {check.skip}"
    else:
        would = f"would be asked of the {PLACES[check.viewpoint]}, {check.timeout:g} s at most"
    verdict = Verdict("skip", f"simulated: {would}", {MARK: True})
    return settle(check, verdict, seconds=0.0, attempts=0)


PLACES = {"guest": "guest", "outside": "forwarded ports", "host": "host"}


def is_simulated(result: CheckResult) -> bool:
    """Whether a result stands for a check that was not carried out."""
    return result.data.get(MARK) is True
