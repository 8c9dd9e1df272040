"""nginx: the status document it serves."""

from __future__ import annotations

import json

from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.verdict import Verdict, errored, failed, judge
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rave_guest.system import System


def _document(about: Subject) -> dict[str, Any]:
    port = plans.port_of(about.plan, "nginx", "status")
    return {"instance": about.instance, "url": f"https://127.0.0.1:{port}/status.json"}


@check("nginx.status-document", phase="health", title="nginx: shows this machine, all healthy",
       needs=("nginx.units",), retry_for=15, arguments=_document)  # fmt: skip
def status_document(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """The status page gives this machine, all its services healthy."""
    answer = http.get(arguments["url"], arguments["timeout"])
    if answer.status != 200:
        return failed(f"status {answer.status}")
    try:
        document = json.loads(answer.body)
    except ValueError:
        return errored("the status document is not JSON")
    return judge_status(document, arguments["instance"])


def judge_status(document: Any, instance: str) -> Verdict:
    """Read /status.json."""
    problems = []
    if document.get("instance") != instance:
        problems.append("it speaks of another machine")
    services = document.get("services") or {}
    ill = sorted(name for name, entry in services.items() if entry.get("state") != "healthy")
    problems += [f"{name} is {services[name].get('state')}" for name in ill]
    if not services:
        problems.append("it names no service")
    return judge(problems, f"{len(services)} services healthy")
