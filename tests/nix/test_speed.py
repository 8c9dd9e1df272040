"""What our modules cost: an evaluation beside that of a plain NixOS with the same services."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest

from tests.nix.conftest import HERE, Evaluator

pytestmark = pytest.mark.integration

BUDGET = 3.0  # times the plain configuration
TOPLEVEL = "config.system.build.toplevel.drvPath"


def cost(evaluator: Evaluator) -> float:
    """Return the processor seconds of one evaluation down to the system's derivation."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    evaluator.ask(TOPLEVEL, "demo")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime


def test_a_profile_costs_little_more_than_the_services_it_has(with_nixpkgs: Evaluator) -> None:
    plain = replace(with_nixpkgs, harness=HERE / "bare.nix")
    ours, theirs = (min(cost(one) for _ in range(2)) for one in (with_nixpkgs, plain))
    assert ours <= BUDGET * theirs, f"{ours:.1f} s against {theirs:.1f} s"
    print(f"demo {ours:.1f} s, plain NixOS {theirs:.1f} s")  # noqa: T201 - a figure for the log
