"""Who may sign in to a machine's services: asked and changed through the door into its guest."""

from __future__ import annotations

import getpass
import re
import socket
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import store
from rave_cli.machines.guest import connection
from rave_cli.machines.guest.door import Door, UnusableAnswerError, VerbRefusedError

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

CONTRACT = "oidc"
TIMEOUT = 120.0  # seconds; the guest gives the service that keeps the accounts 90


class Account(BaseModel):
    """Somebody's account: `password` is `set`, `one-time` or `none`."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    name: str
    email: str
    groups: tuple[str, ...]
    state: str
    password: str
    created: str


class SignInClient(BaseModel):
    """A service to which people sign in: `secret` names the secret by which it proves to be itself;
    it is `registered` once that is installed.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    id: str
    service: str
    redirects: tuple[str, ...]
    scopes: tuple[str, ...]
    secret: str
    registered: bool


class AccountAnswer(BaseModel):
    """What became of a request: whether anything changed, and whom it was about.

    `password` is one that is used once; nothing shows it but what was asked to.
    """

    model_config = ConfigDict(frozen=True, extra="ignore")

    changed: bool = False
    user: Account | None = None
    users: tuple[Account, ...] = ()
    clients: tuple[SignInClient, ...] = ()
    password: str | None = Field(default=None, repr=False)

    def document(self, machine: str) -> dict[str, Any]:
        """Return the answer for JSON, with the password if there is one."""
        found: dict[str, Any] = {"machine": machine, "changed": self.changed}
        if self.user is not None:
            found["user"] = self.user.model_dump()
        return found if self.password is None else found | {"password": self.password}


def ask(name: str, action: str, /, **arguments: Any) -> AccountAnswer:  # noqa: ANN401 - JSON data
    """Let a running machine carry out an action on its accounts.

    Args:
        name: the machine.
        action: one of the guest's (rave_guest/accounts.py).
        arguments: what it takes.

    Raises:
        RaveError: USAGE if the machine keeps no accounts, or there is no such account, or another
            one; NOT_READY if it cannot be reached, or what keeps its accounts does not answer.
    """
    machine = store.load(name)
    carried(machine)
    request = {"action": action, "by": operator(), "arguments": arguments}
    with connection.connect(machine) as session:
        door = Door.of(machine, session)
        try:
            return AccountAnswer.model_validate(door.call("accounts", request, timeout=TIMEOUT))
        except VerbRefusedError as error:
            raise refused(name, str(arguments.get("user", "")), error) from error
        except ValidationError as error:
            raise UnusableAnswerError(
                f"machine {name} gave no usable answer about its accounts",
                hint=f"rave vm logs {name}",
                exit_code=ExitCode.NOT_READY,
            ) from error


def first(name: str) -> AccountAnswer | None:
    """Make the first account of a running machine, the caller's, with a password that is used once;
    None if there are accounts.

    Raises:
        RaveError: as `ask`.
    """
    if ask(name, "list").users:
        return None
    user = _as_user(operator().partition("@")[0])
    return ask(name, "add", user=user, name=user, email="", groups=["admin"], password=True)


def _as_user(text: str) -> str:
    """Return an account of this host as a name that the guest takes (rave_guest/accounts.py)."""
    kept = re.sub(r"[^a-z0-9._-]+", "", text.lower()).lstrip("0123456789._-")[:32]
    return kept or "operator"


def carried(machine: Machine) -> None:
    """Make sure that a machine keeps accounts.

    Raises:
        RaveError: USAGE if it does not.
    """
    plan = store.plan(machine)
    if plan is None or not plan.provides(CONTRACT):
        spec = machine.spec
        raise RaveError(
            f"machine {machine.name} keeps no accounts: {spec.profile} on {spec.base} has nothing"
            " to sign in to",
            hint="rave up --profile development --base debian",
            exit_code=ExitCode.USAGE,
        )


def operator() -> str:
    """Return who asks, for the guest's log: what this host calls the caller, and itself."""
    try:
        account = getpass.getuser()
    except (KeyError, OSError):
        account = "unknown"
    return f"{account}@{socket.gethostname()}"[:200]


def refused(machine: str, user: str, error: VerbRefusedError) -> RaveError:
    """Return the guest's no as an error of rave's, with the command that helps."""
    if error.stage == "absent" and not user:
        return RaveError(
            f"machine {machine}: {error.why}",
            hint=f"rave oauth clients {machine}",
            exit_code=ExitCode.USAGE,
        )
    hints = {
        "input": "rave user add --help",
        "exists": f"rave user show {machine} {user}; rave user list {machine}",
        "absent": f"rave user list {machine}",
    }
    if error.stage in hints:
        return RaveError(
            f"machine {machine}: {error.why}", hint=hints[error.stage], exit_code=ExitCode.USAGE
        )
    return RaveError(
        f"machine {machine} did not do it ({error.stage}): {error.why}",
        hint=f"rave vm status {machine}; rave vm logs {machine}",
        exit_code=ExitCode.NOT_READY,
    )
