"""The one error type of rave, and the exit codes it carries."""

from __future__ import annotations

from enum import IntEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


class ExitCode(IntEnum):
    """Exit codes of `rave`, documented in docs/reference/exit-codes.md."""

    OK = 0
    CHECK_FAILED = 1
    USAGE = 2
    HOST = 3
    BUILD = 4
    NOT_READY = 5
    SECRETS = 6
    VERIFICATION = 7
    # 128 and the number of the signal, as shells count it.
    HUNG_UP = 129
    INTERRUPTED = 130
    TERMINATED = 143


class RaveError(Exception):
    """A foreseeable fault: what happened and why, and the command that helps.

    `reason` is a code word for programs, where a kind of fault has several.

    Args:
        message: what happened and why, as one sentence without a final full stop.
        hint: what to do next; a command the user can run wherever there is one.
        exit_code: the exit code the process ends with.
        detail: lines that help to understand the fault, such as the end of a log.
    """

    reason: str | None = None
    # What `--json` shows besides: what came before the fault and is worth keeping.
    data: Mapping[str, Any] = MappingProxyType({})

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        exit_code: ExitCode,
        detail: tuple[str, ...] = (),
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.exit_code = exit_code
        self.detail = detail
