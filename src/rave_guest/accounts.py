"""The verb accounts: who may sign in. The service that keeps the accounts carries it out.

Arguments {"action", "by", "arguments"}: what to do, who says so, and to whom. Every change that is
asked for is written down (audit.py), whether it is made or refused; a password never is.
"""

from __future__ import annotations

import re

from rave_guest import audit, plan, registry
from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    Provider = Callable[[str, Mapping[str, Any]], dict[str, Any]]

CONTRACT = "oidc"

# Names are parts of addresses, paths and chat names: one alphabet that is safe in all of them.
NAME = re.compile(r"[a-z][a-z0-9._-]{0,31}")
# A person's name: one line, nothing that a page could take for markup.
TITLE = re.compile(r"[^\x00-\x1f\x7f-\x9f<>&\"\u2028\u2029]{1,100}")
EMAIL = re.compile(r"[A-Za-z0-9._%+-]{1,64}@[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63}){0,8}")
MOST_GROUPS = 32

# Which arguments each action takes.
TAKES = {
    "add": {"user", "name", "email", "groups", "password"},
    "list": set(),
    "show": {"user"},
    "disable": {"user"},
    "enable": {"user"},
    "delete": {"user"},
    "reset-password": {"user"},
    "groups": {"user", "add", "remove"},
    "clients": set(),
    "revoke-client": {"client"},
}
READS = {"list", "show", "clients"}


def verb(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Carry out an action on the accounts of this guest."""
    if set(arguments) != {"action", "by", "arguments"}:
        raise Refused("request", "a request on accounts has an action, by whom, and its arguments")
    action, by, wanted = arguments["action"], arguments["by"], arguments["arguments"]
    check(action, wanted)
    if not isinstance(by, str) or not 0 < len(by) <= 200:
        raise Refused("request", "it is not said who asks")
    return carry_out(action, wanted, by, provider(plan.own()))


def carry_out(
    action: str, wanted: Mapping[str, Any], by: str, provide: Provider, log: str = audit.LOG
) -> dict[str, Any]:
    """Let the provider do what was asked for, and write down what became of it.

    Raises:
        Refused: as the provider does; SYSTEM if it cannot be written down, before it is done.
    """
    if action in READS:
        return provide(action, wanted)
    with audit.entry(log, action=action, by=by, **_told(wanted)) as entry:
        answer = provide(action, wanted)
        entry.result = "changed" if answer.get("changed") else "unchanged"
        return answer


def provider(own: Mapping[str, Any]) -> Provider:
    """Return what carries out actions on accounts in a guest of this plan.

    Raises:
        Refused: it has none.
    """
    for name, record in own["services"].items():
        if CONTRACT in record["provides"]:
            provide: Provider = registry.service(name).accounts  # type: ignore[union-attr]
            return provide
    raise Refused("request", "this guest carries no service that keeps accounts")


def check(action: object, wanted: object) -> None:
    """Check what is asked for, whoever sends it.

    Raises:
        Refused: an action that there is not, or arguments that it does not take.
    """
    if not isinstance(action, str) or action not in TAKES:
        raise Refused("request", f"there is no action {action!r} on accounts")
    if not isinstance(wanted, dict) or set(wanted) != TAKES[action]:
        raise Refused("request", f"{action} takes {', '.join(sorted(TAKES[action])) or 'nothing'}")
    _text(wanted, "user", NAME, "a name of a to z, 0 to 9, dot, hyphen and underscore, up to 32")
    _text(wanted, "client", NAME, "a name as a user's")
    _text(wanted, "name", TITLE, "a name of 1 to 100 characters without markup")
    if wanted.get("email"):
        _text(wanted, "email", EMAIL, "an address")
    for kind in ("groups", "add", "remove"):
        for title in _names(wanted.get(kind, [])):
            _text({"group": title}, "group", NAME, "a name as a user's")
    if not isinstance(wanted.get("password", False), bool):
        raise Refused("input", "whether a password is wanted must be true or false")


def _names(value: object) -> list[object]:
    if not isinstance(value, list) or len(value) > MOST_GROUPS:
        raise Refused("input", f"groups are a list of at most {MOST_GROUPS}")
    return value


def _text(wanted: Mapping[str, object], key: str, form: re.Pattern[str], what: str) -> None:
    value = wanted.get(key, None)
    if key in wanted and not (isinstance(value, str) and form.fullmatch(value)):
        raise Refused("input", f"{key} must be {what}")


def _told(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of the arguments is written down: all but whether a password was wanted."""
    return {key: value for key, value in wanted.items() if key != "password"}
