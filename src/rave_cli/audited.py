"""Lets the audit log tell of a command: a line of the verb's own says so, `@audited`."""

from __future__ import annotations

from functools import wraps
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from rave_cli import signals
from rave_cli.options import App

if TYPE_CHECKING:
    from collections.abc import Callable

    from rave_cli.audit import AuditedCommand

# Options whose values are names, not something that might be a secret.
TOLD = {"profile", "base", "mode", "name", "template"}


def audited(command: Callable[..., Any]) -> Callable[..., Any]:
    """Let the audit log tell of each call of a command, which changes something or looks into a
    machine. Belongs right above the function.
    """

    @wraps(command)
    def told(*given: Any, **asked: Any) -> Any:  # noqa: ANN401 - whatever the command takes
        from rave_cli import audit

        ctx = click.get_current_context()
        app = ctx.find_object(App)
        assert app is not None  # noqa: S101 - the root command has made it
        with audit.attempt(_told_of(ctx), app.show.warning) as attempt:
            try:
                code = command(*given, **asked)
            except BaseException as fault:
                attempt.exit_code = _exit_code(fault)
                raise
            attempt.exit_code = code if isinstance(code, int) else 0
        return code

    told.audited = True  # type: ignore[attr-defined]
    return told


def _told_of(ctx: click.Context) -> AuditedCommand:
    """Return what the audit log says of a call: no value that may be a secret."""
    from rave_cli.audit import AuditedCommand

    above, words = ctx, list[str]()
    while above.parent is not None:
        words.insert(0, above.info_name or "")
        above = above.parent
    subjects: list[str] = []
    options: list[str] = []
    for parameter in ctx.command.params:
        name = parameter.name or ""
        value = ctx.params.get(name)
        given = ctx.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if isinstance(parameter, click.Argument):
            several = [
                str(word) for word in (value if isinstance(value, tuple) else (value,)) if word
            ]
            # Of a command for a guest only the program.
            hidden = parameter.type is click.UNPROCESSED
            subjects += [*several[:1], "…"] if hidden and len(several) > 1 else several
        elif given:
            word = max(parameter.opts, key=len)
            options.append(f"{word}={value}" if name in TOLD else word)
    return AuditedCommand.of(" ".join(words), subjects, options)


def _exit_code(fault: BaseException) -> int:
    """Return what a command ends with that ends by a fault."""
    ended = signals.interruption(fault)
    if ended is not None:
        return 128 + ended.number
    return int(getattr(fault, "exit_code", 1))
