"""What the guest reports on the virtio-serial port `org.rave.ready`: JSON lines in a file.

The lines come from the guest, so nothing in them is trusted: size, types and text are checked here.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rave_cli.machines import logfiles
from rave_cli.machines.guest import symptoms
from rave_cli.text import clean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from rave_cli.machines.guest.symptoms import Symptoms

log = logging.getLogger("rave.machines")

PROTOCOL = 1
LONGEST_LINE = 64 << 10

# Bytes of the reports that are read at most: as many as are kept.
MOST_READ = 1 << 20

# Seconds in a thousand years: no clock of a guest shows more, up or since the epoch.
LONGEST = 1000 * 366 * 86400

# Seconds by which two reports of one boot may be out of order.
CROSSING = 1.0


@dataclass(frozen=True)
class StageEvent:
    """One report of the guest. `uptime` is the guest's own clock in seconds since its kernel began;
    `data` holds whatever else the line carried; `boot` is the id of the guest's boot, None from
    guests of rave 0.1.0.
    """

    stage: str
    instance: str
    uptime: float
    data: dict[str, Any] = field(default_factory=dict)
    boot: str | None = None

    @property
    def failed_services(self) -> tuple[str, ...]:
        """The services that the guest reports as neither healthy nor on their way to it, which is
        to wait for their secrets or to start within their deadline.
        """
        return self._services(lambda state: state not in ("healthy", "waiting", "starting"))

    @property
    def starting_services(self) -> tuple[str, ...]:
        """The services that are not healthy yet and have time left."""
        return self._services(lambda state: state == "starting")

    def _services(self, wanted: Callable[[object], bool]) -> tuple[str, ...]:
        """Return the services whose state is wanted, each with its unit."""
        services = self.data.get("services")
        if not isinstance(services, dict):
            return ()
        return tuple(
            f"{clean(str(name))} ({clean(str(entry.get('unit', '?')))})"
            for name, entry in services.items()
            if isinstance(entry, dict) and wanted(entry.get("state"))
        )

    @property
    def service_uptimes(self) -> dict[str, float]:
        """For each healthy service the guest's uptime in seconds when it became so."""
        services = self.data.get("services")
        if not isinstance(services, dict):
            return {}
        healthy = {
            clean(str(name)): _seconds(entry.get("uptime"))
            for name, entry in services.items()
            if isinstance(entry, dict) and entry.get("state") == "healthy"
        }
        return {name: uptime for name, uptime in healthy.items() if uptime is not None}

    @property
    def secrets(self) -> str | None:
        """What the guest says of its secrets: absent, installed, failed; None if nothing."""
        value = self.data.get("secrets", self.data.get("state"))
        return clean(value) if isinstance(value, str) else None

    @property
    def symptoms(self) -> Symptoms | None:
        """What the guest sees of itself, which it tells where something has failed."""
        return symptoms.read(self.data.get("symptoms"))

    @property
    def units(self) -> tuple[str, ...]:
        """The units that had failed when the guest gave up."""
        value = self.data.get("units", "")
        return tuple(clean(value).split()[:8]) if isinstance(value, str) else ()

    @property
    def reason(self) -> str:
        """Why the guest reports a failure, as far as it says."""
        value = self.data.get("reason", self.data.get("detail", ""))
        return clean(str(value))[:200]


def parse_line(line: bytes) -> StageEvent | None:
    """Return the event of one line, or None if it is not one this version understands."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(message, dict) or message.get("v") != PROTOCOL:
        return None
    stage, instance = message.get("stage"), message.get("instance")
    uptime = _seconds(message.get("uptime", 0.0))
    if not isinstance(stage, str) or not isinstance(instance, str) or uptime is None:
        return None
    boot = message.get("boot")
    known = {"v", "stage", "instance", "uptime", "boot"}
    return StageEvent(
        stage,
        instance,
        uptime,
        {k: v for k, v in message.items() if k not in known},
        boot if isinstance(boot, str) else None,
    )


def _seconds(value: object) -> float | None:
    """Return a number of seconds of a guest; None if it is none that a clock could show."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value) if 0 <= value < LONGEST else None


def begins_boot(event: StageEvent, before: StageEvent) -> bool:
    """Return whether an event is of another boot than the one reported before it.

    A guest of rave 0.1.0 does not say. The report of systemd is the first of each of its boots;
    should that be missing, its uptime has fallen. Two of its programs that report at once may cross
    by less than a second.
    """
    if event.boot is not None and before.boot is not None:
        return event.boot != before.boot
    return event.stage == "systemd" or before.uptime - event.uptime > CROSSING


def last_boot(events: Sequence[StageEvent]) -> list[StageEvent]:
    """Return the events of the guest's last boot: an earlier one says nothing of how it is now."""
    first = 0
    for number, (before, event) in enumerate(pairwise(events), start=1):
        if begins_boot(event, before):
            first = number
    return list(events[first:])


def current(events: Sequence[StageEvent]) -> list[StageEvent]:
    """Return what still holds of some events: those of the last boot, and of its verdicts on the
    services the last.
    """
    found = last_boot(events)
    verdicts = [event for event in found if event.stage == "services"][:-1]
    return [event for event in found if event not in verdicts]


@dataclass(frozen=True)
class Ban:
    """A ban of this host's address: `seconds` are left of it."""

    seconds: float
    failures: int


def ban(events: Sequence[StageEvent], now: float) -> Ban | None:
    """Return the ban that the guest's firewall has on this host, if the guest tells of one.

    Args:
        events: of the guest's last boot.
        now: seconds since the epoch.
    """
    told = [event for event in events if event.stage in ("ban", "unban")]
    if not told or told[-1].stage == "unban":
        return None
    data = told[-1].data
    until, whole = _seconds(data.get("until")), _seconds(data.get("seconds"))
    failures = _seconds(data.get("failures"))
    if until is None or whole is None:
        return None
    # The guest's clock may be wrong; a ban does not last longer than it lasts.
    left = min(until - now, whole)
    return Ban(left, int(failures or 0)) if left > 0 else None


class StageReader:
    """Cuts received bytes into lines; one that is too long is dropped whole."""

    def __init__(self) -> None:
        self._rest = b""
        self._skipping = False

    def feed(self, data: bytes) -> list[StageEvent]:
        """Return the events that are complete now."""
        pieces = (self._rest + data).split(b"\n")
        self._rest = pieces.pop()
        events = []
        for line in pieces:
            event = None if self._skipping or len(line) > LONGEST_LINE else parse_line(line)
            self._skipping = False
            if event is not None:
                events.append(event)
            elif line.strip():
                log.debug("ignored on the stage port: %r", line[:80])
        if len(self._rest) > LONGEST_LINE:
            self._rest, self._skipping = b"", True
        return events


def read_events(path: Path) -> list[StageEvent]:
    """Return the events of the guest's last boot in a stage file; none if there is no file."""
    return last_boot(_read(path))


def booted_again(path: Path) -> bool:
    """Return whether a stage file tells of more than one boot."""
    events = _read(path)
    return len(last_boot(events)) < len(events)


def _read(path: Path) -> list[StageEvent]:
    return StageReader().feed(logfiles.end(path, MOST_READ))
