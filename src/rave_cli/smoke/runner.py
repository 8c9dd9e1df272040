"""Carries out a smoke run on a running machine and writes its reports and its transcript.

What is carried out is declared (suite.py); here stands what goes on beside what. The guest answers
its batches over the command channel, or where that is not to be had over one SSH connection; the
outside view goes through the forwarded ports, and so does the scan; connections are made ahead for
the logins that must fail; the host reads the image. What overlaps does not depend on each other.
The ban comes as soon as nothing else has to come in, for it shuts the outside out; the guest goes
on answering meanwhile, and lifts it.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

import paramiko

from rave_cli import signals
from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import lifecycle
from rave_cli.machines.guest import command
from rave_cli.machines.qemu import ports as forwarded
from rave_cli.machines.qemu import usernet
from rave_cli.machines.spec import SSH_PORT
from rave_cli.smoke import inside, onhost
from rave_cli.smoke.ban import release
from rave_cli.smoke.context import CheckContext, decoys
from rave_cli.smoke.model import Verdict, blocked, settle, unasked
from rave_cli.smoke.phases import OPT_IN
from rave_cli.smoke.recorder import RunRecorder
from rave_cli.smoke.suite import asked, suite

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rave_cli.smoke.context import Decoy
    from rave_cli.smoke.model import Check, Look, SmokeRun
    from rave_cli.smoke.phases import Step
    from rave_cli.smoke.request import SmokeRequest
    from rave_cli.transcript.check import CheckResult
    from rave_cli.transcript.events import Moment

NOT_ASKED = "not asked for (--phase)"

# Seconds that a run which is given up waits for what goes on beside; a port scan takes two.
STOPS = 5.0

# Seconds between two looks at what did not pass at first.
RETRY_PAUSE = 0.5


@dataclass(frozen=True)
class Settled:
    """Told after each result: how many of how many are settled, and the result."""

    result: CheckResult
    done: int
    total: int


class OutOfTimeError(Exception):
    """The run's time is over."""


def run(request: SmokeRequest, *, on_event: Callable[[Settled], None]) -> SmokeRun:
    """Ask every question, write reports and transcript, and return what was found.

    A run that is interrupted or out of time writes what it has, marked ABORTED and unsigned.

    Raises:
        RaveError: NOT_READY if the machine does not run; CHECK_FAILED if the time is over; HOST if
            something cannot be written.
        KeyboardInterrupt: after the aborted run was written.
    """
    ports = forwarded.of(request.machine)
    hidden = onhost.hidden(request.plan, request.operator, request.machine)
    with ExitStack() as stack:
        listeners = stack.enter_context(decoys(request.plan.facts.network.gateway))
        checks = patient(checks_of(request, listeners), lifecycle.pressure())
        chosen = asked(checks, request.phases)
        # From its first line on the log has an end, also if somebody ends the run at once.
        hold = stack.enter_context(signals.held())
        recorder = stack.enter_context(RunRecorder.begin(request, hidden, checks, chosen))
        context = CheckContext(
            request.machine, request.plan, request.image, ports, request.operator, hidden,
            listeners, deadline=time.monotonic() + request.timeout, known=recorder.known,
            digests=recorder.digests, keep_digest=recorder.keep_digest,
            recorded=recorder.recorded, session=request.session, recovery=request.recovery,
            provisions=request.provisions,
        )  # fmt: skip
        session = SmokeSession(request, context, checks, chosen, recorder, on_event)
        try:
            with hold.released():
                session.carry_out()
        except (KeyboardInterrupt, OutOfTimeError) as error:
            late = isinstance(error, OutOfTimeError)
            session.stop()
            recorder.abort(f"out of time after {request.timeout:g} s" if late else "interrupted")
            if not late:
                raise
            raise RaveError(
                f"the smoke run did not end within {request.timeout:g} s",
                hint="VALIDATION_TIMEOUT=3600 rave smoke run …; what was found is in"
                f" {request.output}",
                exit_code=ExitCode.CHECK_FAILED,
            ) from error
        return recorder.complete()


def forgo(request: SmokeRequest, reason: str) -> SmokeRun:
    """Write the run of a machine that did not become ready: aborted, unsigned, no check carried
    out.

    Raises:
        RaveError: HOST if something cannot be written.
    """
    hidden = onhost.hidden(request.plan, request.operator, request.machine)
    checks = checks_of(request)
    with RunRecorder.begin(request, hidden, checks, asked(checks, request.phases)) as recorder:
        return recorder.abort(reason)


def checks_of(request: SmokeRequest, listeners: Sequence[Decoy] = ()) -> tuple[Check, ...]:
    """Return the suite of a run."""
    spec = request.machine.spec
    return suite(
        request.plan,
        mode=spec.mode,
        instance=spec.instance_id,
        network=spec.network,
        memory_mib=spec.memory_mib,
        decoys=tuple(decoy.seen for decoy in listeners),
        named=OPT_IN if request.recovery is not None else frozenset(),
        withheld=request.withheld,
    )


def patient(checks: Sequence[Check], busy: float) -> tuple[Check, ...]:
    """Return checks that wait longer, by the factor that says how busy the host is: what takes a
    guest longer than it may is told as an error, and a busy host is none of the guest's.
    """
    return tuple(
        replace(
            check,
            timeout=check.timeout * busy,
            retry_for=check.retry_for * busy,
            look=_waiting(check.look, busy),
        )
        for check in checks
    )


def _waiting(look: Look | None, busy: float) -> Look | None:
    """Return a look that was given a time of its own with that times `busy`."""
    if not isinstance(look, partial) or "timeout" not in look.keywords:
        return look
    return partial(look, timeout=look.keywords["timeout"] * busy)


@dataclass
class SmokeSession:
    """One run under way: the checks, and the threads that carry them out."""

    request: SmokeRequest
    context: CheckContext
    checks: Sequence[Check]
    asked: Sequence[Check]
    recorder: RunRecorder
    on_event: Callable[[Settled], None]
    workers: list[Worker] = field(default_factory=list)
    stopped: bool = False

    # --- the course of a run ---------------------------------------------------------------------

    def carry_out(self) -> None:
        """Carry out every check.

        Raises:
            OutOfTimeError: the run's time is over.
        """
        image = self._beside(lambda: self._read_image("before", "image"))
        self.context.knocks.expect()
        knocks = self._beside(self._knock)
        view = self._beside(lambda: self._look("outside"))
        scan = self._beside(lambda: self._look("scan"))
        with self.context.stack as stack:
            stack.callback(self.context.knocks.close)
            self._look("start", "login")
            self.context.channel = stack.enter_context(command.connect(self.request.machine))
            inner = self._beside(lambda: self._look("early"))
            self._batch("early")
            # The longest batch, beside all that has to come in before the ban.
            self._batch("inside")
            self._look("traces")
            ban = self._beside(lambda: self._shut_out(knocks, view, scan, inner))
            tried = self.context.ban.to_be_lifted(self._left)
            gateway = self.request.plan.facts.network.gateway
            self._batch("late", [release(gateway)] if tried else [])
            self._join(knocks, view, scan, inner, ban, image)
            # Alone: what it takes of the host is not to be what the other checks saw.
            self._batch("sandbox")
            self._look("sandbox")
            self._batch("workflow")
        # Over connections of its own: those of the checks are closed by now.
        self._look("recovery")
        after = self._beside(lambda: self._read_image("after", "image-end"))
        self._look("end")
        self._join(after)
        for check in self.checks:
            if check.id not in self.recorder.known:
                self._record(unasked(check, NOT_ASKED))

    def stop(self) -> None:
        """Let what goes on beside come to an end, and take back what it added to the machine."""
        self.stopped = True
        self.context.ban.end(RaveError("the run was given up", exit_code=ExitCode.NOT_READY))
        deadline = time.monotonic() + STOPS
        for worker in self.workers:
            worker.join(max(0.0, deadline - time.monotonic()))
        usernet.take_back(self.request.machine)

    def _knock(self) -> None:
        """Make the connections of the logins that must fail, ahead of their turn."""
        looks = {c.look for c in self.asked if c.step == "logins"}
        port = self.context.ports.get(SSH_PORT)
        count = 0 if port is None else len(looks)
        self.context.knocks.make(self.request.machine, port or 0, count)

    def _shut_out(self, *before: Worker) -> None:
        """Fail to log in, and get banned, once nothing else has to come in."""
        try:
            self._join(*before)
            self._look("logins", "ban")
        finally:
            self.context.ban.forgo()

    def _read_image(self, moment: Moment, step: Step) -> None:
        """Carry out the checks that read the image; its digest stands in the transcript, whatever
        is asked.
        """
        self._look(step)
        if moment not in self.context.digests:
            try:
                self.context.keep_digest(moment, onhost.digest(self.request.image))
            except OSError:
                self.recorder.no_digest(moment)

    # --- asking ----------------------------------------------------------------------------------

    def _batch(self, step: Step, beside: Sequence[Check] = ()) -> None:
        """Let the guest carry out the checks of a step in one call, and beside them what lifts the
        ban.
        """
        batch = [c for c in self.asked if c.viewpoint == "guest" and c.step == step]
        if not batch and not beside:
            return
        known = self.recorder.known
        began = time.monotonic()
        try:
            # First: it waits for most of its time, and the others go on meanwhile.
            asked = [*beside, *batch]
            answer = inside.ask(self.context.asked, asked, known, most_seconds=self._left())
        except RaveError as error:
            if beside:
                self.context.ban.end(error)
            self._left()
            self.recorder.keep_facts(step, {})
            spent = time.monotonic() - began
            for check in batch:
                verdict = Verdict("error", error.message)
                self._record(settle(check, verdict, seconds=spent, attempts=1))
            return
        self.recorder.keep_facts(step, answer.facts)
        for result in answer.results:
            if result.id in {check.id for check in beside}:
                self.context.ban.lifted(result)
            else:
                self._record(result)

    def _look(self, *steps: Step) -> None:
        """Carry out the checks on the host and from outside of some steps, one after another."""
        for step in steps:
            looks: dict[Look | None, list[Check]] = {}
            for check in self.asked:
                if check.viewpoint != "guest" and check.step == step:
                    looks.setdefault(check.look, []).append(check)
            for look, checks in looks.items():
                self._answer(look, checks)

    def _answer(self, look: Look | None, checks: Sequence[Check]) -> None:
        """Answer one or several checks with one look; a fault of the look is an error."""
        if self.stopped:
            raise OutOfTimeError
        open_ = []
        for check in checks:
            reason = blocked(check, self.recorder.known)
            if reason is None:
                open_.append(check)
            else:
                self._record(unasked(check, reason))
        if look is None or not open_:
            return
        began = time.monotonic()
        found, attempts = self._insisted(look, max(check.retry_for for check in open_))
        seconds = time.monotonic() - began
        for check in open_:
            verdict = found if isinstance(found, Verdict) else found[check.id]
            result = settle(check, verdict, seconds=seconds / len(open_), attempts=attempts)
            self._record(result, spent=seconds)

    def _insisted(
        self, look: Look, retry_for: float
    ) -> tuple[Verdict | Mapping[str, Verdict], int]:
        """Look until nothing is wrong or `retry_for` seconds are over, as the guest's own checks
        do; return what was found last, and how often was looked.
        """
        until = min(time.monotonic() + retry_for, self.context.deadline) - RETRY_PAUSE
        attempts = 1
        while _bad(found := _looked(look, self.context)) and time.monotonic() < until:
            if self.stopped:
                raise OutOfTimeError
            time.sleep(RETRY_PAUSE)
            attempts += 1
        return found, attempts

    def _record(self, result: CheckResult, *, spent: float | None = None) -> None:
        self.recorder.add(result, spent=spent)
        done = len(self.recorder.known)
        self.on_event(Settled(self.recorder.known[result.id], done, len(self.checks)))

    # --- time ------------------------------------------------------------------------------------

    def _left(self) -> float:
        """Return the seconds left.

        Raises:
            OutOfTimeError: there are none.
        """
        left = self.context.deadline - time.monotonic()
        if left <= 0:
            raise OutOfTimeError
        return left

    def _beside(self, work: Callable[[], None]) -> Worker:
        worker = Worker(work)
        self.workers.append(worker)
        worker.start()
        return worker

    def _join(self, *workers: Worker) -> None:
        for worker in workers:
            while worker.is_alive():
                worker.join(min(0.2, self._left()))
            if worker.fault is not None:
                raise worker.fault


class Worker(threading.Thread):
    """A part of a run that goes on beside the others; a fault waits for whoever joins it.

    It is a daemon: an interrupted run waits no longer than STOPS, nor hears of its faults.
    """

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(daemon=True)
        self.fault: RaveError | None = None
        self._work = work

    def run(self) -> None:
        """Do the work."""
        try:
            self._work()
        except RaveError as error:
            self.fault = error
        except OutOfTimeError:
            # The main thread has noticed as well, or is about to.
            return


def _bad(found: Verdict | Mapping[str, Verdict]) -> bool:
    """Return whether any of what was found fails."""
    verdicts = [found] if isinstance(found, Verdict) else found.values()
    return any(verdict.status in ("fail", "error") for verdict in verdicts)


def _looked(look: Look, context: CheckContext) -> Verdict | Mapping[str, Verdict]:
    """Return what a look found; whatever foreseeably stops it is an error, never a pass."""
    try:
        return look(context)
    except RaveError as error:
        return Verdict("error", error.message)
    except (OSError, EOFError, ValueError, KeyError, paramiko.SSHException) as error:
        return Verdict("error", f"{type(error).__name__}: {error}")
