"""The agents: whether each is heard, and what they keep."""

from __future__ import annotations

import os

from rave_guest import workflow
from rave_guest.check import Subject, check
from rave_guest.state import sqlite
from rave_guest.verdict import Verdict, judge
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from rave_guest.system import System

# The store of one: infra/debian/services/agents starts one instance of each kind.
STORE = "{}-one.db"
ENDING = ".db"
SILENT = "rave_agent_silent_seconds"
LONGEST = 22.0  # seconds: it gives a sign of life each 15


def _kinds(plan: Mapping[str, Any]) -> dict[str, int]:
    """Return each kind of agents with the port at which it answers."""
    return {port["name"]: port["port"] for port in plan["services"]["agents"]["ports"]}


def _ports(about: Subject) -> dict[str, Any]:
    return {"ports": _kinds(about.plan)}


@check("agents.heard", phase="health", title="Agents: the stream hears each of them",
       needs=("agents.units",), timeout=20, retry_for=60, arguments=_ports)  # fmt: skip
def heard(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Each says itself for how long the stream has taken no sign of life of it."""
    silent = {
        kind: silence(http.get(f"http://127.0.0.1:{port}/metrics", arguments["timeout"]).text)
        for kind, port in arguments["ports"].items()
    }
    problems = [
        f"{kind} does not say" if seconds is None else f"{kind} is silent for {seconds:g} s"
        for kind, seconds in silent.items()
        if seconds is None or seconds > LONGEST
    ]
    return judge(problems, f"{len(silent)} agents are heard", silent_seconds=silent)


def silence(page: str) -> float | None:
    """Return the seconds of silence that an agent's figures tell; None if they tell none."""
    for line in page.splitlines():
        if line.startswith(f"{SILENT}{{"):
            return float(line.rpartition(" ")[2])
    return None


@workflow.step("command", "who may commands a project in the chat",
               figures={"seconds": "workflow_command_seconds"})  # fmt: skip
@workflow.step("project", "an agent makes it in the forge",
               figures={"seconds": "workflow_project_seconds"})  # fmt: skip
@workflow.step("code", "an agent writes code in it, and commits it",
               figures={"seconds": "workflow_code_seconds"})  # fmt: skip
@workflow.step("request", "a merge request of that commit is open")
@workflow.step("tests", "what its tests came to stands beside it")
@workflow.step("sandbox", "its tests pass in a sandbox of the pool")
@workflow.step("notification", "the chat tells it, with a link to the merge request")
@workflow.step("approval", "who may approves in the chat, and it is merged",
               figures={"seconds": "workflow_merge_seconds"})  # fmt: skip
@workflow.step("trace", "one trace leads from the sentence to the merge")
@workflow.step("clean", "nothing of it is left")
def step(arguments: Mapping[str, Any], system: System) -> Verdict:
    """A step of the one journey that all these checks are about."""
    return workflow.verdict(arguments, system)


def keep(plan: Mapping[str, Any], path: str, folder: str) -> Iterator[tuple[str, Iterator[bytes]]]:
    """A copy of the store of each as of one moment, made by SQLite while the agents go on."""
    for kind in sorted(_kinds(plan)):
        name = STORE.format(kind)
        # One that waits for secrets has none yet.
        if os.path.exists(f"{path}/{name}"):
            yield from sqlite.kept(f"agent {kind}", path, name, folder)


def put(folder: str, target: str, _ours: str) -> None:
    """Lay the stores where they look."""
    for name in os.listdir(folder):
        if name.endswith(ENDING):
            sqlite.put(folder, target, name)


def marks(plan: Mapping[str, Any], path: str, lines: list[str] | None) -> list[str]:
    """A table of rave's own in the first store (state/marks.py)."""
    name = STORE.format(min(_kinds(plan)))
    return sqlite.marks("agents", f"{path}/{name}", lines)
