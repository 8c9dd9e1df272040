"""Everything in one go: get an image, get a running machine, secure it, prove it.

Whatever exists and is unchanged is used again, so that a second run costs little more than its
smoke suite.
"""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from rave_cli.flows import accounts, image, prove, secure, templates
from rave_cli.flows import plan as plans
from rave_cli.flows.events import Event
from rave_cli.machines.guest import command, ssh
from rave_cli.secrets.install import pack_for
from rave_cli.secrets.store import place

if TYPE_CHECKING:
    from contextlib import AbstractContextManager
    from pathlib import Path

    from rave_cli.flows.accounts import AccountAnswer
    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.machine import NewMachine
    from rave_cli.images.manifest import Image
    from rave_cli.machines.guest.session import Session
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.machines.spec import Machine
    from rave_cli.profiles.catalog import Catalog, Plan
    from rave_cli.secrets.install import InstallReport, InstallRequest
    from rave_cli.settings import Settings
    from rave_cli.smoke.model import SmokeRun


@dataclass(frozen=True)
class UpReport:
    """A machine that is up, with its secrets; `run` is None if no check was asked for, `first` if
    no first account was made.
    """

    image: Image
    ready: Ready
    installed: InstallReport
    run: SmokeRun | None
    first: AccountAnswer | None = None

    @property
    def passed(self) -> bool:
        """Whether nothing that was asked is wrong."""
        return self.run is None or prove.passed(self.run)

    def document(self) -> dict[str, Any]:
        """Return the report for JSON."""
        return {
            "image": self.image.document(),
            "machine": self.ready.document,
            "secrets": self.installed.document(),
            "smoke": self.run.document() if self.run else None,
            "firstUser": self.first.user.id if self.first and self.first.user else None,
        }


@dataclass
class _WarmWay:
    """What a start from a template brings along where all of it goes well: secrets that were there
    before the services, which start once then, and the login that ended it.
    """

    wanted: NewMachine
    file: Path
    on_event: OnEvent
    stack: ExitStack
    installed: InstallReport | None = None
    session: Session | None = None
    _given: InstallReport | None = None
    _plan: Plan | None = None
    _packed: Future[InstallRequest] | None = None

    def pack(self, copy: Machine) -> None:
        """Prepare the secrets of a machine while its QEMU starts: it stands still until it has
        them. What is wrong with them is told when they are given.
        """
        self._plan = plans.of(copy, lambda: self.wanted.plan, on_event=self.on_event)
        beside = self.stack.enter_context(ThreadPoolExecutor(1))
        self._packed = beside.submit(pack_for, copy, self._plan, self.file)

    def give_secrets(self, copy: Machine) -> None:
        """Install the secrets of a machine whose services have yet to come up."""
        with command.connect(copy) as channel:
            if channel is not None and self._plan is not None and self._packed is not None:
                self._given = secure.install(
                    copy, self._plan, self.file,
                    on_event=self._tell, session=channel, packed=self._packed.result,
                )  # fmt: skip

    def keep(self, login: AbstractContextManager[Session]) -> None:
        """Keep the login open, and what went before it: the machine is ready."""
        self.session, self.installed = self.stack.enter_context(login), self._given

    def _tell(self, event: Event) -> None:
        """Tell it as a part of the start."""
        if event.kind not in ("begin", "end", "failed"):
            self.on_event(replace(event, step="start"))


def up(
    wanted: NewMachine,
    catalog: Catalog,
    settings: Settings,
    *,
    fresh: bool,
    check: bool,
    cold: bool = False,
    on_event: OnEvent,
    keep_running: bool = False,
    first_user: bool = False,
) -> UpReport:
    """Build, launch, secure and prove a machine.

    Args:
        wanted: the machine.
        catalog: the secrets there should be.
        settings: where the flake and the signing key are.
        fresh: replace an existing machine; its disk is lost.
        check: whether to prove it.
        cold: boot a new machine even where there is a template.
        on_event: told what happens.
        keep_running: leave a machine that does not become ready running.
        first_user: make an account for whoever asks, where accounts are kept and there is none.

    Raises:
        RaveError: as the four steps do; USAGE if a machine of that name belongs to another profile
            or base.
    """
    file = place(None)
    made_from = image.get(wanted.plan, settings, mode=wanted.mode, on_event=on_event)
    made = secure.make(file, catalog.secrets, on_event=on_event)
    if made.added:
        on_event(Event("note", "secrets", f"made {len(made.added)} secrets in {file}"))

    with ExitStack() as stack:
        way = _WarmWay(wanted, file, on_event, stack)
        ready = templates.bring_up(
            wanted, made_from, fresh=fresh, cold=cold, keep_running=keep_running,
            on_event=on_event, on_made=way.pack, before=way.give_secrets, on_login=way.keep,
        )  # fmt: skip
        taken = ready.machine
        plan = plans.of(taken, lambda: wanted.plan, on_event=on_event)
        # One login serves all: it costs an emulated guest a second.
        session = way.session or stack.enter_context(ssh.connect(taken))
        installed = way.installed
        if installed is None:
            installed = secure.install(taken, plan, file, on_event=on_event, session=session)
        run = None
        if check:
            run = prove.prove(taken, plan, settings, on_event=on_event, session=session)
    # Last: a password that is shown once must not be lost with something that fails.
    made_first = accounts.first(taken.name) if first_user and plan.provides("oidc") else None
    return UpReport(made_from, ready, installed, run, made_first)
