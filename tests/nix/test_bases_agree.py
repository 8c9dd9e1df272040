"""The facts of the catalog as each base renders them: what both must agree on is the same."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rave_cli.profiles.names import BAKED
from tests.nix.agreed import TOPICS, from_debian, from_facts, from_nixos
from tests.nix.conftest import MODES, PROFILES, Evaluator, nix

pytestmark = pytest.mark.integration

EVERY = [(profile, mode) for profile in PROFILES for mode in MODES]
every_machine = pytest.mark.parametrize(("profile", "mode"), EVERY)


@pytest.fixture(scope="module")
def plans() -> Any:
    """The plans as Nix evaluates them now, not as they were baked."""
    return json.loads(nix("nix", "eval", "--offline", "--json", ".#profileMetadata"))["profiles"]


@every_machine
def test_debian_renders_the_facts(plans: Any, profile: str, mode: str) -> None:
    plan = plans[profile]["bases"]["debian"]
    assert plan == json.loads(BAKED.read_bytes())["profiles"][profile]["bases"]["debian"]
    facts, debian = from_facts(plan, mode), from_debian(plan, mode)
    assert set(debian) == set(facts) == set(TOPICS)
    for topic in TOPICS:
        assert debian[topic] == facts[topic], topic


@every_machine
def test_nixos_renders_the_facts(plans: Any, evaluator: Evaluator, profile: str, mode: str) -> None:
    plan = plans[profile]["bases"]["nixos"]
    facts, nixos = from_facts(plan, mode), from_nixos(evaluator, plan, mode)
    assert set(nixos) == set(TOPICS)
    for topic in TOPICS:
        assert nixos[topic] == facts[topic], topic


@every_machine
def test_the_two_bases_agree(plans: Any, evaluator: Evaluator, profile: str, mode: str) -> None:
    """Of services that both carry, each has the same targets and limits; all else is the same."""
    bases = plans[profile]["bases"]
    debian = from_debian(bases["debian"], mode)
    nixos = from_nixos(evaluator, bases["nixos"], mode)
    shared = set(bases["debian"]["services"]) & set(bases["nixos"]["services"])
    for both in (debian["prometheus"]["jobs"], nixos["prometheus"]["jobs"],
                 debian["limits"], nixos["limits"]):  # fmt: skip
        for name in set(both) - shared:
            del both[name]
    # And alerts of a service that one base alone carries are that one's.
    known = {alert["alert"] for alert in nixos["alerts"]}
    debian["alerts"] = [alert for alert in debian["alerts"] if alert["alert"] in known]
    assert debian == nixos


def test_the_two_plans_of_a_profile_carry_the_same_facts(plans: Any) -> None:
    for name, profile in plans.items():
        debian, nixos = (profile["bases"][base]["facts"] for base in ("debian", "nixos"))
        assert debian | {"alerts": ()} == nixos | {"alerts": ()}
        # Of a service that one base alone carries, that base alone has alerts.
        own = [alert["alert"] for alert in debian["alerts"] if alert not in nixos["alerts"]]
        platform = [
            "WebhooksWait", "CommandsWait", "PlatformDown", "WebhooksNotStored", "WebhooksDead",
            "AnswersWait", "AnswersDead", "TasksWait", "RegistryFails", "AgentSilent",
        ]  # fmt: skip
        assert own == ([] if name == "demo" else platform)
        assert not [alert for alert in nixos["alerts"] if alert not in debian["alerts"]]
