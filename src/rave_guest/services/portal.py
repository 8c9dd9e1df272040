"""The portal: whether its program comes when it is asked, and whether people can sign in to it."""

from __future__ import annotations

from rave_guest import plan as plans
from rave_guest import report
from rave_guest.check import Subject, check
from rave_guest.report import ORIGIN
from rave_guest.verdict import Verdict, failed, missing, passed, skipped
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rave_guest.system import System

    Step = Callable[[Mapping[str, Any], System], Verdict]

JOURNEY = 240.0  # seconds that one takes at most, in an emulated guest on a busy host
TIMEOUT = 90.0  # seconds for one request of it

_visited: dict[str, Verdict] = {}


def _program(about: Subject) -> dict[str, Any]:
    return {"port": plans.port_of(about.plan, "portal", "web")}


@check("portal.program", phase="health", title="Portal: knows whoever has not signed in",
       needs=("portal.units",), timeout=20, retry_for=20, arguments=_program)  # fmt: skip
def program(arguments: Mapping[str, Any], _system: System) -> Verdict:
    """A request starts its program, which says that nobody has signed in."""
    address = f"http://127.0.0.1:{arguments['port']}/portal/session"
    status = http.get(address, arguments["timeout"]).status
    return passed("nobody has") if status == 401 else failed(f"it answers {status}")


def _sites(about: Subject) -> dict[str, Any]:
    services = about.plan["services"]
    if "portal" not in services:
        # An image of an older rave has Canaille alone.
        return {"accounts": None}
    (provider,) = (name for name, one in services.items() if "oidc" in one["provides"])
    return {
        "provider": provider,
        "accounts": services[provider]["site"],
        "secret": plans.secret(about.plan, services["portal"]["oidcClient"]["secret"]),
        "port": plans.port_of(about.plan, "nginx", "status"),
    }


def _step(name: str, title: str) -> Callable[[Step], Step]:
    return check(
        f"portal.{name}", phase="sign-in", title=title, timeout=JOURNEY,
        # Where accounts can be made for it: GitLab, the NixOS base's provider, is not asked.
        service="canaille", needs=("canaille.units", "nginx.units"),
        arguments=lambda about: _sites(about) | {"step": name},
    )  # fmt: skip


@_step("closed", "the portal shows strangers its page alone")
@_step("sign-in", "somebody signs in to the portal, which says who they are")
@_step("open", "Prometheus is open to whoever has signed in, and takes nothing")
@_step("wrong-state", "the portal refuses a sign-in that somebody else has begun")
@_step("reused-code", "nobody comes in to the portal twice by one code")
@_step("wrong-redirect", "nobody is sent elsewhere with a code for the portal")
@_step("sign-out", "whoever signs out of the portal is asked again")
def step(arguments: Mapping[str, Any], system: System) -> Verdict:
    """A step of the one visit that all these checks are about."""
    if arguments["accounts"] is None:
        return skipped("this machine's portal signs nobody in")
    if system.secret(arguments["secret"]) is None:
        return missing(arguments["secret"])
    origin = report.read(ORIGIN)
    if not origin:
        return skipped("this machine has no public origin: start it with a rave that gives it one")
    # The watcher brings this module in, too, and asks nothing like that.
    from rave_guest.journey import ALONE

    with ALONE:
        if not _visited:
            _visited.update(_visit(arguments, origin))
    return _visited[arguments["step"]]


def _visit(arguments: Mapping[str, Any], origin: str) -> dict[str, Verdict]:
    """Make the visit, through nginx as people come."""
    from rave_guest import registry, visiting
    from rave_guest.wire import trusted

    scheme, _, place = origin.partition("://")
    return visiting.travel(
        visiting.Visit(
            origin, f"{scheme}://{arguments['accounts']}.{place}",
            vars(registry.service(arguments["provider"]))["accounts"],
            lambda site: trusted.to(site, arguments["port"], TIMEOUT),
        )
    )  # fmt: skip
