"""Everything in one go: get an image, get a running machine, secure it, prove it.

Whatever exists and is unchanged is used again, so that a second run costs little more than its
smoke suite.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.flows import accounts, image, machine, prove, secure
from rave_cli.flows import plan as plans
from rave_cli.flows.events import Event
from rave_cli.machines.guest import ssh
from rave_cli.secrets.store import place

if TYPE_CHECKING:
    from rave_cli.flows.accounts import AccountAnswer
    from rave_cli.flows.events import OnEvent
    from rave_cli.flows.machine import NewMachine
    from rave_cli.images.manifest import Image
    from rave_cli.machines.lifecycle import Ready
    from rave_cli.profiles.catalog import Catalog
    from rave_cli.secrets.install import InstallReport
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
    ready = machine.bring_up(
        wanted, made_from, fresh=fresh, cold=cold, keep_running=keep_running, on_event=on_event
    )
    taken = ready.machine
    plan = plans.of(taken, lambda: wanted.plan, on_event=on_event)
    made = secure.make(file, catalog.secrets, on_event=on_event)
    if made.added:
        on_event(Event("note", "secrets", f"made {len(made.added)} secrets in {file}"))
    # One login serves both: it costs an emulated guest a second.
    with ssh.connect(taken) as session:
        installed = secure.install(taken, plan, file, on_event=on_event, session=session)
        run = None
        if check:
            run = prove.prove(taken, plan, settings, on_event=on_event, session=session)
    # Last: a password that is shown once must not be lost with something that fails.
    made_first = accounts.first(taken.name) if first_user and plan.provides("oidc") else None
    return UpReport(made_from, ready, installed, run, made_first)
