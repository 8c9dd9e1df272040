"""Why a job waits, asked of a pool that is served: each reason there is, and the commands that end
what somebody must end. What a host lacks is said to it by files of the test.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, get_args

import pytest

from rave_cli.pool import served as record
from rave_cli.pool.access.local import LocalPool
from rave_cli.pool.asking.explaining import ReasonCode
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.served import served
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from rave_cli.pool.asking.explaining import JobReason
    from rave_cli.pool.jobs.store import JobStore
    from rave_cli.pool.served import HoldCode, ServingRecord

pytestmark = pytest.mark.integration

# Serves with a sandbox of this host. Beside its log lie files that say how its host is: `idle`
# agents take nothing, little `memory` or room on the `disk` is left, the template is `made`, or
# `none` can be. What failed rests for longer than a test takes.
SERVER = """
import os, shutil, time
from pathlib import Path
from types import SimpleNamespace
from rave_cli import app
from rave_cli.errors import RaveError
from rave_cli.flows import templates
from rave_cli.machines import preflight
from rave_cli.pool.agents import agent, crew, disk, room, sandbox
from rave_cli.pool.queue import broker, streams
from tests.integration.pool.pools import ProcessSandbox
is_so = lambda state: Path(os.environ["HOME"], "host", state).exists()
free = lambda mib: SimpleNamespace(free=mib << 20)
take = streams.Queue.take
templates.get = lambda *_words, **_named: None
preflight.available_mib = lambda: 100 if is_so("memory") else 1 << 20
disk.shutil = SimpleNamespace(disk_usage=lambda _place: free(1 if is_so("disk") else 1 << 20))
streams.Queue.take = lambda *words, **named: (
    time.sleep(0.05) if is_so("idle") else take(*words, **named)
)
agent.NOTICES = crew.MAKES_AGAIN = crew.MAKES = 0.1
agent.delay = lambda _tries: 1e6
broker.ANSWERS = 1.0
class Sandbox(ProcessSandbox):
    def prepare(self):
        while is_so("made"):
            time.sleep(0.05)
        if is_so("none"):
            raise RaveError("there is no image of it", hint="rave vm build-image", exit_code=4)
sandbox.MachineSandbox = lambda *_words, **_named: Sandbox()
room.need_mib = sandbox.need_mib = lambda *_words: 256
app.main(["pool", "serve", "--profile", "demo", "--base", "debian", "--agents", "1",
          "--memory", "1024"])
"""

# States, what whoever serves says then, and what a job is said to wait for, with what helps.
HOLDS: tuple[tuple[str, HoldCode, ReasonCode, str, str], ...] = (
    ("memory", "memory", "memory", "may take 256 MiB, and 100 MiB are available", "rave vm list"),
    ("disk", "disk", "disk", "1 MiB are left below", "rave prune --dry-run"),
    ("made", "making", "template", "a template .* is made", ""),
    ("none", "template", "template", "no image", "rave vm build-image"),
)


class Host:
    """A host that serves, in a state."""

    def __init__(self, home: Path, store: JobStore) -> None:
        self.log, self.store = home / "server.log", store
        self._states = home / "host"
        self._states.mkdir()
        self._child: subprocess.Popen[bytes] | None = None
        self.found: set[ReasonCode] = set()

    def serve(self) -> None:
        """Serve."""
        with self.log.open("ab") as log:
            child = subprocess.Popen([sys.executable, "-c", SERVER], stdout=log, stderr=log)
        self._child = child
        until(lambda: child.poll() is not None or "serving" in self.log.read_text())
        assert served(), self.log.read_text()

    def end(self) -> None:
        """Serve no more."""
        if self._child is not None:
            self._child.kill()
            self._child.wait(timeout=CEILING)

    def be(self, state: str) -> Path:
        """Be in a state from now on, until the file is removed."""
        (self._states / state).touch()
        return self._states / state

    def heard(self, holds: Callable[[ServingRecord], bool]) -> None:
        """Wait until whoever serves says something of itself."""
        until(lambda: (said := record.read()) is not None and holds(said))

    def holds(self, code: HoldCode) -> None:
        """Wait until this keeps agents from taking jobs."""
        self.heard(lambda said: said.hold.code == code)

    def stops(self) -> None:
        """Wait until no agent can take a job any more."""
        self.heard(lambda said: said.agents == said.working == 0)

    def says(self, name: str, code: ReasonCode) -> JobReason:
        """Return what is said of a job once this is why it waits."""
        found: dict[ReasonCode, JobReason] = {}

        def said() -> bool:
            found.update({one.code: one for one in LocalPool(self.store).explain(name)[1]})
            return code in found

        until(said, pause=0.05)
        self.found.add(code)
        return found[code]

    def submit(self, *command: str, retries: int = 0) -> str:
        """Submit a job; return its name."""
        return self.store.accept([Work(command, retries=retries)])[0].name

    def over(self, name: str) -> None:
        """Wait until a job is over."""
        until(lambda: self.store.load(name).over)

    def redis(self) -> int:
        """Return the process of its redis-server."""
        argv = ["pgrep", "-f", f"redis-server.*{os.environ['XDG_RUNTIME_DIR']}"]
        return int(
            subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()[0]
        )


@pytest.fixture
def host(home: Path) -> Iterator[Host]:
    with open_store() as store:
        found = Host(home, store)
        yield found
        found.end()


def rave(*words: str) -> str:
    argv = [sys.executable, "-m", "rave_cli", "pool", *words]
    return subprocess.run(argv, capture_output=True, text=True, timeout=CEILING, check=True).stdout


def helps(reason: JobReason) -> None:
    """Do what is said to help."""
    rave(*reason.hint.removeprefix("rave pool ").split())


def test_each_reason_for_which_a_job_waits_is_said_of_a_pool_that_is_served(host: Host) -> None:
    first = host.submit("true")
    assert host.says(first, "not-served").hint == "rave pool serve"

    idle = host.be("idle")
    host.serve()
    second = host.submit("true")
    host.says(first, "at-once")
    assert host.says(second, "turn").text == "1 job came before it"
    idle.unlink()
    host.over(second)
    assert host.says(second, "over").text == "it is over: success"

    fails = host.submit("false", retries=1)
    rests = host.says(fails, "back-off")
    assert re.fullmatch(r"it rests for \d+ s more after attempt 1: its command failed", rests.text)
    assert rests.hint == f"rave pool logs {fails}"

    for state, hold, code, text, hint in HOLDS:
        lacks = host.be(state)
        host.holds(hold)
        waits = host.submit("true")
        found = host.says(waits, code)
        assert re.search(text, found.text)
        assert hint in found.hint
        lacks.unlink()
        host.over(waits)

    os.kill(host.redis(), signal.SIGSTOP)
    waits = host.submit("true")
    assert "does not answer" in host.says(waits, "queue").text
    host.store.cancel(waits)
    host.says(waits, "cancelling")
    os.kill(host.redis(), signal.SIGCONT)
    host.over(waits)

    rave("drain")
    waits = host.submit("true")
    helps(host.says(waits, "draining"))
    host.over(waits)

    runs = host.submit("sleep", "600")
    assert host.says(runs, "running").text.startswith("it runs: attempt 1, by ")
    waits = host.submit("true")
    cap = host.says(waits, "cap")
    assert cap.text == "1 job of 1 at a time run, and 0 wait before it"
    (told,) = json.loads(rave("explain", waits, "--json"))["reasons"]
    assert (told["code"], told["hint"]) == ("cap", "rave pool scale 2")
    helps(cap)
    host.over(waits)

    rave("scale", "0")
    host.store.cancel(runs)
    host.stops()
    waits = host.submit("true")
    helps(host.says(waits, "no-agents"))
    host.over(waits)
    # The one that is left has other hosts beside it (test_lending.py).
    assert host.found == set(get_args(ReasonCode)) - {"secrets"}
