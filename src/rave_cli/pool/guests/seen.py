"""The pool as a smoke run of a machine sees it: its jobs, their proofs, what is left of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from rave_cli import paths
from rave_cli.errors import RaveError
from rave_cli.machines.names import stored_names
from rave_cli.machines.qemu import processes
from rave_cli.pool import proof
from rave_cli.pool.agents.room import NAME
from rave_cli.pool.guests import terms
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.served import served
from rave_cli.smoke.provisioning import NOT_LENT, ProvisionedJob
from rave_cli.transcript import signing_key, trust

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.machines.spec import Machine
    from rave_cli.pool.jobs.job import Job
    from rave_cli.pool.jobs.store import JobStore

# Seconds between two looks at what is left.
PAUSE = 0.2


@dataclass(frozen=True)
class SeenSandboxes:
    """A Provisions for the machine of that name, from now on."""

    name: str
    began: float = field(default_factory=time.time)

    @classmethod
    def of(cls, machine: Machine) -> SeenSandboxes:
        """Return it for a machine."""
        return cls(machine.name)

    @property
    def withheld(self) -> str:
        """As Provisions."""
        if terms.of(self.name) is None:
            return NOT_LENT
        return "" if served() else "nobody serves the pool: rave pool serve"

    def jobs(self) -> list[ProvisionedJob]:
        """As Provisions."""
        guest = terms.of(self.name)
        if guest is None:
            return []
        with open_store() as store:
            names = store.owned(guest.owner, self.began)
            return [_provisioned(store, store.load(name)) for name in names]

    def left(self, names: Sequence[str], seconds: float) -> list[str]:
        """As Provisions."""
        until = time.monotonic() + seconds
        while (found := _left(names)) and time.monotonic() < until:
            time.sleep(PAUSE)
        return found


def _provisioned(store: JobStore, job: Job) -> ProvisionedJob:
    trusted = (trust.load_key(signing_key().public_file),)
    try:
        proof.verify(job, store.printout(job), store.proof(job.name), trusted)
    except RaveError:
        proven = False
    else:
        proven = True
    # One whose time was over before its machine was itself was begun in none.
    machine = bool(job.facts.image and job.facts.template) or job.state == "timeout"
    return ProvisionedJob(job.name, job.state, proven, machine)


def _left(names: Sequence[str]) -> list[str]:
    """Return what is there of the machines of these jobs."""

    def of_them(machine: str) -> bool:
        return machine.startswith(tuple(f"job-{name}-" for name in names))

    said = [f"the machine {name} is there" for name in stored_names() if of_them(name)]
    said += [
        f"process {one.pid} runs {one.directory.name}"
        for one in processes.machines()
        if one.directory is not None and of_them(one.directory.name)
    ]
    runtime = paths.runtime_dir()
    entries = list(runtime.iterdir()) if runtime.is_dir() else []
    said += [f"{entry} is there" for entry in entries if of_them(entry.name)]
    with open_store() as store:
        standby = store.scale.standby
    # A machine that stood by for a job keeps the name that it was put by under.
    spares = [name for name in stored_names() if NAME.fullmatch(name) and name.endswith("-0")]
    if len(spares) > standby:
        said.append(f"{len(spares)} machines stand by instead of {standby}")
    return said
