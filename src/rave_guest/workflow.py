"""The one journey of a run from a sentence in the chat to a merge, which checks are about.

A run that is killed on its way leaves a project that others can see. So a unit of its own waits for
the end of whoever makes the journey, and deletes what is still there then.
"""

from __future__ import annotations

import fcntl
import os
import select
import sys
import threading
import time
from contextlib import closing, contextmanager, suppress

from rave_guest import plan as plans
from rave_guest import report
from rave_guest.check import check
from rave_guest.journey import ALONE, carried_out, travel
from rave_guest.report import ORIGIN
from rave_guest.verdict import Verdict, errored, missing, skipped

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from rave_guest.check import Subject
    from rave_guest.delivering import HelloWorld
    from rave_guest.system import System

    Step = Callable[[Mapping[str, Any], System], Verdict]

LOCK = "/run/rave/workflow.lock"
JOURNEY = 900.0  # seconds that one takes at most, in an emulated guest
TIMEOUT = 120.0  # seconds for one request of it
FORGE_USER, FORGE_TOKEN = "rave", "pagure/token"

UNIT = "rave-workflow-end.service"
PROGRAM = ("/usr/lib/rave/rave-guest", "workflow-end")
# Seconds after which is looked once more: an agent may have been at work.
AGAIN = 120.0


class ToldSteps:
    """What has become of each step so far; whoever asks waits for theirs."""

    def __init__(self) -> None:
        """Nothing has begun."""
        self._changed = threading.Condition()
        self._verdicts: dict[str, Verdict] = {}
        self._begun = self._over = False
        self._fault = ""

    def once(self, travel: Callable[[], None]) -> None:
        """Let the journey be made, if nobody has, in a thread of its own."""
        with self._changed:
            if self._begun:
                return
            self._begun = True
        threading.Thread(target=self._make, args=(travel,), daemon=True).start()

    def _make(self, travel: Callable[[], None]) -> None:
        try:
            travel()
            fault = "it was not made"
        except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
            fault = f"{type(error).__name__}: {error}"
        with self._changed:
            self._over, self._fault = True, fault
            self._changed.notify_all()

    def tell(self, step: str, verdict: Verdict) -> None:
        """Tell what has become of a step."""
        with self._changed:
            self._verdicts[step] = verdict
            self._changed.notify_all()

    def of(self, step: str) -> Verdict:
        """Return what has become of a step, once that is known."""
        with self._changed:
            self._changed.wait_for(lambda: step in self._verdicts or self._over)
            return self._verdicts.get(step) or errored(self._fault)


_told = ToldSteps()


def step(name: str, title: str, **more: Any) -> Callable[[Step], Step]:
    """Return what makes a check of a step of the journey, for `verdict`."""
    return check(
        f"workflow.{name}", phase="workflow", title=title, timeout=JOURNEY, step="workflow",
        needs=(
            "matrix.units", "canaille.units", "nginx.units", "pagure.units", "pagure-worker.units",
            "chat-bridge.units", "agents.units",
        ),
        arguments=lambda about: _sites(about) | {"step": name}, **more,
    )  # fmt: skip


def verdict(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Return what became of a step; the first that asks lets the whole journey be made."""
    for secret in arguments["secrets"]:
        if system.secret(secret) is None:
            return missing(secret)
    origin = report.read(ORIGIN)
    if not origin:
        return skipped("this machine has no public origin: start it with a rave that gives it one")
    _told.once(lambda: _make(arguments, origin, system, _told.tell))
    return _told.of(arguments["step"])


def _sites(about: Subject) -> dict[str, Any]:
    services = about.plan["services"]
    (provider,) = (name for name, one in services.items() if "oidc" in one["provides"])
    chat, forge = services["matrix"], services["pagure"]
    return {
        "chat": chat["site"],
        "forge": forge["site"],
        "accounts": services[provider]["site"],
        "provider": provider,
        "port": plans.port_of(about.plan, "pagure", "web"),
        "nginx": plans.port_of(about.plan, "nginx", "status"),
        "token": plans.secret(about.plan, FORGE_TOKEN),
        "secrets": [
            plans.secret(about.plan, name)
            for name in (FORGE_TOKEN, chat["oidcClient"]["secret"], forge["oidcClient"]["secret"])
        ],
    }


def _make(
    arguments: Mapping[str, Any], origin: str, system: System, told: Callable[[str, Verdict], None]
) -> None:
    """Make it, through nginx as people come, and delete what was made."""
    from shutil import chown, rmtree

    from rave_guest.delivering import LAST

    folder = f"/tmp/rave-workflow-{os.urandom(8).hex()}"  # noqa: S108 - nobody can guess it
    found: dict[str, Verdict] = {}

    def tell(step: str, verdict: Verdict) -> None:
        found[step] = verdict
        # Whoever hears of the last one ends this process.
        if step != LAST:
            told(step, verdict)

    with ALONE, only(), kept(system):
        os.mkdir(folder, 0o700)
        chown(folder, "nobody")
        try:
            deliver(_begun(arguments, origin, system, folder), tell)
        finally:
            rmtree(folder, ignore_errors=True)
    told(LAST, found[LAST])


def _begun(arguments: Mapping[str, Any], origin: str, system: System, folder: str) -> HelloWorld:
    from rave_guest import chat, delivering, registry, spans
    from rave_guest.wire import trusted
    from rave_guest.wire.forge import PagureUser

    scheme, _, place = origin.partition("://")
    site = {name: f"{scheme}://{arguments[name]}.{place}" for name in ("chat", "forge", "accounts")}
    token = system.secret(arguments["token"]) or ""
    provider = arguments["provider"]
    return delivering.HelloWorld(
        chat.Chat(
            site["chat"], site["accounts"], vars(registry.service(provider))["accounts"],
            provider=f"oidc-{provider}",
            connect=lambda there: trusted.to(there, arguments["nginx"], TIMEOUT),
        ),
        PagureUser(arguments["port"], FORGE_USER, token, TIMEOUT),
        site["forge"], system=system, folder=folder,
        trace=lambda name: spans.traces("show", {"trace": name})["trace"],
        busy=max(1.0, arguments["timeout"] / JOURNEY),
    )  # fmt: skip


def deliver(way: HelloWorld, told: Callable[[str, Verdict], None]) -> None:
    """Make the journey, and tell what becomes of each step as soon as it is known; what it makes is
    deleted before it, for one that was broken off, and afterwards.
    """
    from rave_guest import delivering
    from rave_guest.wire.forge import PagureError

    steps = {name: delivering.refused(one) for name, one in delivering.STEPS.items()}
    last = steps.pop(delivering.LAST)
    with closing(way.chat.one), closing(way.chat.two):
        try:
            with suppress(PagureError, OSError, ValueError):
                delivering.forget(way.forge, way.chat.accounts)
            travel(way, steps, delivering.GROUND, told)
        finally:
            told(delivering.LAST, carried_out(way, last))


@contextmanager
def only() -> Iterator[None]:
    """Make sure that nobody else makes such a journey in this machine.

    Raises:
        BlockingIOError: somebody does.
    """
    fd = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise BlockingIOError("another run makes this journey now") from None
        yield
    finally:
        os.close(fd)


@contextmanager
def kept(system: System) -> Iterator[None]:
    """Have what is made deleted even if this process is killed.

    Raises:
        OSError: nobody would do that.
    """
    # One that is still at it would delete what is made now.
    system.run(["systemctl", "stop", UNIT], TIMEOUT)
    argv = ["systemd-run", "--quiet", "--collect", f"--unit={UNIT}", *PROGRAM, str(os.getpid())]
    done = system.run(argv, TIMEOUT)
    if done.returncode:
        raise OSError(f"nobody would clean up after a fault: {done.stderr.strip()}")
    try:
        yield
    finally:
        system.run(["systemctl", "stop", UNIT], TIMEOUT)


def main(argv: list[str]) -> int:
    """Wait for a process to end, and delete what a journey of its has left."""
    pid = int(argv[0])
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        select.select([fd], [], [])
    _forget()
    # What an agent was doing at that moment.
    time.sleep(AGAIN)
    _forget()
    return 0


def _forget() -> None:
    from rave_guest import delivering, registry
    from rave_guest.system import System
    from rave_guest.wire.forge import PagureError, PagureUser

    own = plans.own()
    (provider,) = (name for name, one in own["services"].items() if "oidc" in one["provides"])
    token = System.secret(plans.secret(own, FORGE_TOKEN)) or ""
    forge = PagureUser(plans.port_of(own, "pagure", "web"), FORGE_USER, token, TIMEOUT)
    try:
        delivering.forget(forge, vars(registry.service(provider))["accounts"])
    except (PagureError, OSError, ValueError) as error:
        print(f"the project of the workflow is still there: {error}", file=sys.stderr)
