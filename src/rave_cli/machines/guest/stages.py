"""What the guest reports on the virtio-serial port `org.rave.ready`: JSON lines in a file.

The lines come from the guest, so nothing in them is trusted: size, types and text are checked here.
"""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from rave_cli.paths import refusing
from rave_cli.text import clean

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

log = logging.getLogger("rave.machines")

PROTOCOL = 1
LONGEST_LINE = 64 << 10

# Seconds in a thousand years.
LONGEST_UPTIME = 1000 * 366 * 86400

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
        """The services that the guest reports as neither healthy nor waiting for their secrets."""
        services = self.data.get("services")
        if not isinstance(services, dict):
            return ()
        return tuple(
            f"{clean(str(name))} ({clean(str(entry.get('unit', '?')))})"
            for name, entry in services.items()
            if isinstance(entry, dict) and entry.get("state") not in ("healthy", "waiting")
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
    return float(value) if 0 <= value < LONGEST_UPTIME else None


def begins_boot(event: StageEvent, before: StageEvent) -> bool:
    """Return whether an event is of another boot than the one reported before it.

    A guest of rave 0.1.0 does not say. Its uptime falls then; two of its programs that report at
    once may cross by less than a second.
    """
    if event.boot is not None and before.boot is not None:
        return event.boot != before.boot
    fell = before.uptime - event.uptime
    return fell > CROSSING or (fell > 0 and event.stage == "systemd")


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


class Lines:
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


class Tail:
    """Reads what was added to a file since the last call; a file that is not there yet is empty."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self, most: int = 1 << 20) -> bytes:
        """Return at most `most` new bytes.

        Raises:
            RaveError: HOST if the file cannot be read.
        """
        with refusing(self._path):
            try:
                stream = self._path.open("rb")
            except FileNotFoundError:
                return b""
            with stream:
                stream.seek(self._offset)
                data = stream.read(most)
        self._offset += len(data)
        return data

    def skip(self) -> None:
        """Count what is there now as read."""
        with refusing(self._path):
            self._offset = self._path.stat().st_size if self._path.exists() else 0


def read_events(path: Path) -> list[StageEvent]:
    """Return the events of the guest's last boot in a stage file; none if there is no file."""
    return last_boot(Lines().feed(Tail(path).read()))


def last_lines(path: Path, count: int = 12) -> tuple[str, ...]:
    """Return the last lines of a log, cleaned, empty ones left out; none if there is no log."""
    try:
        with path.open("rb") as stream:
            stream.seek(max(0, path.stat().st_size - max(16384, 256 * count)))
            text = stream.read().decode(errors="replace")
    except OSError:
        return ()
    lines = [clean(line).rstrip() for line in text.replace("\r", "\n").split("\n")]
    return tuple([line for line in lines if line][-count:])
