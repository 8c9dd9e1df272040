"""What `rave up` costs from a template to a signed transcript, in seconds and in processor time.

Usage: python -m benchmarks.bench_up [ROUNDS] [PROFILE]

Needs the image, and secrets that are made if there are none; a template is made first if none
fits. Each round makes a machine, which is deleted afterwards, in a process that has imported what
it needs, outside of a checkout. A step ends with what it tells last: `itself`, `ready` (secrets and
services), `proven`. Of each the seconds on the clock, the processor time of QEMU, and that of this
process with the programs that it starts. Two processors give two seconds of their time at most in
one on the clock, so what `proven` costs bounds how soon it can be, whatever else the host does;
`load` is what that was, `blocks` how much of the guest's code was translated.
"""

from __future__ import annotations

import os
import re
import resource
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.measure import report, summary
from rave_cli.flows import templates
from rave_cli.flows.machine import NewMachine
from rave_cli.flows.up import up
from rave_cli.machines import lifecycle
from rave_cli.machines.qemu import processes
from rave_cli.machines.qemu.qmp import Qmp, QmpError
from rave_cli.machines.spec import machines_dir
from rave_cli.profiles.source import load_catalog
from rave_cli.settings import load

if TYPE_CHECKING:
    from rave_cli.flows.events import Event
    from rave_cli.profiles.catalog import Catalog
    from rave_cli.settings import Settings

NAME = "bench-up"
LIMIT = 6.0  # seconds, p50, TCG, two cores
TICKS = os.sysconf("SC_CLK_TCK")
MONITOR_ANSWERS = 2.0


@dataclass
class Round:
    """One `rave up` as its events tell it."""

    began: float = field(default_factory=time.monotonic)
    marks: dict[str, tuple[float, float, float]] = field(default_factory=dict)
    warm: bool = False
    spent: float = 0.0

    def hear(self, event: Event) -> None:
        """Note what the end of a step costs."""
        if event.kind == "begin" and event.step == "start":
            self.warm = "from template" in event.text
        if event.kind == "progress" and event.text.startswith("itself"):
            self.mark("itself")
        elif event.kind == "end" and event.step in ("start", "check"):
            self.mark({"start": "ready", "check": "proven"}[event.step])

    def mark(self, name: str) -> None:
        """Note what was spent until now."""
        own = own_seconds() - self.spent
        self.marks[name] = (time.monotonic() - self.began, qemu_seconds(), own)


def own_seconds() -> float:
    """Return the processor time of this process and of the programs that it started."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def running() -> processes.Process | None:
    """Return the QEMU of the machine."""
    place = machines_dir() / NAME
    return next((found for found in processes.machines() if found.directory == place), None)


def qemu_seconds() -> float:
    """Return the processor time that QEMU has had (proc(5), utime and stime)."""
    found = running()
    if found is None:
        return 0.0
    words = (processes.PROC / str(found.pid) / "stat").read_text().rpartition(")")[2].split()
    return (int(words[11]) + int(words[12])) / TICKS


def translated() -> int:
    """Return how many blocks of the guest's code QEMU has translated; 0 if it cannot tell."""
    found = running()
    if found is None or found.runtime is None:
        return 0
    ask = {"command-line": "info jit"}
    try:
        with Qmp.connect(found.runtime / "qmp.sock", timeout=MONITOR_ANSWERS) as monitor:
            told = monitor.execute("human-monitor-command", timeout=MONITOR_ANSWERS, **ask)
    except QmpError:
        return 0
    count = re.search(r"TB count +(\d+)", str(told))
    return int(count[1]) if count else 0


def one(wanted: NewMachine, catalog: Catalog, settings: Settings) -> dict[str, float]:
    """Bring a machine up, return what that took, and delete it."""
    heard = Round(spent=own_seconds())
    try:
        done = up(wanted, catalog, settings, fresh=True, check=True, on_event=heard.hear)
        if not (done.passed and heard.warm):
            raise SystemExit("a check failed, or it was booted: rave up")
        figures = {"blocks": float(translated())}
    finally:
        lifecycle.delete(NAME, force=True)
    for name, (clock, qemu, own) in heard.marks.items():
        figures |= {f"{name}: clock": clock, f"{name}: QEMU": qemu, f"{name}: client": own}
    return figures


def main(rounds: int = 10, profile: str = "demo") -> int:
    """Print the figures; exit with 1 if the median is above its limit."""
    catalog = load_catalog(Path.cwd())
    wanted = NewMachine(catalog.plan(profile, "debian"), "safe", name=NAME)
    with tempfile.TemporaryDirectory(prefix="rave-bench-") as place:
        os.chdir(place)
        settings = load()
        templates.get(wanted, settings, on_event=lambda _event: None)
        loads, found = [], []
        for _ in range(rounds + 1):
            loads.append(os.getloadavg()[0])
            found.append(one(wanted, catalog, settings))
    # The first one imports what the others find.
    figures = {name: summary([each[name] for each in found[1:]]) for name in found[0]}
    report("up", {"seconds": figures, "load": summary(loads[1:]), "limit": LIMIT})
    return int(figures["proven: clock"]["p50"] > LIMIT)


if __name__ == "__main__":
    sys.exit(main(*(int(word) if word.isdigit() else word for word in sys.argv[1:])))  # type: ignore[arg-type]
