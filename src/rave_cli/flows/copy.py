"""Copy into a running machine and out of it, telling how far it is."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rave_cli.errors import ExitCode, RaveError
from rave_cli.flows.events import step
from rave_cli.machines import store
from rave_cli.machines.transfer import copying, placing

if TYPE_CHECKING:
    from rave_cli.flows.events import OnEvent, Step
    from rave_cli.machines.spec import Machine
    from rave_cli.machines.transfer.content import Copied
    from rave_cli.machines.transfer.endpoint import Endpoint

# Seconds between two tellings of how far it is.
TELLS = 0.1

# Characters of a name that leave room beside it for how far the copy is.
LONGEST_TITLE = 20

# How many warnings of a kind are said.
MOST_WARNINGS = 5


@dataclass(frozen=True)
class Done:
    """What was copied, to where it now is, and in how many seconds."""

    copied: Copied
    target: str
    seconds: float

    @property
    def document(self) -> dict[str, object]:
        """What `--json` shows."""
        return {
            "target": self.target,
            "files": self.copied.files,
            "bytes": self.copied.size,
            "seconds": round(self.seconds, 3),
            "leftOut": self.copied.left_out,
            "remarks": self.copied.remarks,
        }


class _Meter:
    """Counts the bytes of a copy and tells the step, not too often."""

    def __init__(self, doing: Step) -> None:
        self.doing = doing
        self.began = time.monotonic()
        self.told = 0.0
        self.done = 0
        self.total: int | None = None

    def expect(self, total: int) -> None:
        """Take how many bytes there will be."""
        self.total = total

    def count(self, size: int) -> None:
        """Take the size of a piece."""
        self.done += size
        now = time.monotonic()
        if now - self.told >= TELLS:
            self.told = now
            speed = size_of(int(self.done / max(now - self.began, TELLS)))
            of = f" of {size_of(self.total)}" if self.total else ""
            self.doing.progress(f"{size_of(self.done)}{of}, {speed}/s", self.done, self.total)


def size_of(count: int) -> str:
    """Return a number of bytes as people read it."""
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"


def copy(
    source: Endpoint, target: Endpoint, *, sudo: bool, leave_out: bool, on_event: OnEvent
) -> Done:
    """Copy a file, a folder or a stream between this host and a machine.

    Args:
        source: where from.
        target: where to; exactly one of the two is in a machine.
        sudo: whether root reads or writes it in the machine.
        leave_out: leave out what must not come onto this host, instead of refusing all.
        on_event: told how far it is.

    Raises:
        RaveError: USAGE for two machines, none, or a path that does not fit; CHECK_FAILED for
            content that must not come onto this host; HOST or NOT_READY as the host or the guest
            cannot.
    """
    machine = _machine_of(source, target)
    began = time.monotonic()
    what = "standard input" if source.is_stream else source.name or source.path
    title = what if len(what) <= LONGEST_TITLE else f"{what[: LONGEST_TITLE - 1]}…"
    with step(on_event, "copy", f"Copying {title}") as doing:
        meter = _Meter(doing)
        if target.machine:
            copied, where = _inward(machine, source, target, sudo=sudo, meter=meter)
        else:
            copied, where = _outward(
                machine, source, target, sudo=sudo, leave_out=leave_out, meter=meter
            )
        _warn(doing, "left out", copied.left_out)
        _warn(doing, f"machine {machine.name} says", copied.remarks)
    return Done(copied, where, time.monotonic() - began)


def _warn(doing: Step, title: str, lines: list[str]) -> None:
    for line in lines[:MOST_WARNINGS]:
        doing.warning(f"{title}: {line}")
    if len(lines) > MOST_WARNINGS:
        doing.warning(f"{title}: {len(lines) - MOST_WARNINGS} more; --json names them all")


def _machine_of(source: Endpoint, target: Endpoint) -> Machine:
    """Return the machine that takes part."""
    if bool(source.machine) == bool(target.machine):
        both = bool(source.machine)
        raise RaveError(
            "both are in machines; rave copies between a machine and this host" if both else
            "neither is in a machine: write it as NAME:PATH",
            hint=f"rave vm cp {source.machine}:{source.path} - | rave vm cp - {target.machine}:"
            f"{target.path}" if both else "rave vm list",
            exit_code=ExitCode.USAGE,
        )  # fmt: skip
    return store.load(source.machine or target.machine or "")


def _inward(
    machine: Machine, source: Endpoint, target: Endpoint, *, sudo: bool, meter: _Meter
) -> tuple[Copied, str]:
    where = f"{machine.name}:{target.path}"
    if source.is_stream:
        copied = copying.send_stream(
            machine, sys.stdin.fileno(), target.path, sudo=sudo, on_bytes=meter.count
        )
        return copied, where
    copied = copying.send(
        machine, placing.existing(source.path), target.path, source.name,
        sudo=sudo, on_total=meter.expect, on_bytes=meter.count,
    )  # fmt: skip
    return copied, where


def _outward(
    machine: Machine,
    source: Endpoint,
    target: Endpoint,
    *,
    sudo: bool,
    leave_out: bool,
    meter: _Meter,
) -> tuple[Copied, str]:
    if target.is_stream:
        copied = copying.fetch_stream(
            machine, source.path, sys.stdout.fileno(),
            sudo=sudo, on_total=meter.expect, on_bytes=meter.count,
        )  # fmt: skip
        return copied, "-"
    place = placing.landing(target.path, source.name)
    copied = copying.fetch(
        machine, source.path, place, sudo=sudo, leave_out=leave_out,
        on_total=meter.expect, on_bytes=meter.count,
    )  # fmt: skip
    return copied, str(place)
