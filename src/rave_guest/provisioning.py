"""The one journey of a run to the host's pool and back, which checks of sandboxes are about."""

from __future__ import annotations

import json
import os
import time

from rave_guest import looking, report
from rave_guest.journey import expect
from rave_guest.sandbox import TIMED_OUT, SandboxJob, submit
from rave_guest.verdict import Verdict, passed
from rave_guest.wire.pool import PORT, NoPool, NotNow, PoolPort, PoolRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    Places = Sequence[tuple[str, int]]

LONGEST = 300.0  # seconds for a job, the start of its machine and a template of its size included
SECONDS, DISK = 8.0, 48 << 20  # what the jobs that overrun are given
MOST_MIB, MOST_CPUS = 4096, 2  # of a sandbox (the platform's own bound)

# What answers where a network is open: who gives addresses and names, and the world.
TCP = (
    ("10.0.2.2", 22),
    ("10.0.2.3", 53),
    ("169.254.169.254", 80),
    ("1.1.1.1", 443),
    ("9.9.9.9", 53),
)
UDP = (("10.0.2.3", 53), ("10.0.2.2", 53), ("1.1.1.1", 53))

EATS = "kept = []\nwhile True: kept.append(bytes([1]) * (1 << 24))"
WRITES = ["dd", "if=/dev/urandom", "of=full", "bs=1M"]
SIGKILL = 137  # exit status of what the kernel killed


class Provisioning:
    """What the steps know of each other."""

    def __init__(self, port: PoolPort, decoys: Places) -> None:
        """Begin with nothing asked for."""
        self.port, self.decoys = port, decoys
        self.marker = os.urandom(16).hex()
        self.terms: dict[str, Any] = {}
        self.jobs: dict[str, SandboxJob] = {}
        self.seen: dict[str, Any] = {}

    def want(self) -> None:
        """Ask for all the jobs, as far as there is room for them at a time."""
        tcp = [
            *TCP,
            *self.decoys,
            *((host, port) for host in ("10.0.2.2",) for _, port in self.decoys),
        ]
        about = {"marker": self.marker, "tcp": tcp, "udp": UDP, "port": PORT}
        longest = min(120.0, self.terms["timeout"])
        works: dict[str, dict[str, Any]] = {
            "looks": {"script": _sent(), "command": [json.dumps(about)], "timeout": longest},
            "sleeps": {"command": ["sleep", "600"], "timeout": min(SECONDS, longest)},
            "writes": {"command": WRITES, "timeout": longest, "most_disk": DISK},
            "eats": {"command": ["python3", "-c", EATS], "timeout": longest},
        }
        for name, work in works.items():
            key = f"smoke-{self.marker}-{name}"
            self.jobs[name] = submit(self.port, work, key=key, patience=LONGEST)

    def ended(self, name: str) -> tuple[dict[str, Any], dict[int, bytes]]:
        """Return what became of a job, and what it printed on both streams."""
        job, printed = self.jobs[name], {1: b"", 2: b""}

        def take(stream: int, data: bytes) -> None:
            printed[stream] += data

        over = job.follow(take, time.monotonic() + LONGEST)
        expect(over, f"the job that {name} is not over after {LONGEST:g} s: {job.told['state']}")
        return job.told, printed


def _sent() -> str:
    """Return the program that looks around, as a script that is run as root."""
    with open(str(looking.__file__), encoding="utf-8") as file:
        return "#!/usr/bin/sudo /usr/bin/python3\n" + file.read()


def terms(way: Provisioning) -> Verdict:
    """The pool answers, and says what may be asked for."""
    began = time.monotonic()
    way.terms = way.port.ask("terms")
    seconds = time.monotonic() - began
    said = f"{way.terms['jobs']} jobs at a time, {way.terms['timeout']:g} s each"
    return passed(said, seconds=round(seconds, 3))


def refused(way: Provisioning) -> Verdict:
    """What is beyond the terms is refused, and so is whatever another's may be."""
    true = {"command": ["true"]}
    beyond: dict[str, dict[str, Any]] = {
        "too long": {"work": true | {"timeout": way.terms["timeout"] + 1}},
        "too large": {"work": true | {"memory_mib": (way.terms["memory_mib"] or 4096) + 4096}},
        "too many processors": {"work": true | {"cpus": 64}},
        "a secret": {"work": true | {"secrets": ["registry/token"]}},
        "a place to reach": {"work": true | {"allow": ["192.0.2.1:443"]}},
        "a cache": {"work": true | {"cache": "other"}},
        "artifacts": {"work": true | {"artifacts": ["/etc"]}},
        "too much disk": {"work": true | {"most_disk": 1 << 50}},
        "nothing": {"work": {}},
        "what was not given": {"work": true, "given": {"sha256": "0" * 64, "size": 1}},
    }
    asked = [
        (what, "submit", {"key": f"refused-{way.marker}-{number}", **members})
        for number, (what, members) in enumerate(beyond.items())
    ]
    asked += [("another's job", ask, {"job": "0" * 12}) for ask in ("show", "cancel")]
    asked += [
        ("another's output", "output", {"job": "0" * 12, "attempt": 1}),
        ("a piece beyond all", "give", {"at": 1 << 24, "data": ""}),
        ("the pool's scale", "scale", {"agents": 64}),
        ("all jobs", "list", {}),
    ]
    granted = [what for what, ask, members in asked if not _refuses(way.port, ask, members)]
    expect(not granted, f"the pool does not refuse {', '.join(granted)}")
    return passed(f"{len(asked)} questions, each refused")


def _refuses(port: PoolPort, ask: str, members: Mapping[str, Any]) -> bool:
    try:
        port.ask(ask, **members)
    except PoolRefused:
        return True
    except NotNow:
        return False
    return False


def runs(way: Provisioning) -> Verdict:
    """A command runs in a sandbox, and its output and exit status come back."""
    way.want()
    told, printed = way.ended("looks")
    status = told["exit_status"]
    expect(status == looking.STATUS, f"it ended as {told['state']}, {status}: {told['why']}")
    way.seen = json.loads(printed[1])
    expect(way.seen["marker"] == way.marker, "another output than its own came back")
    expect(printed[2].decode().strip() == way.marker, "what it said on stderr did not come back")
    mib, cpus = way.seen["memory_mib"], way.seen["cpus"]
    expect(mib <= MOST_MIB and cpus <= MOST_CPUS, f"it has {mib} MiB and {cpus} processors")
    seconds = told["ended"] - told["submitted"]
    return passed(
        f"job {told['job']}: output and exit status {status} after {seconds:.1f} s",
        seconds=round(seconds, 3), jobs=sorted(job.name for job in way.jobs.values()),
    )  # fmt: skip


def network(way: Provisioning) -> Verdict:
    """Nothing is reached from a sandbox."""
    found = way.seen["reached"]
    expect(not found, f"reached from the sandbox: {', '.join(found)}")
    return passed(f"{way.seen['tried']} places, none reached")


def apart(way: Provisioning) -> Verdict:
    """A sandbox is another machine, and cannot ask for sandboxes itself."""
    own = {
        "boot": report.read(report.BOOT),
        "machine": report.read("/etc/machine-id"),
        "instance": report.instance(),
    }
    same = [name for name, value in own.items() if value == way.seen[name]]
    expect(not same, f"the sandbox has this machine's {', '.join(same)}")
    expect(way.seen["door"] in ("none", "nobody"), f"behind its port is {way.seen['door']}")
    return passed(f"another machine; behind its port to a pool: {way.seen['door']}")


def memory(way: Provisioning) -> Verdict:
    """What takes more memory than there is is killed, and told so."""
    told, _ = way.ended("eats")
    ended = told["state"] == "failure" and way.jobs["eats"].status in (SIGKILL, 1)
    expect(ended, f"it ended as {told['state']}, {told['exit_status']}: {told['why']}")
    return passed(f"killed: exit status {told['exit_status']}")


def time_limit(way: Provisioning) -> Verdict:
    """What takes longer than it may is ended, and told so."""
    told, _ = way.ended("sleeps")
    ended = told["state"] == "timeout" and way.jobs["sleeps"].status == TIMED_OUT
    expect(ended, f"it ended as {told['state']}: {told['why']}")
    return passed(f"ended: {told['why']}")


def disk(way: Provisioning) -> Verdict:
    """What writes more than it may is ended, and told so."""
    told, _ = way.ended("writes")
    ended = told["state"] == "failure" and f"more than {DISK >> 20} MiB" in told["why"]
    expect(ended, f"it ended as {told['state']}, {told['exit_status']}: {told['why']}")
    return passed(f"ended: {told['why']}")


STEPS: Mapping[str, Callable[[Provisioning], Verdict]] = {
    "door": terms,
    "refused": refused,
    "runs": runs,
    "network": network,
    "apart": apart,
    "time": time_limit,
    "disk": disk,
    "memory": memory,
}
# Without the answer of the pool there is nothing to ask, without the job nothing was seen.
GROUND = ("door", "runs")


def make(decoys: Places) -> dict[str, Verdict]:
    """Make the journey; returns a verdict for each step."""
    from rave_guest.journey import travel
    from rave_guest.verdict import failed

    way = Provisioning(PoolPort(), decoys)
    asked = {name: _told(step) for name, step in STEPS.items()}
    verdicts = travel(way, asked, GROUND)
    for job in way.jobs.values():
        _end(job)
    return {name: verdicts.get(name, failed("it was not tried")) for name in STEPS}


def _told(step: Callable[[Provisioning], Verdict]) -> Callable[[Provisioning], Verdict]:
    """Return a step that says what the pool says as what is wrong."""

    def made(way: Provisioning) -> Verdict:
        try:
            return step(way)
        except (NoPool, NotNow, PoolRefused) as error:
            from rave_guest.verdict import failed

            return failed(str(error))

    return made


def _end(job: SandboxJob) -> None:
    """Leave no job that still runs."""
    if not job.told["over"]:
        try:
            job.cancel()
        except (NoPool, PoolRefused):
            return
