"""The one journey of a run into the forge, which checks of its sign-in are about."""

from __future__ import annotations

from rave_guest import plan as plans
from rave_guest import report
from rave_guest.check import check
from rave_guest.journey import ALONE
from rave_guest.report import ORIGIN
from rave_guest.verdict import Verdict, missing, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rave_guest.check import Subject
    from rave_guest.system import System

    Step = Callable[[Mapping[str, Any], System], Verdict]

JOURNEY = 420.0  # seconds that one takes at most, in an emulated guest on a busy host
TIMEOUT = 120.0  # seconds for one request of it

_travelled: dict[str, Verdict] = {}


def step(name: str, title: str, **more: Any) -> Callable[[Step], Step]:
    """Return what makes a check of a step of the journey, for `verdict`."""
    return check(
        f"forge.{name}", phase="sign-in", title=title, timeout=JOURNEY,
        needs=("pagure.units", "pagure-worker.units", "canaille.units", "nginx.units"),
        arguments=lambda about: _sites(about) | {"step": name}, **more,
    )  # fmt: skip


def verdict(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Return what became of a step; the first that asks lets the whole journey be made."""
    if system.secret(arguments["secret"]) is None:
        return missing(arguments["secret"])
    origin = report.read(ORIGIN)
    if not origin:
        return skipped("this machine has no public origin: start it with a rave that gives it one")
    with ALONE:
        if not _travelled:
            _travelled.update(_make(arguments, origin))
    return _travelled[arguments["step"]]


def _make(arguments: Mapping[str, Any], origin: str) -> dict[str, Verdict]:
    """Make it through nginx, as people come."""
    from rave_guest import registry, working
    from rave_guest.wire import trusted
    from rave_guest.wire.forge import PagureUser

    scheme, _, place = origin.partition("://")
    nginx, port = arguments["nginx"], arguments["port"]
    return working.make(
        working.ForgeVisit(
            f"{scheme}://{arguments['site']}.{place}",
            f"{scheme}://{arguments['accounts']}.{place}",
            vars(registry.service(arguments["provider"]))["accounts"],
            connect=lambda site: trusted.to(site, nginx, TIMEOUT),
            forge=lambda shown: PagureUser(port, working.USER, shown, TIMEOUT),
        )
    )  # fmt: skip


def _sites(about: Subject) -> dict[str, Any]:
    services = about.plan["services"]
    (provider,) = (name for name, one in services.items() if "oidc" in one["provides"])
    return {
        "site": services["pagure"]["site"],
        "provider": provider,
        "accounts": services[provider]["site"],
        "secret": plans.secret(about.plan, services["pagure"]["oidcClient"]["secret"]),
        "port": plans.port_of(about.plan, "pagure", "web"),
        "nginx": plans.port_of(about.plan, "nginx", "status"),
    }
