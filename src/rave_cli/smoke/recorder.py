"""Records a run under way: each result goes, redacted, to the hash-chained event log.

Much goes on at once, and the log has it in the order of the steps all the same: what ends early
waits for what stands before it. At the end the transcript is signed and the reports are written.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self

from rave_cli.machines import generations
from rave_cli.machines.status import origin_of
from rave_cli.smoke import reports
from rave_cli.smoke.context import Recorded
from rave_cli.smoke.model import SmokeRun
from rave_cli.smoke.phases import READS, STEPS
from rave_cli.smoke.record import run_record, run_subject
from rave_cli.smoke.turns import Turns
from rave_cli.transcript import EventLog, Redactor
from rave_cli.transcript import write as write_transcript
from rave_cli.transcript.events import timestamp

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from types import TracebackType

    from rave_cli.smoke.model import Check
    from rave_cli.smoke.phases import Step
    from rave_cli.smoke.request import SmokeRequest
    from rave_cli.transcript import RunSubject
    from rave_cli.transcript.check import CheckResult
    from rave_cli.transcript.events import Moment


class RunRecorder:
    """The record of a run under way. Threads may add results at the same time."""

    def __init__(
        self,
        request: SmokeRequest,
        log: EventLog,
        subject: RunSubject,
        checks: Sequence[Check],
        asked: Sequence[Check],
    ) -> None:
        self.request = request
        self.known: dict[str, CheckResult] = {}
        self.digests: dict[str, str] = {}
        self._log = log
        self._subject = subject
        self._checks = checks
        self._origin = origin_of(request.machine)
        self._replaced = generations.replaced(request.machine)
        self._turns = Turns(turns(checks, asked))
        self._facts: dict[str, Mapping[str, Any]] = {}
        self._lock = threading.Lock()
        self._began = time.monotonic()
        self._spans: dict[str, list[tuple[float, float]]] = {}

    @classmethod
    def begin(
        cls,
        request: SmokeRequest,
        hidden: Mapping[str, str],
        checks: Sequence[Check],
        asked: Sequence[Check],
    ) -> Self:
        """Create the event log.

        Args:
            request: what the run is asked to do.
            hidden: values that must not be recorded, by name.
            checks: the whole suite, in its order.
            asked: those of it that are carried out.

        Raises:
            RaveError: HOST if it cannot be written.
        """
        redactor = Redactor(value.encode() for value in hidden.values())
        log = EventLog.begin(request.output, nonce=request.nonce, redactor=redactor)
        subject = run_subject(request, checks)
        log.subject(subject)
        return cls(request, log, subject, checks, asked)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._log.close()

    def add(self, result: CheckResult, *, spent: float | None = None) -> None:
        """Keep a result, redacted, and write it to the event log when its turn has come; `spent`
        are the seconds of a look that answered others, too.

        Raises:
            RaveError: HOST if the disk is full.
        """
        now = time.monotonic() - self._began
        clean = result.cleaned(self._log.redactor)
        with self._lock:
            self.known[result.id] = clean
            self._spans.setdefault(result.phase, []).append((now - (spent or result.seconds), now))
        self._turns.put(result.id, lambda: self._log.check(clean))

    def keep_facts(self, step: Step, facts: Mapping[str, Any]) -> None:
        """Keep what the guest said about itself in a step, if anything, and write it to the event
        log when its turn has come.

        Raises:
            RaveError: as `add`.
        """

        def write() -> None:
            if facts:
                self._facts[step] = self._log.facts(facts)

        self._turns.put(facts_of(step), write)

    def keep_digest(self, moment: Moment, sha256: str) -> str:
        """Keep the image's digest in hex, write it to the event log when its turn has come, and
        return it.

        Raises:
            RaveError: as `add`.
        """
        self.digests[moment] = sha256
        self._turns.put(moment, lambda: self._log.digest(moment, sha256))
        return sha256

    def no_digest(self, moment: Moment) -> None:
        """Note that the image could not be read.

        Raises:
            RaveError: as `add`.
        """
        self._turns.put(moment, lambda: None)

    def recorded(self) -> Recorded:
        """Return how much has been recorded so far."""
        return Recorded(events=self._log.count, redacted=self._log.redactor.count)

    def complete(self) -> SmokeRun:
        """Sign and write everything.

        Raises:
            RaveError: HOST if something cannot be written; SECRETS if a secret would be published.
        """
        self._turns.end()
        return self._write(self.smoke_run(None))

    def abort(self, reason: str) -> SmokeRun:
        """Write what there is as an aborted run: unsigned, so that it can never be verified.

        Raises:
            RaveError: as `complete`.
        """
        self._turns.end()
        # Why a machine did not become ready may quote its console.
        reason = self._log.redactor.text(reason)
        self._log.abort(reason)
        return self._write(self.smoke_run(reason))

    def smoke_run(self, aborted: str | None) -> SmokeRun:
        """Return the run as a value, results in the order of the suite."""
        with self._lock:
            results = tuple(self.known[id_] for id_ in self._subject.checks if id_ in self.known)
            spans = {phase: list(found) for phase, found in self._spans.items()}
        subject = self._subject
        return SmokeRun(
            session=self._log.session.id,
            profile=subject.profile,
            base=subject.base,
            mode=subject.mode,
            machine=subject.machine.name,
            started=timestamp(self._log.session.started),
            seconds=time.monotonic() - self._began,
            results=results,
            phase_seconds={phase: covered(found) for phase, found in spans.items()},
            facts=next((self._facts[s] for s in reversed(STEPS) if s in self._facts), {}),
            aborted=aborted,
        )

    def _write(self, run: SmokeRun) -> SmokeRun:
        record = run_record(
            run,
            self._subject,
            self.request.plan,
            self.digests,
            self._checks,
            origin=self._origin,
            replaced=self._replaced,
        )
        files = write_transcript(record, self._log, self.request.key)
        places = {"transcript": files.document, "events": files.events}
        if files.dsse is not None and files.sshsig is not None:
            places |= {"attestation": files.dsse, "signature": files.sshsig}
        stem = self.request.output / self._log.session.stem
        places |= reports.places(stem)
        complete = run.with_files({name: str(path) for name, path in places.items()})
        reports.write(complete, stem)
        return complete


def turns(checks: Sequence[Check], asked: Sequence[Check]) -> Iterator[str]:
    """Yield what a run records, in its order: by step, and then as people read it; at last what was
    not asked for.

    Args:
        checks: the whole suite, in its order.
        asked: those of it that are carried out.
    """
    for step in STEPS:
        yield from (moment for moment, read in READS.items() if read == step)
        own = [check for check in asked if check.step == step]
        if any(check.viewpoint == "guest" for check in own):
            yield facts_of(step)
        yield from (check.id for check in own)
    carried_out = {check.id for check in asked}
    yield from (check.id for check in checks if check.id not in carried_out)


def facts_of(step: Step) -> str:
    """Return what the facts of a step are called among what is recorded."""
    return f"facts {step}"


def covered(spans: Sequence[tuple[float, float]]) -> float:
    """Return the length of time that spans (start, end) cover together."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(spans):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total
