"""Vibe Kanban: who is let in, whether what is written there is kept, and that it reaches nobody."""

from __future__ import annotations

import os

from rave_guest import plan as plans
from rave_guest.check import Subject, check
from rave_guest.state import files, sqlite
from rave_guest.verdict import Verdict, failed, judge
from rave_guest.wire import http

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

    from rave_guest.system import System

STORE = "db.sqlite"
UNIT = "vibe-kanban.service"
# Seconds: its program starts with the first request, and the first of all makes its database.
REQUEST = 300.0


def _web(about: Subject) -> dict[str, Any]:
    return {"port": plans.port_of(about.plan, "vibe-kanban", "web")}


@check(
    "vibe-kanban.alone", phase="health",
    title="Vibe Kanban answers who is let in, and reaches neither another host nor this one",
    needs=("vibe-kanban.units",), timeout=REQUEST, arguments=_web,
)  # fmt: skip
def alone(arguments: Mapping[str, Any], system: System) -> Verdict:
    """Its program has a network of its own, with nothing in it but loopback."""
    address = f"http://127.0.0.1:{arguments['port']}/api/projects"
    answer = http.get(address, arguments["timeout"])
    if answer.status != 200 or b'"success":true' not in answer.body:
        return failed(f"it answers with status {answer.status}")
    pid = system.units([UNIT], ("MainPID",))[UNIT]["MainPID"]
    with open(f"/proc/{pid}/net/dev", encoding="ascii") as stream:
        links = [line.partition(":")[0].strip() for line in stream if ":" in line]
    same = os.stat(f"/proc/{pid}/ns/net").st_ino == os.stat("/proc/self/ns/net").st_ino
    problems = ["it is in the network of the machine"] if same or links != ["lo"] else []
    return judge(problems, "it answers, and its network has nothing but loopback")


def keep(_plan: Mapping[str, Any], path: str, folder: str) -> Iterator[tuple[str, Iterable[bytes]]]:
    """Its store as of one moment, made by SQLite while it goes on, and then its files: settings,
    and the repositories that were made there. Whoever never came left no store.
    """
    if os.path.exists(f"{path}/{STORE}"):
        yield from sqlite.kept("Vibe Kanban", path, STORE, folder)
    yield from files.kept(path, lambda name: name.startswith(STORE))


def put(folder: str, target: str, _ours: str) -> None:
    """Lay them where it looks."""
    files.put(folder, target)
    if os.path.exists(f"{folder}/{STORE}"):
        sqlite.put(folder, target, STORE)


def marks(_plan: Mapping[str, Any], path: str, lines: list[str] | None) -> list[str]:
    """A file of rave's own beside its store (state/marks.py)."""
    return files.marks(path, lines)
