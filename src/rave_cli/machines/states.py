"""The words for what a machine does, and what can be waited for."""

from __future__ import annotations

from typing import Literal, get_args

from rave_cli.machines.guest.readiness import CORE, NAMES

State = Literal[
    "stopped", "suspended", "starting", "running", "stopping", "paused", "failed", "unresponsive"
]  # fmt: skip
STATES: tuple[State, ...] = get_args(State)

# What follows the stages of a boot: the guest has its secrets.
SECRETS = "secrets"

# What a machine is called that is not there any more.
DELETED = "deleted"

_BEFORE = NAMES.index("services")
STAGES = (*NAMES[:_BEFORE], CORE, *NAMES[_BEFORE:], SECRETS)
TARGETS = (*STAGES, *STATES, DELETED)
