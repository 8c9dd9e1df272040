"""Carries out a smoke run on a running machine and writes its reports and its transcript.

Three things go on at once: the guest answers its batches over one SSH connection, the outside view
goes through the forwarded ports, and the host reads the image. What overlaps does not depend on
each other. The ban comes last of the outside view, because it shuts the outside out.
"""

from __future__ import annotations

import threading
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import paramiko

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines.guest import ssh
from rave_cli.machines.guest.door import Door
from rave_cli.machines.qemu import ports as forwarded
from rave_cli.machines.spec import SSH_PORT
from rave_cli.smoke import canaries, inside, onhost, outside, scan
from rave_cli.smoke.ban import BAN, Gate
from rave_cli.smoke.model import Question, SmokeRun, Verdict, blocked, settle, unasked
from rave_cli.smoke.questions import GATEWAY, SSH, Subject, suite
from rave_cli.smoke.recorder import RunRecorder
from rave_cli.smoke.scene import Scene, decoys

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from rave_cli.machines.guest.door import Runs
    from rave_cli.machines.guest.ssh import Session
    from rave_cli.machines.spec import Machine
    from rave_cli.smoke.request import Request
    from rave_cli.transcript.check import CheckResult

# Guest questions of the first batch; the rest must come after whatever handles secrets.
FIRST_BATCH = ("boot", "health", "secrets")
NOT_ASKED = "not asked for (--phase)"


@dataclass(frozen=True)
class Progress:
    """Told after each result: how many of how many are settled, and the result."""

    result: CheckResult
    done: int
    total: int


class OutOfTimeError(Exception):
    """The run's time is over."""


def run(request: Request, *, on_event: Callable[[Progress], None]) -> SmokeRun:
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
        listeners = stack.enter_context(decoys(GATEWAY))
        scene = Scene(
            request.machine, request.plan, request.image, ports, request.operator, hidden, listeners
        )
        questions = suite(request.plan, subject_of(request.machine, scene))
        recorder = stack.enter_context(RunRecorder.begin(request, hidden, questions))
        visit = Visit(request, scene, questions, recorder, on_event)
        try:
            visit.carry_out()
        except (KeyboardInterrupt, OutOfTimeError) as error:
            late = isinstance(error, OutOfTimeError)
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


def subject_of(machine: Machine, scene: Scene) -> Subject:
    """Return what the questions depend on besides the plan."""
    spec = machine.spec
    return Subject(
        mode=spec.mode,
        instance=spec.instance_id,
        network=spec.network,
        memory_mib=spec.memory_mib,
        decoys=tuple(decoy.seen for decoy in scene.decoys),
    )


@dataclass
class Visit:
    """One run under way: the questions, and the threads that answer them."""

    request: Request
    scene: Scene
    questions: Sequence[Question]
    recorder: RunRecorder
    on_event: Callable[[Progress], None]
    began: float = field(default_factory=time.monotonic)

    def __post_init__(self) -> None:
        phases = self.request.phases
        self.asked = {q.id: q for q in self.questions if phases is None or q.phase in phases}
        # Whatever is asked inside needs the login.
        self.asked |= {q.id: q for q in self.questions if q.id == SSH}
        self._shown: bytes | None = None

    # --- the course of a run ---------------------------------------------------------------------

    def carry_out(self) -> None:
        """Answer every question.

        Raises:
            OutOfTimeError: the run's time is over.
        """
        image = self._thread(self._image_before)
        self._simple()
        with ExitStack() as stack:
            session = self._log_in(stack)
            view = self._thread(lambda: self._outer_view(session))
            self._batch(session, lambda q: q.phase in FIRST_BATCH or q.id == BAN.settings)
            self._answer(["networking.outward"], lambda: onhost.decoys(self.scene))
            self._join(view)
            gate = self._thread(lambda: self._ban(session))
            self._batch(session, lambda _: True)
            self._join(gate, image)
        after = self._thread(self._image_after)
        self._last()
        self._join(after)
        self._unasked()

    def _log_in(self, stack: ExitStack) -> Session | None:
        """Open the one connection; its failure is a result like any other."""
        opened: list[Session] = []

        def look() -> Verdict:
            timeout = min(60.0, self._left())
            port = self.scene.ports[SSH_PORT]
            opened.append(
                stack.enter_context(ssh.connect(self.request.machine, port=port, timeout=timeout))
            )
            return Verdict("pass", "key accepted, host key as pinned before the first boot")

        self._answer([SSH], look)
        return opened[0] if opened else None

    def _simple(self) -> None:
        """Ask what costs nothing."""
        scene = self.scene
        for id_, look in (
            ("configuration.plan", onhost.plan),
            ("configuration.resources", onhost.resources),
            ("image.read-only", onhost.read_only),
            ("image.overlay", onhost.overlay),
            ("boot.stages", onhost.stages),
            ("performance.boot", onhost.boot_time),
            ("performance.image", onhost.image_size),
        ):
            self._answer([id_], lambda look=look: look(scene))  # type: ignore[misc]
        self._answer(["configuration.secrets-file"], lambda: onhost.secrets_file(scene.operator))
        later = [q.id for q in self.asked.values() if q.skip is not None]
        for id_ in later:
            self._answer([id_], lambda: Verdict("skip", ""))

    def _image_before(self) -> None:
        def look() -> Verdict:
            before = self.recorder.keep_digest("before", onhost.digest(self.request.image))
            return onhost.integrity(self.request.image, before)

        # The digest stands in the transcript, whatever is asked.
        self._answer(["image.integrity"], look, always=True)
        self._answer(["security.canary-image"], lambda: canaries.image(self.scene))

    def _image_after(self) -> None:
        def look() -> Verdict:
            after = self.recorder.keep_digest("after", onhost.digest(self.request.image))
            return onhost.unchanged(self.recorder.digests["before"], after)

        self._answer(["image.unchanged"], look, always=True)

    def _outer_view(self, session: Session | None) -> None:
        """TLS, pages, the port scan, and failing logins: fewer than get an address banned."""
        scene = self.scene

        def versions() -> Mapping[str, Verdict]:
            verdicts, self._shown = outside.tls(scene, 20.0)
            return verdicts

        # The pages are asked with the certificate that is shown here, whatever else is asked.
        self._answer(["security.tls-1.3", "security.tls-1.2"], versions, always=True)
        self._answer(
            ["security.certificate"],
            lambda: outside.certificate(self._shown, scene, self._inner_certificate(session)),
        )
        for question in self.asked.values():
            if question.viewpoint == "outside" and question.kind == "http":
                self._answer(
                    [question.id],
                    lambda question=question: outside.page(scene, self._shown, question),  # type: ignore[misc]
                )
        self._answer(["performance.page"], lambda: outside.page_time(scene, self._shown, 20.0))
        self._answer(["security.ports"], lambda: scan.ports(scene, 10.0))
        pair = ["security.ssh-password", "security.ssh-stranger"]
        self._answer(pair, lambda: outside.ssh_refusals(scene, 30.0))
        self._answer(["security.ssh-root"], lambda: outside.ssh_root(scene, 30.0))

    def _inner_certificate(self, session: Session | None) -> bytes | None:
        """Fetch the certificate over the pinned connection, where the operator has none."""
        import ssl

        if session is None or "tls/certificate" in self.scene.operator.values:
            return None
        done = session.run(["cat", "/run/rave/tls/current.crt"], timeout=20, sudo=True)
        return ssl.PEM_cert_to_DER_cert(done.text.strip()) if done.ok else None

    def _ban(self, session: Session | None) -> None:
        """Let logins fail until this host is banned, now that it is known how long a ban lasts."""
        gate = Gate(self.scene, self._door(session) if session else None)
        settings = self.recorder.known.get(BAN.settings)
        self._answer([BAN.check], lambda: gate.try_ban(settings))

    def _last(self) -> None:
        """Look at what the run itself may have left."""
        self._answer(["performance.qemu"], lambda: onhost.qemu_memory(self.scene))
        self._answer(["security.canary-qemu"], lambda: canaries.qemu(self.scene))
        self._answer(["security.canary-logs"], lambda: canaries.logs(self.scene))
        self._answer(["security.canary-records"], lambda: self.recorder.redactions(self.scene))

    def _unasked(self) -> None:
        for question in self.questions:
            if question.id not in self.recorder.known:
                self._record(unasked(question, NOT_ASKED))

    # --- asking ----------------------------------------------------------------------------------

    def _batch(self, session: Session | None, wanted: Callable[[Question], bool]) -> None:
        """Ask the guest everything that is wanted and not yet answered, in one call."""
        known = self.recorder.known
        batch = [
            question
            for question in self.asked.values()
            if question.viewpoint == "guest" and question.id not in known and wanted(question)
        ]
        if not batch:
            return
        began = time.monotonic()
        try:
            answer = inside.ask(
                self._door(session or _Nobody()), batch, known, most_seconds=self._left()
            )
        except RaveError as error:
            self._left()
            spent = time.monotonic() - began
            for question in batch:
                verdict = Verdict("error", error.message)
                self._record(settle(question, verdict, seconds=spent, attempts=1))
            return
        if answer.facts:
            self.recorder.keep_facts(answer.facts)
        for result in answer.results:
            self._record(result)

    def _door(self, session: Runs) -> Door:
        return Door.of(self.request.machine, session)

    def _answer(
        self,
        ids: Sequence[str],
        look: Callable[[], Verdict | Mapping[str, Verdict]],
        *,
        always: bool = False,
    ) -> None:
        """Answer one or several questions with one look; a fault of the look is an error."""
        questions = [self.asked[id_] for id_ in ids if id_ in self.asked]
        open_ = [q for q in questions if (reason := blocked(q, self.recorder.known)) is None]
        for question in questions:
            if question not in open_:
                reason = blocked(question, self.recorder.known)
                self._record(unasked(question, reason or ""))
        if not open_ and not always:
            return
        began = time.monotonic()
        found = _looked(look)
        seconds = time.monotonic() - began
        for question in open_:
            verdict = found if isinstance(found, Verdict) else found[question.id]
            self._record(settle(question, verdict, seconds=seconds / len(open_), attempts=1))

    def _record(self, result: CheckResult) -> None:
        self.recorder.add(result)
        done = len(self.recorder.known)
        self.on_event(Progress(self.recorder.known[result.id], done, len(self.questions)))

    # --- time ------------------------------------------------------------------------------------

    def _left(self) -> float:
        """Return the seconds left.

        Raises:
            OutOfTimeError: there are none.
        """
        left = self.began + self.request.timeout - time.monotonic()
        if left <= 0:
            raise OutOfTimeError
        return left

    @staticmethod
    def _thread(work: Callable[[], None]) -> Worker:
        worker = Worker(work)
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

    It is a daemon: an interrupted run neither waits for it nor hears of its faults.
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


class _Nobody:
    """Stands for the session that could not be opened; every question is blocked by then."""

    def run(self, argv: Sequence[str], **_: Any) -> Any:  # noqa: ANN401 - never returns
        raise RaveError(
            f"there is no connection to run {argv[0]} over",
            hint="rave vm status",
            exit_code=ExitCode.NOT_READY,
        )


def _looked(
    look: Callable[[], Verdict | Mapping[str, Verdict]],
) -> Verdict | Mapping[str, Verdict]:
    """Return what a look found; whatever foreseeably stops it is an error, never a pass."""
    try:
        return look()
    except RaveError as error:
        return Verdict("error", error.message)
    except (OSError, EOFError, ValueError, KeyError, paramiko.SSHException) as error:
        return Verdict("error", f"{type(error).__name__}: {error}")
