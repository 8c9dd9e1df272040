"""Which machines may ask: a file of each, which names the machine that it is for."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.machines import changes, cloning, lifecycle
from rave_cli.pool.guests import terms
from rave_cli.pool.guests.terms import GuestTerms
from tests.unit.machines.conftest import host, image, machine, plan, short_home

if TYPE_CHECKING:
    from rave_cli.machines.spec import Machine

__all__ = ["host", "image", "machine", "plan", "short_home"]


def test_none_may_ask_until_it_is_let(machine: Machine) -> None:
    assert terms.of("demo") is None
    assert terms.lent() == []
    terms.lend("demo", lambda uuid: GuestTerms(uuid, jobs=1))
    found = terms.of("demo")
    assert found is not None
    assert found.terms.jobs == 1
    assert terms.place("demo").stat().st_mode & 0o777 == 0o600
    terms.take_back("demo")
    assert terms.of("demo") is None
    with pytest.raises(RaveError, match="may not ask"):
        terms.take_back("demo")


def test_terms_go_with_the_machine_and_to_no_other(machine: Machine) -> None:
    terms.lend("demo")
    cloning.clone(machine, "copy")
    assert terms.of("copy") is None
    # Not even with the file.
    terms.place("copy").write_bytes(terms.place("demo").read_bytes())
    assert terms.of("copy") is None
    changes.rename("demo", "other")
    assert terms.of("other") is not None
    assert terms.lent() == ["copy", "other"]
    lifecycle.delete("other", force=True)
    assert terms.lent() == ["copy"]


def test_the_machine_of_a_job_may_not_ask(machine: Machine) -> None:
    with pytest.raises(RaveError, match="machine of a job"):
        terms.lend("job-0123456789ab-1")


@pytest.mark.parametrize(
    "members", [{"jobs": 0}, {"timeout": 1e9}, {"memory_mib": 999}, {"cpus": 64}, {"per_hour": -1}]
)
def test_terms_have_bounds_wherever_they_come_from(
    machine: Machine, members: dict[str, float]
) -> None:
    with pytest.raises(RaveError) as error:
        terms.lend("demo", lambda uuid: GuestTerms(uuid, **members))  # type: ignore[arg-type]
    assert error.value.exit_code is ExitCode.USAGE
    terms.lend("demo")
    place = terms.place("demo")
    place.write_text(json.dumps(json.loads(place.read_text()) | members))
    with pytest.raises(RaveError):
        terms.of("demo")
