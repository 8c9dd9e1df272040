"""The phases of a smoke run, declared once: suite, transcript and docs follow from them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

# When in a run a check is carried out; the runner says what goes on beside what. In this order the
# record has them, whichever ends first.
#   start              looks that cost nothing, before the guest is asked
#   login              the one connection
#   outside            the view through the forwarded ports, which needs no login
#   scan               the same, of ports that must not answer
#   early              what the ban goes by, and what compares outside and inside
#   inside             the guest's first batch
#   traces             what the guest's tries left on the host
#   logins             logins that must fail
#   ban                the outside is shut out
#   late               the guest's second batch: after whatever handles secrets
#   sandbox            sandboxes of the pool, asked for from inside, where it is lent
#   workflow           from a sentence to a merge: alone, for it takes the guest minutes; behind
#                      `sandbox`, which counts the jobs that this machine has had
#   image              the image is read, before anything may change it
#   recovery           a backup of all is restored into a second machine, where that is asked for
#   end                what the run itself may have left
#   image-end          the image is read again, after everything
Step = Literal[
    "start", "login", "outside", "scan", "early", "inside", "traces", "logins", "ban", "late",
    "sandbox", "workflow", "image", "recovery", "end", "image-end",
]  # fmt: skip
STEPS: tuple[Step, ...] = get_args(Step)
# The steps that read the image.
READS: dict[Literal["before", "after"], Step] = {"before": "image", "after": "image-end"}


@dataclass(frozen=True)
class Planned:
    """A check that stands for a phase without any: skipped, for `services` are missing, or for
    whatever else withholds it.
    """

    id: str
    title: str
    services: tuple[str, ...]


@dataclass(frozen=True)
class Phase:
    """An ordered group of checks.

    Args:
        id: what `--phase` and a transcript name.
        title: for people.
        inside: the step of its checks inside the guest that do not say their own.
        part: the field of the transcript that shows this phase alone.
        planned: stands for it as long as it has no checks.
        opt_in: whether it is carried out only where it is named: it takes a second machine.
    """

    id: str
    title: str
    inside: Step = "inside"
    part: str | None = None
    planned: Planned | None = None
    opt_in: bool = False


PHASES = (
    Phase("configuration", "Configuration"),
    Phase("image", "Image"),
    Phase("boot", "Boot"),
    Phase("health", "Service health"),
    Phase(
        "sign-in", "OIDC sign-in", part="authentication_tests",
        planned=Planned(
            "oidc.sign-in", "single sign-on works for every application", ("gitlab",)
        ),
    ),
    Phase(
        "chat-control", "Chat control of agents", part="agent_control_tests",
        planned=Planned(
            "chat.control", "agents obey chat commands", ("chat-bridge", "agents")
        ),
    ),
    Phase(
        "sandbox", "Sandbox provisioning", inside="sandbox", part="sandbox_tests",
        planned=Planned("sandbox.provisioning", "a program in it gets a sandbox of the pool", ()),
    ),
    Phase(
        "workflow", "End-to-end workflow", inside="workflow",
        planned=Planned(
            "workflow.end-to-end",
            "a chat command becomes a project, and it is cleaned up again",
            ("chat-bridge", "agents"),
        ),
    ),
    Phase("secrets", "Secrets"),
    Phase("security", "Security", inside="late"),
    Phase("performance", "Performance", inside="late"),
    Phase("recovery", "Recovery", opt_in=True),
)  # fmt: skip
OPT_IN = frozenset(phase.id for phase in PHASES if phase.opt_in)
PHASE_IDS = tuple(phase.id for phase in PHASES)
