"""What wakes rave up to make the backups that are due: units for systemd, a line for cron.

Both run one script, which has the environment that the schedule was made in; so neither's rules of
quoting have to hold more than one path.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

UNIT = "rave-backup"
LOG_UNIT = "rave-backup-log"
# Seconds after which a run is ended: a first backup, and a restore test that boots a machine.
LONGEST = 6 * 3600

SERVICE = """\
[Unit]
Description=Backups of rave's machines that are due
# Only rave knows what is due: it is asked each quarter of an hour.

[Service]
Type=oneshot
ExecStart=/bin/sh {script}
TimeoutStartSec={longest}
UMask=0077
{limits}"""

# Below whatever else the host does: SAFE mode.
LIMITS = """\
Nice=10
CPUWeight=20
IOSchedulingClass=best-effort
IOSchedulingPriority=7
IOWeight=20
"""

TIMER = """\
[Unit]
Description=Asks rave each quarter of an hour for backups that are due

[Timer]
OnCalendar=*:0/15
AccuracySec=1min
RandomizedDelaySec=30
# What was missed while the host was off.
Persistent=true

[Install]
WantedBy=timers.target
"""


LOG_SERVICE = """\
[Unit]
Description=PostgreSQL's log of rave's machines, between their backups

[Service]
Type=oneshot
ExecStart=/bin/sh {script} --logs
TimeoutStartSec={longest}
UMask=0077
{limits}"""

# With what a fetch takes itself, no more than five minutes can be lost.
LOG_TIMER = """\
[Unit]
Description=Fetches PostgreSQL's log of rave's machines each four minutes

[Timer]
OnCalendar=*:0/4
AccuracySec=1s

[Install]
WantedBy=timers.target
"""


def script(words: Sequence[str], environment: Mapping[str, str]) -> str:
    """Return the script: a command (its words) in an environment."""
    lines = [f"export {name}={shlex.quote(value)}" for name, value in sorted(environment.items())]
    exported = "".join(f"{line}\n" for line in lines)
    called = f'exec {shlex.join(words)} "$@"\n'
    return f"#!/bin/sh\n# Written by rave backup schedule set.\n{exported}{called}"


def units(place: str, *, sparing: bool, logs: bool = False) -> dict[str, str]:
    """Return the units that run the script at `place`, by file name; with `logs` also those that
    fetch PostgreSQL's log.

    Raises:
        RaveError: USAGE if no unit can name that place.
    """
    limits = LIMITS if sparing else ""
    of_logs = (LOG_UNIT, LOG_SERVICE, LOG_TIMER)
    return {
        f"{unit}.{kind}": text.format(script=_word(place), longest=LONGEST, limits=limits)
        for unit, service, timer in ((UNIT, SERVICE, TIMER), *((of_logs,) if logs else ()))
        for kind, text in (("service", service), ("timer", timer))
    }


def cron_line(place: str, *, sparing: bool, logs: bool = False) -> str:
    """Return the line of a crontab (crontab(5)) that does the same without systemd; with `logs`
    that which fetches PostgreSQL's log.

    Raises:
        RaveError: USAGE if no crontab can name that place.
    """
    _refuse_odd(place)
    nice = "nice -n 10 ionice -c 2 -n 7 " if sparing else ""
    # An unescaped % ends the command.
    when, more = ("*/4", " --logs") if logs else ("*/15", "")
    return f"{when} * * * * {nice}{shlex.quote(place)}{more}".replace("%", "\\%")


def _word(text: str) -> str:
    """Return a word of a command line in a unit (systemd.service(5), "Command lines")."""
    _refuse_odd(text)
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return f'"{escaped}"'


def _refuse_odd(text: str) -> None:
    if not text.isprintable():
        raise RaveError(
            f"no timer can name {text!r}",
            hint="set XDG_STATE_HOME to a directory without control characters",
            exit_code=ExitCode.USAGE,
        )
