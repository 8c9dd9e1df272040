"""The services of a machine to which people sign in: asked for, and given a new secret."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import accounts, secure
from rave_cli.flows.events import step
from rave_cli.machines import store
from rave_cli.secrets import identity
from rave_cli.secrets.init import rotate as renew

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from rave_cli.flows.accounts import SignInClient
    from rave_cli.flows.events import OnEvent
    from rave_cli.profiles.catalog import OidcClient, Secret
    from rave_cli.secrets.install import InstallReport


@dataclass(frozen=True)
class Rotated:
    """A client that has a new secret; `ended`: whether something of before was revoked."""

    machine: str
    client: OidcClient
    installed: InstallReport
    ended: bool

    def document(self) -> dict[str, Any]:
        """Return what became of it, for JSON."""
        return {
            "machine": self.machine,
            "client": self.client.id,
            "secret": self.client.secret,
            "ended": self.ended,
            "secrets": self.installed.document(),
        }


def of(name: str) -> tuple[SignInClient, ...]:
    """Return the clients of a running machine.

    Raises:
        RaveError: as asking for its accounts does.
    """
    return accounts.ask(name, "clients").clients


def show(name: str, client: str) -> SignInClient:
    """Return one client of a running machine.

    Raises:
        RaveError: USAGE if there is none of that id; as `of`.
    """
    found = of(name)
    for one in found:
        if one.id == client:
            return one
    raise _absent(name, client, [one.id for one in found])


def rotate(
    name: str, client: str, file: Path, secrets: Mapping[str, Secret], *, on_event: OnEvent
) -> Rotated:
    """Give a client of a running machine a new secret, in the operator's file and in the machine,
    where both sides prove that they took it; what was issued to it before is revoked.

    Args:
        name: the machine.
        client: the client's id.
        file: the operator's secrets file.
        secrets: the secrets there are.
        on_event: told what happens.

    Raises:
        RaveError: USAGE if the machine keeps no accounts or has no such client; SECRETS if the file
            cannot be changed or the machine does not take it: `rave secrets install` then does the
            rest; NOT_READY if it cannot be reached.
    """
    machine = store.load(name)
    accounts.ACCOUNTS.carried(machine)
    plan = store.plan(machine)
    known = plan.oidc_clients if plan is not None else {}
    if plan is None or client not in known:
        raise _absent(name, client, list(known))
    # Before anything changes: whether the machine can be asked at all.
    show(name, client)
    with step(on_event, "secrets", f"Making a new value of {known[client].secret}"):
        renew(file, secrets, (known[client].secret,), identity.load())
    installed = secure.install(machine, plan, file, on_event=on_event)
    ended = accounts.ask(name, "revoke-client", client=client)
    return Rotated(name, known[client], installed, ended.changed)


def _absent(machine: str, client: str, known: list[str]) -> RaveError:
    return RaveError(
        f"machine {machine} has no client {client!r} (it has: {', '.join(known) or 'none'})",
        hint=f"rave oauth clients {machine}",
        exit_code=ExitCode.USAGE,
    )
