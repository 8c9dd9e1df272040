"""The suite of every profile on every base: what must hold for each of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import pytest

from rave_cli.machines.guest import door_v1
from rave_cli.profiles.catalog import HealthCheck
from rave_cli.profiles.source import load_catalog
from rave_cli.smoke import declarations, inside
from rave_cli.smoke.onhost import secret_names
from rave_cli.smoke.phases import OPT_IN, PHASE_IDS, PHASES, STEPS, Step
from rave_cli.smoke.suite import HOST, suite
from rave_cli.transcript.check import CHECK_ID
from rave_guest import probe, registry
from rave_guest.check import declared
from tests.sops import CATALOG as SOPS

if TYPE_CHECKING:
    from rave_cli.smoke.model import Check

CATALOG = load_catalog(None)
PLANS = [(name, base) for name, profile in CATALOG.profiles.items() for base in profile.bases]
every_plan = pytest.mark.parametrize(("profile", "base"), PLANS)


def checks(profile: str, base: str) -> tuple[Check, ...]:
    return suite(CATALOG.plan(profile, base), instance="i", memory_mib=2048)


def batch(profile: str, base: str, step: str) -> list[Check]:
    return [c for c in checks(profile, base) if c.viewpoint == "guest" and c.step == step]


@every_plan
def test_ids_are_unique_and_fit_a_transcript(profile: str, base: str) -> None:
    ids = [check.id for check in checks(profile, base)]
    assert len(ids) == len(set(ids))
    assert all(CHECK_ID.fullmatch(id_) for id_ in ids)


@every_plan
def test_phases_come_in_their_order_and_none_is_empty(profile: str, base: str) -> None:
    phases = [check.phase for check in checks(profile, base)]
    assert phases == sorted(phases, key=PHASE_IDS.index)
    assert set(phases) == set(PHASE_IDS) - OPT_IN


@every_plan
def test_every_need_exists_and_comes_before(profile: str, base: str) -> None:
    seen: set[str] = set()
    for check in checks(profile, base):
        assert set(check.needs) <= seen, check.id
        seen.add(check.id)


@every_plan
def test_the_guest_can_carry_out_every_batch(profile: str, base: str) -> None:
    for step in ("inside", "late"):
        asked = batch(profile, base, step)
        asks = probe.parse(json.loads(json.dumps(inside.request(asked))))
        assert len(asks) == len(asked) > 0
        for ask in asks:
            assert callable(registry.function(ask.kind))


@every_plan
def test_every_check_is_carried_out_by_somebody(profile: str, base: str) -> None:
    for check in checks(profile, base):
        if check.viewpoint == "guest":
            assert check.kind, check.id
        else:
            assert (check.look is None) == (check.skip is not None), check.id


# What such a guest cannot carry out: nobody asked for it then.
SINCE = {f"checks.vitals.{name}" for name in ("locale", "entropy", "disk_state", "stuck")}
SINCE |= {"services.canaille.step", "services.chat_bridge.step", "services.docker_registry.image"}
SINCE |= {f"services.matrix.{name}" for name in ("database", "federation", "step")}
SINCE |= {f"services.pagure.{name}" for name in ("repository", "step")}
SINCE |= {"services.agents.heard", "services.agents.step"}
SINCE |= {"services.claude_code_router.closed", "services.hydrogen.page"}
SINCE |= {"services.buildbot.push"}
SINCE |= {"services.portal.program", "services.portal.step"}


@every_plan
def test_a_guest_of_the_first_release_is_asked_what_it_knows(profile: str, base: str) -> None:
    """With every argument that its function reads."""
    known = json.loads((Path(__file__).parents[2] / "fixtures/door_v1/kinds.json").read_text())
    for step in ("inside", "late"):
        arguments = inside.request(batch(profile, base, step))
        sent = json.loads(door_v1.VERBS["probe"](arguments).stdin)["checks"]
        lost = {check["kind"] for check in arguments["checks"]} - door_v1.KINDS.keys()
        assert lost <= SINCE
        assert len(sent) == len([c for c in arguments["checks"] if c["kind"] not in lost])
        for check in sent:
            assert set(known[check["kind"]]) <= set(check), check["id"]


def test_the_kinds_of_the_first_release_are_translated_from_functions_there_are() -> None:
    for kind in door_v1.KINDS:
        assert callable(registry.function(kind))
    assert set(door_v1.COMMANDS) <= set(door_v1.KINDS)


@every_plan
def test_every_check_of_the_catalog_is_asked(profile: str, base: str) -> None:
    ids = {check.id for check in checks(profile, base)}
    assert {check.id for check in CATALOG.plan(profile, base).checks} <= ids


def test_what_an_older_plan_asks_as_a_program_is_asked_once() -> None:
    plan = CATALOG.plan("demo", "debian")
    ping = HealthCheck(
        id="redis.ping", title="answers PING", kind="command", timeout=5, argv=("x",)
    )
    redis = plan.services["redis"].model_copy(update={"checks": (ping,)})
    older = plan.model_copy(update={"services": {**plan.services, "redis": redis}})
    found = [check for check in suite(older) if check.id == "redis.ping"]
    assert [check.kind for check in found] == ["services.redis.ping"]


def test_every_declaration_names_a_phase_a_step_and_a_service_that_there_are() -> None:
    found = [*declarations.of_guest(), *(d for module in HOST for d in declared(module))]
    assert len({declaration.id for declaration in found}) == len(found)
    for declaration in found:
        assert declaration.phase in PHASE_IDS, declaration.id
        assert declaration.step in {None, *get_args(Step)}, declaration.id
        assert declaration.service in {None, *CATALOG.services}, declaration.id


def test_a_phase_is_declared_in_one_place() -> None:
    assert {phase.part for phase in PHASES if phase.part} == {
        "authentication_tests", "agent_control_tests", "sandbox_tests",
    }  # fmt: skip
    asked = {check.phase for check in checks("production", "nixos")}
    assert asked == set(PHASE_IDS) - OPT_IN


def test_a_module_of_the_guest_belongs_to_a_service_of_the_catalog() -> None:
    services = {
        m.__name__.rpartition(".")[2] for m in registry.modules() if ".services." in m.__name__
    }
    assert {name.replace("_", "-") for name in services} <= set(CATALOG.services)


def test_a_service_is_asked_whether_it_lives_by_its_record_or_by_its_module_not_both() -> None:
    for name, service in CATALOG.plan("production", "nixos").services.items():
        over_http = any(c.kind == "http" and c.from_ == "guest" for c in service.checks)
        module = registry.service(name)
        assert not (over_http and hasattr(module, "alive")), name


def test_a_secret_names_for_its_proof_a_service_that_can_give_one() -> None:
    provers = {secret.proof for secret in CATALOG.secrets.values() if secret.proof}
    assert provers == {
        "postgresql", "redis", "nats", "canaille", "pagure", "docker-registry",
    }  # fmt: skip
    for name in provers:
        assert callable(registry.service(name).proofs)  # type: ignore[union-attr]


def test_what_no_base_carries_yet_is_asked_and_says_why_it_is_skipped() -> None:
    found = {c.id: c for c in checks("demo", "debian")}
    for id_ in ("oidc.sign-in", "chat.control", "workflow.end-to-end"):
        assert found[id_].skip
    assert found["oidc.sign-in"].skip == "demo on debian carries no gitlab"
    assert found["workflow.end-to-end"].skip == "demo on debian carries no chat-bridge, agents"


@pytest.mark.parametrize("profile", ["development", "production"])
def test_the_workflow_is_asked_where_chat_agents_and_forge_are_and_alone(profile: str) -> None:
    """On the NixOS base bridge and agents are off until they are configured."""
    found = [check for check in checks(profile, "debian") if check.phase == "workflow"]
    assert len(found) == 10
    assert {check.step for check in found} == {"workflow"}
    asks = probe.parse(json.loads(json.dumps(inside.request(found))))
    assert all(callable(registry.function(ask.kind)) for ask in asks)
    assert STEPS.index("sandbox") < STEPS.index("workflow") < STEPS.index("image")
    (planned,) = (check for check in checks(profile, "nixos") if check.phase == "workflow")
    assert planned.skip == f"{profile} on nixos carries no chat-bridge, agents"


def test_a_certificate_of_an_older_image_is_no_secret() -> None:
    plan = CATALOG.plan("demo", "debian")
    older = plan.model_copy(update={"secrets": {**plan.secrets, **SOPS}})
    names = secret_names(older)
    assert "tls/key" in names
    assert "tls/certificate" not in names


def test_no_request_carries_a_value_of_a_secret() -> None:
    sent = inside.request([c for c in checks("demo", "debian") if c.viewpoint == "guest"])
    assert "/run/secrets/redis/password" in json.dumps(sent)
    assert "ENC[" not in json.dumps(sent)


@pytest.mark.parametrize(("mode", "days"), [("safe", 3), ("full", 7)])
def test_the_mode_decides_what_is_promised(mode: str, days: int) -> None:
    plan = CATALOG.plan("demo", "debian")
    found = {c.id: c for c in suite(plan, mode=mode)}  # type: ignore[arg-type]
    assert found["prometheus.retention"].arguments["days"] == days
    assert found["prometheus.retention"].title == f"Prometheus: keeps metrics for {days} days"
    cap = plan.resources.of(mode).memory_mib  # type: ignore[arg-type]
    assert found["performance.memory"].arguments["cap_mib"] == cap


def test_decoys_are_tried_beside_the_internet() -> None:
    decoys = (("10.0.2.2", 4711),)
    found = {c.id: c for c in suite(CATALOG.plan("demo", "debian"), decoys=decoys)}
    tried = found["networking.isolation"].arguments["tcp"]
    assert ("10.0.2.2", 4711) in tried
    assert ("1.1.1.1", 443) in tried
