"""Accounts as lines, and where a password that is used once may be shown."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from rave_cli.flows.accounts import Account, AccountAnswer
    from rave_cli.show import Show

COLUMNS = ("user", "state", "password", "groups", "address", "name")


def account_row(account: Account) -> tuple[str, ...]:
    """Return an account as a row of COLUMNS."""
    groups = " ".join(account.groups)
    return (
        account.id, account.state, account.password, groups, account.email, account.name
    )  # fmt: skip


def account_lines(account: Account) -> list[str]:
    """Return an account as lines."""
    rows = zip(COLUMNS, account_row(account), strict=True)
    return [f"{head:<9} {value}" for head, value in rows if value]


def shows_password(show: Show, *, asked: bool) -> bool:
    """Return whether a password has a place here: a terminal, or an answer in JSON that was asked
    to have it. A pipe and a file keep what they are given.

    Raises:
        RaveError: USAGE if it is asked for, and this is neither.
    """
    if show.as_json:
        return asked
    if not sys.stdout.isatty() and asked:
        raise RaveError(
            "a password is shown on a terminal, or in an answer in JSON",
            hint="the same command with --json, if what reads it may know the password",
            exit_code=ExitCode.USAGE,
        )
    return sys.stdout.isatty()


def password_lines(answer: AccountAnswer) -> list[str]:
    """Return what to say of a password, if there is one."""
    if answer.password is None:
        return []
    return [
        f"one-time password: {answer.password}",
        "It is shown this once, and has to be changed at the first sign-in.",
    ]
