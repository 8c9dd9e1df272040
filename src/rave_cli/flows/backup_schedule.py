"""Back machines up by themselves: when, what wakes rave up for it, and what is done then."""

from __future__ import annotations

import os
import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rave_cli import audit, paths, process, settings
from rave_cli.audit import AuditedCommand
from rave_cli.backups import ledger, schedule, timers
from rave_cli.backups.retention import DAYS, RetentionPolicy
from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows import away, backup, backup_now, restore_test, vault
from rave_cli.flows import log as logs
from rave_cli.flows.events import Event
from rave_cli.machines import store
from rave_cli.machines.names import stored_names

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.backups.schedule import BackupSchedule, BackupSchedules
    from rave_cli.flows.events import OnEvent
    from rave_cli.profiles.catalog import Catalog
    from rave_cli.settings import Settings

# What a run needs to find what the command that made the schedule found. No secret is among them:
# an identity that is in the environment alone is told instead.
INHERITED = (
    "HOME", "PATH", "SOPS_AGE_KEY_CMD", "SOPS_AGE_KEY_FILE", "XDG_CACHE_HOME", "XDG_CONFIG_HOME",
    "XDG_DATA_HOME", "XDG_RUNTIME_DIR", "XDG_STATE_HOME",
)  # fmt: skip
# There where systemd is what this host runs (sd_booted(3)).
BOOTED = Path("/run/systemd/system")
LINGER = Path("/var/lib/systemd/linger")
ANSWERS = 30.0  # seconds for systemctl
BUSY = "another run is under way"


@dataclass(frozen=True)
class Waking:
    """What wakes rave up.

    Attributes:
        script: what is run each quarter of an hour.
        units: where the units are.
        user: whether they are the user's own, not the host's.
        running: whether systemd has the timer.
        cron: the line for a crontab that does the same.
        log_cron: the one that fetches logs; None if none are to be fetched.
    """

    script: Path
    units: Path
    user: bool
    running: bool
    cron: str
    log_cron: str | None

    @property
    def lines(self) -> str:
        """What a crontab needs, for people."""
        return "; ".join(filter(None, (self.cron, self.log_cron)))

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "script": str(self.script),
            "units": str(self.units),
            "user": self.user,
            "running": self.running,
            "cron": self.cron,
            "logCron": self.log_cron,
        }


def listed() -> BackupSchedules:
    """Return the schedules.

    Raises:
        RaveError: HOST if they cannot be read.
    """
    return schedule.load()


def put(wanted: BackupSchedule, given: Settings, *, on_event: OnEvent) -> Waking:
    """Keep a schedule, and let rave be woken up for it.

    Raises:
        RaveError: USAGE if there is no such machine, or it keeps nothing; HOST if something cannot
            be written, or systemd refuses.
    """
    machine = store.load(wanted.machine)
    backup.keeps_something(machine)
    if wanted.log:
        logs.has_log(machine)
    before = schedule.load().of(wanted.machine)
    if before is not None and before.log and not wanted.log:
        _stop_log(wanted.machine, on_event)
    schedule.save(schedule.load().with_(wanted))
    waking = _written(given)
    if not BOOTED.is_dir() or process.find("systemctl") is None:
        text = f"no systemd runs here; let something else run {waking.script}, such as cron"
        on_event(Event("warning", "schedule", f"{text}: {waking.lines}"))
        return waking
    _systemctl(waking.user, "daemon-reload")
    _systemctl(waking.user, "enable", "--now", f"{timers.UNIT}.timer")
    if waking.log_cron:
        _systemctl(waking.user, "enable", "--now", f"{timers.LOG_UNIT}.timer")
    else:
        _without(timers.LOG_UNIT)
    name = os.environ.get("USER", "")
    if waking.user and not (LINGER / name).exists():
        text = f"your timers run while you are logged in alone: loginctl enable-linger {name}"
        on_event(Event("warning", "schedule", text))
    return waking_now(given)


def _stop_log(machine: str, on_event: OnEvent) -> None:
    """Let a machine hold its log no longer; it gives it up by itself after a while."""
    try:
        logs.stop(machine, on_event=on_event)
    except RaveError as error:
        text = f"{machine} holds its log for now, and its alert comes: {error.message}"
        on_event(Event("warning", "schedule", f"{text}; later: rave backup log {machine} --stop"))


def remove(machine: str, *, on_event: OnEvent) -> bool:
    """Take the schedule of a machine away, and with the last one what wakes rave up; returns
    whether there was one.

    Raises:
        RaveError: HOST if something cannot be written, or systemd refuses.
    """
    before = schedule.load()
    left = before.without(machine)
    if left == before:
        return False
    was = before.of(machine)
    if was is not None and was.log and machine in stored_names():
        _stop_log(machine, on_event)
    schedule.save(left)
    if not any(one.log for one in left.schedules):
        _without(timers.LOG_UNIT)
    if not left.schedules:
        _without(timers.UNIT)
    return True


def _without(unit: str) -> None:
    """Take a timer and what it runs away, if they are there."""
    user, folder = _unit_folder()
    if not (folder / f"{unit}.timer").exists():
        return
    if BOOTED.is_dir() and process.find("systemctl") is not None:
        _systemctl(user, "disable", "--now", f"{unit}.timer")
    for name in (f"{unit}.timer", f"{unit}.service"):
        with paths.refusing(folder / name):
            (folder / name).unlink(missing_ok=True)


def waking_now(given: Settings) -> Waking:
    """Return what wakes rave up, as it is."""
    user, folder = _unit_folder()
    script = _script()
    running = False
    if BOOTED.is_dir() and process.find("systemctl") is not None:
        words = _words(user, "is-active", f"{timers.UNIT}.timer")
        running = process.run(words, timeout=ANSWERS).ok
    sparing = given.mode == "safe"
    cron = timers.cron_line(str(script), sparing=sparing)
    fetches = any(one.log for one in schedule.load().schedules)
    log_cron = timers.cron_line(str(script), sparing=sparing, logs=True) if fetches else None
    return Waking(script, folder, user, running, cron, log_cron)


def _written(given: Settings) -> Waking:
    """Write the script and the units."""
    waking = waking_now(given)
    words = (sys.executable, "-m", "rave_cli", "backup", "schedule", "run")
    text = timers.script(words, _environment(given))
    paths.private_dir(waking.script.parent)
    paths.atomic_write(waking.script, text.encode(), mode=0o700)
    wanted = timers.units(
        str(waking.script), sparing=given.mode == "safe", logs=waking.log_cron is not None
    )
    for name, unit in wanted.items():
        paths.atomic_write(waking.units / name, unit.encode(), mode=0o644)
    return waking


def _environment(given: Settings) -> dict[str, str]:
    """Return the environment of a run: the settings that are none of the defaults, wherever they
    come from, and what says where things are.
    """
    set_ = {
        name: setting.value
        for name, setting in given.values.items()
        if setting.value != settings.DEFAULTS[name]
    }
    return {name: os.environ[name] for name in INHERITED if os.environ.get(name)} | set_


def _script() -> Path:
    return paths.state_dir() / "backups" / "run"


def _unit_folder() -> tuple[bool, Path]:
    """Return whether the units are the user's own, and where they are."""
    if os.geteuid() == 0:
        return False, Path("/etc/systemd/system")
    return True, paths.config_dir().parent / "systemd/user"


def _systemctl(user: bool, *words: str) -> None:
    argv = _words(user, *words)
    done = process.run(argv, timeout=ANSWERS)
    if not done.ok:
        raise RaveError(
            f"systemd does not take the timer: {' '.join(done.tail(1))}",
            hint=f"{' '.join(argv)}; the schedule is kept, and rave backup schedule list has a line"
            " for cron",
            exit_code=ExitCode.HOST,
        )


def _words(user: bool, *words: str) -> tuple[str, ...]:
    return ("systemctl", *(("--user",) if user else ()), *words)


@dataclass(frozen=True)
class ScheduledRun:
    """What a run did: names of machines that were backed up, that were restored to see whether
    they can be, and of what failed with the faults; and the other place that has a copy of it
    (`backup copy` among what failed if it has not).
    """

    backed: tuple[str, ...]
    tested: tuple[str, ...]
    failed: tuple[tuple[str, RaveError], ...]
    copied: str | None = None

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "backedUp": list(self.backed),
            "tested": list(self.tested),
            "copiedTo": self.copied,
            "failed": {name: fault.message for name, fault in self.failed},
        }


def run_due(
    given: Settings, catalog: Callable[[], Catalog], *, on_event: OnEvent
) -> ScheduledRun | None:
    """Make the backups and restore tests that are due, one after the other; what fails keeps no
    other back. None if another run is under way.

    Raises:
        RaveError: HOST if the schedules cannot be read.
    """
    lock = paths.state_dir() / "backups/.run.lock"
    paths.private_dir(lock.parent)
    with ExitStack() as stack:
        try:
            stack.enter_context(paths.lock(lock, busy=BUSY))
        except RaveError as error:
            if error.message != BUSY:
                raise
            return None
        return _run_due(given, catalog, on_event)


def _run_due(given: Settings, catalog: Callable[[], Catalog], on_event: OnEvent) -> ScheduledRun:
    backed: list[str] = []
    tested: list[str] = []
    failed: list[tuple[str, RaveError]] = []
    there = set(stored_names())
    for one in schedule.load().schedules:
        name = one.machine
        if name not in there:
            on_event(Event("note", "schedule", f"there is no machine {name} any more"))
            continue
        try:
            if one.is_due(ledger.load(name).made, time.time()):
                _back_up(one, given, on_event)
                backed.append(name)
                _retain(one, given, on_event)
            if one.test_is_due(ledger.load(name).restored, time.time()):
                with _told("backup verify", name, on_event):
                    restore_test.prove(name, given, catalog(), on_event=on_event)
                tested.append(name)
        except RaveError as error:
            failed.append((name, error))
            on_event(Event("warning", "schedule", f"{name}: {error.message}"))
    copied = None
    try:
        copied = _copied(given, on_event, made=bool(backed))
    except RaveError as error:
        failed.append(("backup copy", error))
        on_event(Event("warning", "schedule", f"the copy in another place: {error.message}"))
    return ScheduledRun(tuple(backed), tuple(tested), tuple(failed), copied)


def _copied(given: Settings, on_event: OnEvent, *, made: bool) -> str | None:
    """Copy the backups to the other place, if one is named and lacks something."""
    if not away.is_named() or not (made or away.due(given)):
        return None
    with _told("backup copy", "", on_event):
        return away.copy(given, on_event=on_event).place


def _back_up(one: BackupSchedule, given: Settings, on_event: OnEvent) -> None:
    with _told("backup now", one.machine, on_event):
        backup_now.now(one.machine, given, on_event=on_event)


@dataclass(frozen=True)
class FetchedLogs:
    """What a run of logs did: names of machines whose log was fetched, and of what failed with the
    faults.
    """

    fetched: tuple[str, ...]
    failed: tuple[tuple[str, RaveError], ...]

    def document(self) -> dict[str, Any]:
        """Return it for JSON."""
        return {
            "fetched": list(self.fetched),
            "failed": {name: fault.message for name, fault in self.failed},
        }


def run_logs(given: Settings, *, on_event: OnEvent) -> FetchedLogs:
    """Fetch the logs that are to be fetched, one after the other; what fails keeps no other back.
    A machine without a backup from which its log leads on is backed up.

    Raises:
        RaveError: HOST if the schedules cannot be read.
    """
    fetched: list[str] = []
    failed: list[tuple[str, RaveError]] = []
    there = set(stored_names())
    for one in schedule.load().schedules:
        if not one.log or one.machine not in there:
            continue
        try:
            with _told("backup log", one.machine, on_event):
                done = logs.fetch(one.machine, given, on_event=on_event)
            fetched.append(one.machine)
            made = ledger.load(one.machine).made
            # What was tried in vain is tried again by the other run, after an hour.
            if not done.based and (made is None or (made.until is not None and made.error is None)):
                _back_up(one, given, on_event)
        except RaveError as error:
            failed.append((one.machine, error))
            on_event(Event("warning", "schedule", f"{one.machine}: {error.message}"))
    return FetchedLogs(tuple(fetched), tuple(failed))


@contextmanager
def _told(verb: str, name: str, on_event: OnEvent) -> Iterator[None]:
    """Let the audit log tell of what is done by itself, as of the command that would do it."""

    def warn(text: str) -> None:
        on_event(Event("warning", "schedule", text))

    told = AuditedCommand.of(verb, (name,) if name else (), ("(scheduled)",))
    with audit.attempt(told, warn) as attempt:
        try:
            yield
        except RaveError as error:
            attempt.exit_code = int(error.exit_code)
            raise
        attempt.exit_code = int(ExitCode.OK)


def _retain(one: BackupSchedule, given: Settings, on_event: OnEvent) -> None:
    """Take away what the schedule does not keep of its machine; the backup stands if that fails."""
    policy = RetentionPolicy(one.days, one.months, one.log or DAYS)
    try:
        with _told("backup prune", one.machine, on_event):
            vault.prune(given, policy, machine=one.machine, on_event=on_event)
    except RaveError as error:
        text = f"old backups of {one.machine} stay for now: {error.message}"
        on_event(Event("warning", "schedule", text))
