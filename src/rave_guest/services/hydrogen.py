"""The web client of Matrix: whether its page is all there, and whose client it says it is."""

from __future__ import annotations

import json

from rave_guest import plan as plans
from rave_guest import report
from rave_guest.check import Subject, check
from rave_guest.report import ORIGIN
from rave_guest.verdict import Verdict, judge, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rave_guest.system import System

REQUEST = 20.0  # seconds for one file, in an emulated guest on a busy host
# The page, and what it cannot do without.
FILES = ("/", "/main.js", "/sw.js", "/assets/theme-element-light.css", "/assets/olm.wasm")
SETTINGS = "/config.json"


def _sites(about: Subject) -> dict[str, Any]:
    services = about.plan["services"]
    return {
        "site": services["hydrogen"]["site"],
        "matrix": services["matrix"]["site"],
        "port": plans.port_of(about.plan, "nginx", "status"),
    }


@check(
    "hydrogen.page", phase="health", title="Hydrogen: its page is there, for this machine's Matrix",
    needs=("nginx.units",), timeout=6 * REQUEST, arguments=_sites,
)  # fmt: skip
def page(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """Each file is there, and no script of others may run in it."""
    origin = report.read(ORIGIN)
    if not origin:
        return skipped("this machine has no public origin: start it with a rave that gives it one")
    from rave_guest.wire import trusted

    scheme, _, place = origin.partition("://")
    site = f"{arguments['site']}.{place}"

    def ask(path: str) -> tuple[int, str, bytes]:
        connection = trusted.to(f"{scheme}://{site}", arguments["port"], REQUEST)
        try:
            connection.request("GET", path, headers={"Host": site})
            answer = connection.getresponse()
            policy = answer.headers.get("Content-Security-Policy", "")
            return answer.status, policy, answer.read()
        finally:
            connection.close()

    problems = found_wrong(ask, f"{scheme}://{arguments['matrix']}.{place}")
    return judge(problems, f"{len(FILES)} files, for {arguments['matrix']}.{place}")


def found_wrong(ask: Callable[[str], tuple[int, str, bytes]], homeserver: str) -> list[str]:
    """Return what is not as it should be.

    Args:
        ask: gives status, policy and body of a path.
        homeserver: where Matrix is, as people write it.

    Raises:
        OSError: nobody answers.
        ValueError: its settings are none.
    """
    problems = []
    for path in FILES:
        status, policy, body = ask(path)
        if status != 200 or not body:
            problems.append(f"{path} is answered with {status}")
        elif "script-src 'self' 'wasm-unsafe-eval';" not in policy:
            problems.append(f"{path} would let scripts of others run")
        elif f"connect-src 'self' {homeserver};" not in policy:
            problems.append(f"{path} may not connect to {homeserver}")
    said = json.loads(ask(SETTINGS)[2]).get("defaultHomeServer")
    return problems + ([f"it is a client of {said}"] if said != homeserver else [])
