"""`rave-guest ready`: waits until every service of the plan is healthy, tells the host, stays.

A service whose plan says that it `waits` for secrets is `waiting` as long as there are none.

It starts early, so that it is awake when the last service comes up. A service is healthy when all
its units are active and all its questions are answered; it has failed when a unit of it has, or
when its deadline is over, which its record names; until then it is `starting`. A boot in which
something has failed is over soon (GRACE): nobody waits for what will not come, and the report says
what the machine sees of itself. Afterwards it says READY, which lets the jobs start that may wait
(growing the disk, ...), keeps the status page, status.json and the metrics of the services
current, and says what hangs (hung.py).
"""

from __future__ import annotations

import _thread
import json
import os
import socket
import time
from itertools import count

from rave_guest import clock, exposition, questions, registry, report, way
from rave_guest import plan as plans
from rave_guest.hung import Hung
from rave_guest.manager import Manager
from rave_guest.questions import Round

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from typing import Any

    from rave_guest.questions import Question

SECRETS = "/run/secrets"
BANNED = "/run/fail2ban/banned"  # written by fail2ban's action
SECRETS_UNITS = {"debian": "rave-secrets.service", "nixos": "sops-install-secrets.service"}
PAUSE = 0.1  # seconds between two looks at what is not healthy yet
UNITS_EVERY = 3  # looks per question to PID 1, which is busy while the machine boots
BOOT_PATIENCE = 300.0  # seconds until a service that is still not healthy has failed
PATIENCE = 15.0  # seconds of a round of questions, once the machine runs
# Seconds for the others, from the last that came up, once one has failed or is started again. In
# them the slowest, PostgreSQL, is tried three times under emulation.
GRACE = 10.0
# There while databases are loaded into a server of another release (state/load.py), which takes as
# long as it takes; seconds between two times that the host is told so.
LOADING, TELL_EVERY = "/run/postgresql-load", 5.0
WATCH = 2.0  # seconds between two cheap looks (ban, secrets) once the machine runs
GATHER = 0.2  # seconds for a change of a unit to become all of it
FOLLOW_EVERY = 10.0  # seconds between two looks at the real-time clock, each many ports of QEMU's
ASK_EVERY = 60.0  # seconds between two rounds of all questions then; PID 1 tells of units at once
ASK_AGAIN = 5.0  # the same, while a service has failed or starts
# Seconds for which metrics that are there are good: Prometheus asks for the same each minute, and
# what an exporter gathers is the dearest answer of all.
METRICS_HOLD = 290.0


def alive(service: str, record: dict[str, Any]) -> list[Question]:
    """The questions that tell whether a service lives: what its record asks inside over HTTP.

    A service whose record asks nothing like that may have a module, and that an `alive`.
    """
    found = [
        questions.http(
            check["url"],
            check["status"],
            check.get("contains") or "",
            holds=METRICS_HOLD if scraped(record, check["url"]) else 0.0,
        )
        for check in record["checks"]
        if check["from"] == "guest" and check["kind"] == "http"
    ]
    ask = getattr(None if found else registry.service(service), "alive", None)
    return ask(record) if ask else found


def scraped(record: dict[str, Any], url: str) -> bool:
    """Whether that is where Prometheus finds the service's metrics."""
    scrape = record.get("scrape") or {"port": 0, "path": ""}
    return bool(url == f"http://127.0.0.1:{scrape['port']}{scrape['path']}")


class WatchedService:
    """What is known of one service of the plan."""

    def __init__(self, name: str, record: dict[str, Any]) -> None:
        """Nothing is known yet: the state is `starting`."""
        self.name = name
        self.title = str(record["title"])
        self.units: list[str] = record["units"]
        # Whether its units stay down until there are secrets (a base may let them wait).
        self.waits = bool(record.get("waits"))
        self.core = record.get("stage", "core") == "core"
        self.questions = alive(name, record)
        self.deadline = float(record["deadlineSeconds"])
        self.state = "starting"
        self.since = time.monotonic()
        self.uptime = 0.0
        self.active = False
        self.restarted = False
        self.unanswered: set[Question] = set()
        self.under_way: set[Question] = set()
        self.answered: dict[Question, float] = {}

    def settle(self, state: str) -> bool:
        """Note a verdict, and the uptime if it is a new one; return whether it is."""
        changed = state != self.state
        if changed:
            self.state, self.uptime = state, report.uptime()
        return changed

    def begin(self) -> None:
        """Begin a round: answered is what still holds. Its deadline goes on if it has one."""
        now = time.monotonic()
        if self.state != "starting":
            self.since = now
        if self.state != "healthy":
            self.answered.clear()
        held = {q for q, since in self.answered.items() if now < since + q.holds}
        self.unanswered, self.under_way = set(self.questions) - held, set()
        self.restarted = False

    def forget(self) -> None:
        """Let everything be asked anew."""
        self.answered.clear()
        self.unanswered = set(self.questions)

    def late(self) -> str:
        """Return the verdict at the end of a round in which it had none."""
        over = self.state == "failed" or time.monotonic() - self.since >= self.deadline
        return "failed" if over else "starting"

    def ask(self, asking: Round) -> None:
        """Ask what is unanswered and not under way; where nobody listens yet, again next time."""
        for question in self.unanswered - self.under_way:
            if asking.ask(question):
                self.under_way.add(question)

    def document(self) -> dict[str, object]:
        """The service as the event and status.json show it."""
        return {
            "state": self.state, "title": self.title, "unit": self.units[0], "uptime": self.uptime,
        }  # fmt: skip


class Grace:
    """Ends a boot in which something has failed, GRACE seconds after the last service came up."""

    def __init__(self, on_trouble: Callable[[], None]) -> None:
        """`on_trouble` is called when the first has failed or is started again."""
        self._on_trouble = on_trouble
        self._failed = self._troubled = False
        self._calm = time.monotonic()

    def wait(self) -> None:
        """Let nobody be counted as late by now."""
        self._calm = time.monotonic()

    def over(self, verdicts: Collection[str], pending: list[WatchedService]) -> bool:
        """Take new verdicts, and the services that have none yet; return whether there is no more
        to wait for.
        """
        self._failed |= "failed" in verdicts
        trouble = self._failed or any(service.restarted for service in pending)
        if not trouble or any(state != "failed" for state in verdicts):
            self._calm = time.monotonic()
        if trouble and not self._troubled:
            self._troubled = True
            self._on_trouble()
        return time.monotonic() - self._calm > GRACE


class Loading:
    """Gives the services more time while databases are loaded, and tells the host so."""

    def __init__(self, grace: Grace | None) -> None:
        self._grace, self._told = grace, float("-inf")

    def later(self, deadline: float, patience: float) -> float:
        """Return the end of a round: `patience` seconds after the end of the load, if there is."""
        now = time.monotonic()
        if not os.path.isdir(LOADING):
            return deadline
        if now - self._told > TELL_EVERY:
            self._told = now
            report.send("loading")
        if self._grace:
            self._grace.wait()
        return now + patience


class Watch:
    """All services of a plan. `settle` brings a verdict on each."""

    def __init__(self, plan: dict[str, Any], manager: Manager) -> None:
        """Services without units (served by another) are not watched."""
        self.services = [WatchedService(n, r) for n, r in plan["services"].items() if r["units"]]
        self._secrets_unit = SECRETS_UNITS[plan["base"]]
        self._manager = manager
        self._owner = {q: s for s in self.services for q in s.questions}

    def settle(
        self,
        patience: float,
        pause: float = PAUSE,
        told: Callable[[WatchedService], None] | None = None,
        grace: Grace | None = None,
        busy: bool = False,
    ) -> bool:
        """Ask until each service has a verdict; return whether any state is new.

        Args:
            patience: seconds of the round; what is not healthy then is `starting`, or has failed
                if its deadline is over.
            pause: seconds between two looks.
            told: called with each service at a verdict that is new.
            grace: gives up earlier; what neither failed nor came up by then keeps its state.
            busy: PID 1 has enough to do without telling of each change: between two questions to
                it nobody listens.
        """
        asking, pending, changed = Round(), list(self.services), False
        for service in pending:
            service.begin()
        deadline = time.monotonic() + patience
        loading = Loading(grace) if busy else None
        for look in count():
            if not pending:
                break
            verdicts = self._units(pending) if look % UNITS_EVERY == 0 else {}
            if busy:
                self._manager.close()
            for service in pending:
                if service.active and service not in verdicts:
                    service.ask(asking)
            verdicts |= self._answers(asking, pause, len(pending) - len(verdicts))
            if "healthy" in verdicts.values():
                asking.hurry()
            deadline = loading.later(deadline, patience) if loading else deadline
            if time.monotonic() > deadline:
                verdicts = {service: verdicts.get(service, service.late()) for service in pending}
            changed |= self._give(verdicts, told)
            pending = [service for service in pending if service not in verdicts]
            if grace and grace.over(verdicts.values(), pending):
                changed |= self._give({s: "failed" for s in pending if s.restarted}, told)
                break
        asking.close()
        return changed

    @staticmethod
    def _give(
        verdicts: dict[WatchedService, str], told: Callable[[WatchedService], None] | None
    ) -> bool:
        """Note verdicts and tell each that is new; return whether any is."""
        changed = False
        for service, state in verdicts.items():
            new = service.settle(state)
            changed |= new
            if new and told:
                told(service)
        return changed

    def _units(self, pending: list[WatchedService]) -> dict[WatchedService, str]:
        """Look at the units; return the verdicts that they alone give."""
        states = self._manager.states([unit for service in pending for unit in service.units])
        verdicts = {}
        for service in pending:
            found = [states.get(unit, "failed") for unit in service.units]
            service.active = all(state == "active" for state in found)
            service.restarted |= "restarting" in found
            if not service.active:
                service.forget()
            if "failed" in found or ("inactive" in found and not service.waits):
                # Inactive without a job: nothing is going to start it (a condition did not hold).
                verdicts[service] = "failed"
            elif "inactive" in found and not secrets_mark():
                verdicts[service] = "waiting"
            elif service.active and not service.unanswered:
                verdicts[service] = "healthy"
        return verdicts

    def _answers(self, asking: Round, pause: float, wanted: int) -> dict[WatchedService, str]:
        """Listen for `pause` seconds, or until `wanted` services are healthy; return those."""
        verdicts: dict[WatchedService, str] = {}
        until = time.monotonic() + pause
        while len(verdicts) < wanted and (left := until - time.monotonic()) > 0:
            for question, answered in asking.step(left):
                service = self._owner[question]
                service.under_way.discard(question)
                if answered:
                    service.answered[question] = time.monotonic()
                    service.unanswered.discard(question)
                    if not service.unanswered:
                        verdicts[service] = "healthy"
        return verdicts

    def told(self, wait: float) -> bool:
        """Wait at most `wait` seconds for PID 1 to tell of a change; return whether it did."""
        changed = self._manager.told(wait)
        if changed:
            time.sleep(GATHER)
        return changed

    def forget(self) -> None:
        """Let the next round ask everything."""
        for service in self.services:
            service.forget()

    def all_active(self) -> bool:
        """Whether every unit of every service is active now."""
        awake = [s for s in self.services if s.state != "waiting"]
        states = self._manager.states([unit for s in awake for unit in s.units])
        return all(state == "active" for state in states.values())

    def all_well(self) -> bool:
        """Whether no service was failed by the last verdicts."""
        return all(service.state != "failed" for service in self.services)

    def at_rest(self) -> bool:
        """Whether no verdict is going to change by itself."""
        return all(service.state in {"healthy", "waiting"} for service in self.services)

    def symptoms(self) -> dict[str, Any] | None:
        """What the machine sees of itself, if anything has failed (symptoms.py)."""
        if self.all_well() and self.secrets() != "failed":
            return None
        from rave_guest import symptoms

        own = [unit for s in self.services if s.state == "failed" for unit in s.units]
        return symptoms.look(list(dict.fromkeys([*self.failed_units(), *own])))

    def secrets(self) -> str:
        """`absent`, `installed` or `failed`."""
        if "failed" in self._manager.states([self._secrets_unit]).values():
            return "failed"
        return "installed" if secrets_mark() else "absent"

    def failed_units(self) -> list[str]:
        """Names of all failed units of the machine, of the plan or not."""
        return self._manager.failed()

    def core_alone(self) -> bool:
        """Whether every service of the core is healthy, and some other is on its way."""
        there = all(service.state == "healthy" for service in self.services if service.core)
        return there and any(service.state == "starting" for service in self.services)

    def documents(self, *, core: bool = False) -> dict[str, dict[str, object]]:
        """All services as the event shows them, or those of the core."""
        return {s.name: s.document() for s in self.services if s.core or not core}


def secrets_mark() -> str:
    """What /run/secrets points to: it changes with each installation, and is empty before."""
    try:
        return os.readlink(SECRETS)
    except OSError:
        return ""


def main(argv: list[str]) -> int:  # noqa: ARG001 - every verb has this signature
    """Report the stages of the boot, then watch until the machine stops."""
    plan = json.loads(report.read(plans.PLACE))
    # A second thread costs less than a second program.
    if (port := exposition.port(plan)) is not None:
        _thread.start_new_thread(exposition.serve, (port,))
    watch, hung = Watch(plan, Manager()), Hung()
    # What may wait may be what mends it: a disk that has yet to grow.
    grace = Grace(lambda: notify("READY=1"))
    watch.settle(
        BOOT_PATIENCE, told=lambda service: tell_stage(watch, service), grace=grace, busy=True
    )
    tell_services(watch)
    publish(plan, watch, alerts=False)
    notify("READY=1")
    _thread.start_new_thread(way.serve, ())
    asked = followed = time.monotonic()
    mark, banned, instance = secrets_mark(), "", report.instance()
    while True:
        changed = watch.told(WATCH)
        # A machine that has just become itself (held.py) wants its own verdict at once.
        anew = instance != (instance := report.instance())
        banned = tell_ban(banned)
        if time.monotonic() - followed > FOLLOW_EVERY:
            followed = time.monotonic()
            clock.follow()
        due = anew or time.monotonic() - asked > (ASK_EVERY if watch.at_rest() else ASK_AGAIN)
        if anew or changed:
            watch.forget()
        if due or mark != secrets_mark() or (changed and not watch.all_active()):
            mark, asked = secrets_mark(), time.monotonic()
            patience, pause = (BOOT_PATIENCE, PAUSE) if anew else (PATIENCE, 1.0)
            # What is known of one service waits for no other: alerts go by it.
            told = watch.settle(
                patience, pause=pause, told=lambda _: publish(plan, watch), busy=anew
            )
            if told or anew:
                tell_services(watch)
            publish(plan, watch)
            hung.look(watch.services)
            if anew and not watch.all_active():
                # Of what changed while nobody listened.
                asked = 0.0


def tell_services(watch: Watch) -> None:
    """Report the verdicts: when the boot is over, and again whenever one changes."""
    symptoms = watch.symptoms()
    more = {"symptoms": symptoms} if symptoms else {}
    report.send("services", services=watch.documents(), secrets=watch.secrets(), **more)


def tell_ban(before: str) -> str:
    """Report whom fail2ban's action has banned, if that is not what was told before; return it."""
    now = report.read(BANNED)
    if now == before:
        return before
    words = now.split()
    if len(words) == 4:
        figures = dict(zip(("failures", "seconds", "until"), map(float, words[1:]), strict=True))
        report.send("ban", address=words[0], **figures)
    else:
        report.send("unban")
    return now


def tell_stage(watch: Watch, service: WatchedService) -> None:
    """Report the stage `sshd` as soon as it answers, and `core` when what every profile has is
    healthy while others are still on their way.
    """
    if service.state != "healthy":
        return
    if service.name == "sshd":
        report.send("sshd")
    if service.core and watch.core_alone():
        report.send("core", services=watch.documents(core=True))


def publish(plan: dict[str, Any], watch: Watch, *, alerts: bool = True) -> None:
    """Write status.json, the portal, and the metrics of the services and of the machine.

    `alerts`: whether Prometheus is asked for those that fire; at the end of a boot none can yet.
    """
    from rave_guest import status, vitals
    from rave_guest.portal import page as portal

    document = status.document(plan, watch.documents(), watch.secrets(), watch.failed_units())
    report.write(report.STATUS, json.dumps(document, indent=1) + "\n")
    told = portal.firing(plan, document) if alerts else []
    report.write(portal.PAGE, portal.page(plan, document, alerts=told, now=time.time()))
    if not os.path.exists(portal.SHEET):
        report.write(portal.SHEET, portal.STYLE)
    report.write(status.METRICS, status.metrics(document) + vitals.metrics())


def notify(message: str) -> None:
    """Tell PID 1, as sd_notify(3) does."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as channel:
        channel.sendto(message.encode(), address)
