"""The one conversation of a run, which checks of Matrix and of the chat bridge are about."""

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
TIMEOUT = 90.0  # seconds for one request of it
BRIDGE = "chat-bridge"

_conversed: dict[str, Verdict] = {}


def step(
    name: str, title: str, *, phase: str, needs: tuple[str, ...] = (), **more: Any
) -> Callable[[Step], Step]:
    """Return what makes a check of a step of the conversation, for `verdict`."""
    return check(
        f"chat.{name}", phase=phase, title=title, timeout=JOURNEY,
        # Where accounts can be made for it: GitLab, the NixOS base's provider, is not asked.
        service="canaille", needs=("matrix.units", "canaille.units", "nginx.units", *needs),
        arguments=lambda about: _sites(about) | {"step": name}, **more,
    )  # fmt: skip


def verdict(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Return what became of a step; the first that asks lets the whole be held."""
    if arguments["site"] is None:
        return skipped("this machine has no Matrix")
    if system.secret(arguments["secret"]) is None:
        return missing(arguments["secret"])
    origin = report.read(ORIGIN)
    if not origin:
        return skipped("this machine has no public origin: start it with a rave that gives it one")
    with ALONE:
        if not _conversed:
            _conversed.update(_converse(arguments, origin))
    found = _conversed.get(arguments["step"])
    return skipped("this machine has no chat bridge") if found is None else found


def _sites(about: Subject) -> dict[str, Any]:
    services = about.plan["services"]
    if "matrix" not in services:
        # An image of an older rave has Canaille alone.
        return {"site": None}
    (provider,) = (name for name, one in services.items() if "oidc" in one["provides"])
    return {
        "site": services["matrix"]["site"],
        "provider": provider,
        "accounts": services[provider]["site"],
        "secret": plans.secret(about.plan, services["matrix"]["oidcClient"]["secret"]),
        "port": plans.port_of(about.plan, "nginx", "status"),
        "bridge": services[BRIDGE]["units"][0] if BRIDGE in services else None,
    }


def _converse(arguments: Mapping[str, Any], origin: str) -> dict[str, Verdict]:
    """Hold it, through nginx as people come."""
    from rave_guest import chat, commanding, registry
    from rave_guest.wire import trusted

    scheme, _, place = origin.partition("://")
    bridge = arguments["bridge"]
    return chat.converse(
        chat.Chat(
            f"{scheme}://{arguments['site']}.{place}",
            f"{scheme}://{arguments['accounts']}.{place}",
            vars(registry.service(arguments["provider"]))["accounts"],
            provider=f"oidc-{arguments['provider']}",
            connect=lambda site: trusted.to(site, arguments["port"], TIMEOUT),
            kill_bridge=lambda: _kill(bridge),
        ),
        commanding.STEPS if bridge else {},
    )


def _kill(unit: str) -> None:
    """Kill a service as it stands, and start it: then it counts as told to, not as fallen over."""
    from rave_guest.system import run

    run(["systemctl", "kill", "--signal=KILL", unit], TIMEOUT)
    run(["systemctl", "--no-block", "restart", unit], TIMEOUT)
