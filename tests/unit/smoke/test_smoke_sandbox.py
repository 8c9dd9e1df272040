"""The sandbox phase as the host carries it out: when it is asked, and what its looks say."""

from __future__ import annotations

import socket
from contextlib import closing
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest

from rave_cli.profiles.catalog import parse
from rave_cli.profiles.names import BAKED
from rave_cli.smoke import runner, sandbox
from rave_cli.smoke.context import Decoy
from rave_cli.smoke.provisioning import NOT_LENT, ProvisionedJob
from rave_cli.smoke.suite import suite
from tests.unit.smoke.test_smoke_runner import looks, request_

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rave_cli.smoke.context import CheckContext
    from rave_cli.smoke.request import SmokeRequest

__all__ = ["looks", "request_"]

JOBS = tuple(ProvisionedJob(f"{number:012x}", "failure", True, True) for number in range(4))


@dataclass
class Pool:
    """A pool that knows these jobs."""

    found: Sequence[ProvisionedJob] = JOBS
    there: Sequence[str] = ()
    withheld: str = ""

    def jobs(self) -> Sequence[ProvisionedJob]:
        return self.found

    def left(self, names: Sequence[str], seconds: float) -> Sequence[str]:
        assert len(names) == len(self.found)
        assert seconds > 0
        return self.there


def context(pool: Pool | None, decoys: Sequence[Decoy] = ()) -> CheckContext:
    found = SimpleNamespace(provisions=pool, decoys=decoys, within=lambda seconds: seconds)
    return cast("CheckContext", found)


def test_a_machine_that_was_lent_no_pool_is_not_asked(request_: SmokeRequest) -> None:
    def found(request: SmokeRequest) -> dict[str, str | None]:
        return {one.id: one.skip for one in runner.checks_of(request) if one.phase == "sandbox"}

    assert found(request_) == {"sandbox.provisioning": NOT_LENT}
    why = found(replace(request_, provisions=Pool(withheld="nobody serves")))
    assert why == {"sandbox.provisioning": "nobody serves"}
    asked = found(replace(request_, provisions=Pool()))
    assert "sandbox.provisioning" not in asked
    assert {*asked.values()} == {None}


def test_the_phase_is_the_same_in_every_profile() -> None:
    found = [
        [one.id for one in suite(parse(BAKED.read_bytes()).plan(*plan)) if one.phase == "sandbox"]
        for plan in (("demo", "debian"), ("production", "nixos"))
    ]
    assert found[0] == found[1]
    assert {"sandbox.runs", "sandbox.network", "sandbox.clean"} <= {*found[0]}


@pytest.mark.parametrize(
    ("jobs", "status"),
    [
        (JOBS, "pass"),
        (JOBS[:3], "fail"),
        ((*JOBS[:3], replace(JOBS[3], proven=False)), "fail"),
        ((*JOBS[:3], replace(JOBS[3], machine=False)), "fail"),
    ],
)
def test_each_job_must_be_proven(jobs: Sequence[Any], status: str) -> None:
    assert sandbox.proven(context(Pool(jobs))).status == status


def test_nothing_may_be_left_nor_have_come_out() -> None:
    assert sandbox.clean(context(Pool())).status == "pass"
    found = sandbox.clean(context(Pool(there=("the machine job-0-1 is there",))))
    assert (found.status, found.detail) == ("fail", "the machine job-0-1 is there")
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        decoy = Decoy(listener, ("10.0.2.2", 1))
        assert sandbox.clean(context(Pool(), [decoy])).status == "pass"
        with socket.create_connection(listener.getsockname()):
            found = sandbox.clean(context(Pool(), [decoy]))
    assert found.detail == "1 connections came to listeners of this host"


def test_without_a_pool_both_are_skipped() -> None:
    assert sandbox.proven(context(None)).status == "skip"
    assert sandbox.clean(context(None)).status == "skip"
