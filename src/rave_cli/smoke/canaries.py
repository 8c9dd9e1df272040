"""Searches the host for the operator's secrets, where they must not be.

The image, the store output, QEMU's argv and environment, the machine's logs. Findings name the
secret and the place, never the value.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from rave_cli import process
from rave_cli.machines.logfiles import end
from rave_cli.machines.qemu import processes
from rave_cli.smoke.declarations import check
from rave_cli.smoke.model import Verdict, judge
from rave_cli.transcript.redaction import forms

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_cli.smoke.context import CheckContext

NOTHING = "there are no secrets to search for: {}"
# Shorter forms would be found by chance in hundreds of megabytes.
SHORTEST = 12
SEARCH_SECONDS = 120.0
# Bytes. What a log may have is far less; those of rave 0.1.0 have no bound.
MOST_OF_A_LOG = 1 << 28


def patterns(values: Mapping[str, str]) -> dict[bytes, str]:
    """Return every form in which a value may turn up, with the name of its secret.

    Forms of several lines are left to their lines, because grep searches line by line.
    """
    return {
        form.encode(): name
        for name, value in values.items()
        for form in forms(value.encode())
        if len(form) >= SHORTEST and "\n" not in form
    }


@check("security.canary-image", phase="security", viewpoint="host", step="image",
       title="neither image nor store output holds a secret")  # fmt: skip
def image(context: CheckContext) -> Verdict:
    """Search the raw bytes of the whole store output, the qcow2 included."""
    if not context.hidden:
        return Verdict("skip", NOTHING.format(context.operator.why_none))
    packed = _compressed(context.image.qcow2)
    if packed != 0:
        return Verdict("error", f"{packed or 'an unknown number of'} compressed clusters cannot be"
                       " searched")  # fmt: skip
    return search(Path(context.image.store_path), patterns(context.hidden))


def search(place: Path, sought: Mapping[bytes, str]) -> Verdict:
    """Search all files below `place` with grep, which gets the patterns on standard input."""
    argv = ["grep", "-rlaF", "-f", "-", "--", str(place)]
    words = b"\n".join(sought) + b"\n"
    done = process.run(argv, stdin=words, timeout=SEARCH_SECONDS, env={"LC_ALL": "C"})
    if done.returncode > 1:
        return Verdict("error", f"grep: {' '.join(done.tail(1))}")
    found = [f"found in {path}" for path in done.text.splitlines()]
    return judge(found, f"{_extent(sought)} not found in {place}")


def _compressed(image: Path) -> int | None:
    """Return how many clusters of a qcow2 are compressed; None if qemu-img cannot tell."""
    done = process.run(["qemu-img", "check", "-U", "--output=json", image], timeout=60)
    try:
        return int(json.loads(done.stdout).get("compressed-clusters", 0))
    except ValueError:
        return None


@check("security.canary-qemu", phase="security", viewpoint="host", step="end",
       title="QEMU's argv and environment hold no secret")  # fmt: skip
def qemu(context: CheckContext) -> Verdict:
    """Read QEMU's command line and environment as any process of this user can."""
    if not context.hidden:
        return Verdict("skip", NOTHING.format(context.operator.why_none))
    found = processes.find(context.machine)
    if found is None:
        return Verdict("error", "QEMU is gone")
    place = Path("/proc") / str(found.pid)
    texts = {name: (place / name).read_bytes() for name in ("cmdline", "environ")}
    return find(texts, patterns(context.hidden))


@check("security.canary-logs", phase="security", viewpoint="host", step="end",
       title="console, QEMU and stage logs hold no secret")  # fmt: skip
def logs(context: CheckContext) -> Verdict:
    """Read what the machine printed and reported."""
    if not context.hidden:
        return Verdict("skip", NOTHING.format(context.operator.why_none))
    machine = context.machine
    places = (machine.console_log, machine.qemu_log, machine.stage_file)
    texts = {path.name: end(path, MOST_OF_A_LOG) for path in places}
    return find(texts, patterns(context.hidden))


@check("security.canary-records", phase="security", viewpoint="host", step="end",
       title="nothing had to be redacted in this run's record")  # fmt: skip
def records(context: CheckContext) -> Verdict:
    """Say whether anything had to be redacted from what this run recorded."""
    if not context.hidden:
        return Verdict("skip", NOTHING.format(context.operator.why_none))
    found = context.recorded()
    problems = [f"{found.redacted} places had to be redacted"] if found.redacted else []
    return judge(problems, f"{found.events} events, none held a secret")


def find(texts: Mapping[str, bytes], sought: Mapping[bytes, str]) -> Verdict:
    """Search texts, given by the name of their place."""
    hits = {(name, where) for where, text in texts.items() for form, name in sought.items()
            if form in text}  # fmt: skip
    problems = [f"{name} is in {where}" for name, where in sorted(hits)]
    return judge(problems, f"{_extent(sought)} not found in {', '.join(texts)}")


def _extent(sought: Mapping[bytes, str]) -> str:
    return f"{len(set(sought.values()))} secrets in {len(sought)} forms"
