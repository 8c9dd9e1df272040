"""The verb accounts: who may sign in. The service that keeps the accounts carries it out
(contract.py).
"""

from __future__ import annotations

import re

from rave_guest import audit
from rave_guest.contract import Contract, taken, takes
from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

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


def check(action: object, wanted: object) -> None:
    """Check what is asked for, whoever sends it.

    Raises:
        Refused: an action that there is not, or arguments that it does not take.
    """
    wanted = taken(wanted, takes(TAKES, action, "accounts"), action)
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


CONTRACT = Contract(
    "oidc", "accounts", does="keeps accounts", check=check, looks={"list", "show", "clients"},
    result=lambda answer: "changed" if answer.get("changed") else "unchanged", log=audit.LOG,
)  # fmt: skip
