"""Whether somebody agrees with what cannot be undone."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from rave_cli.show import Show


def agreed(show: Show, question: str, *, yes: bool) -> bool:
    """Return whether somebody agrees; `yes` is an answer given in advance.

    Raises:
        RaveError: USAGE if nobody can be asked, since standard input is no terminal.
        click.Abort: nobody answers.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise RaveError(
            f"nobody can be asked here: {question}",
            hint="the same command with --yes, if you agree",
            exit_code=ExitCode.USAGE,
        )
    return show.confirm(question, default=False)
