"""The suite of every profile on every base: what must hold for each of them."""

from __future__ import annotations

import json

import pytest

from rave_cli.profiles.source import load_catalog
from rave_cli.smoke import inside
from rave_cli.smoke.model import PHASE_IDS, Question
from rave_cli.smoke.questions import Subject, secret_names, suite
from rave_cli.transcript.check import CHECK_ID
from rave_guest import probe

CATALOG = load_catalog(None)
PLANS = [(name, base) for name, profile in CATALOG.profiles.items() for base in profile.bases]
every_plan = pytest.mark.parametrize(("profile", "base"), PLANS)


def questions(profile: str, base: str) -> tuple[Question, ...]:
    return suite(CATALOG.plan(profile, base), Subject(instance="i", memory_mib=2048))


@every_plan
def test_ids_are_unique_and_fit_a_transcript(profile: str, base: str) -> None:
    ids = [question.id for question in questions(profile, base)]
    assert len(ids) == len(set(ids))
    assert all(CHECK_ID.fullmatch(id_) for id_ in ids)


@every_plan
def test_phases_come_in_their_order_and_none_is_empty(profile: str, base: str) -> None:
    phases = [question.phase for question in questions(profile, base)]
    assert phases == sorted(phases, key=PHASE_IDS.index)
    assert set(phases) == set(PHASE_IDS)


@every_plan
def test_every_need_exists(profile: str, base: str) -> None:
    found = questions(profile, base)
    ids = {question.id for question in found}
    assert {need for question in found for need in question.needs} <= ids


@every_plan
def test_the_probe_takes_every_batch(profile: str, base: str) -> None:
    for wanted in (("boot", "health", "secrets"), ("security", "performance")):
        batch = [
            q for q in questions(profile, base) if q.viewpoint == "guest" and q.phase in wanted
        ]
        asks = probe.parse(inside.request(batch))
        assert len(asks) == len(batch)
        assert {ask.kind for ask in asks} <= set(probe.MODULES)


@every_plan
def test_every_check_of_the_catalog_is_asked(profile: str, base: str) -> None:
    ids = {question.id for question in questions(profile, base)}
    assert {check.id for check in CATALOG.plan(profile, base).checks} <= ids


def test_what_no_base_carries_yet_is_asked_and_says_why_it_is_skipped() -> None:
    found = {q.id: q for q in questions("demo", "debian")}
    for id_ in ("oidc.sign-in", "chat.control", "sandbox.provisioning", "workflow.end-to-end"):
        assert found[id_].skip
    assert found["oidc.sign-in"].skip == "demo on debian carries no gitlab"


def test_a_certificate_is_no_secret() -> None:
    names = secret_names(CATALOG.plan("demo", "debian"))
    assert "tls/key" in names
    assert "tls/certificate" not in names


def test_no_question_carries_a_value_of_a_secret() -> None:
    sent = inside.request([q for q in questions("demo", "debian") if q.viewpoint == "guest"])
    assert "/run/secrets/redis/password" in json.dumps(sent)
    assert "ENC[" not in json.dumps(sent)


@pytest.mark.parametrize(("mode", "days"), [("safe", 3), ("full", 7)])
def test_the_mode_decides_what_is_promised(mode: str, days: int) -> None:
    plan = CATALOG.plan("demo", "debian")
    found = {q.id: q for q in suite(plan, Subject(mode=mode))}  # type: ignore[arg-type]
    assert found["prometheus.retention"].arguments["days"] == days
    cap = plan.resources.of(mode).memory_mib  # type: ignore[arg-type]
    assert found["performance.memory"].arguments["cap_mib"] == cap


def test_decoys_are_tried_beside_the_internet() -> None:
    subject = Subject(decoys=(("10.0.2.2", 4711),))
    found = {q.id: q for q in suite(CATALOG.plan("demo", "debian"), subject)}
    tried = found["networking.isolation"].arguments["tcp"]
    assert ("10.0.2.2", 4711) in tried
    assert ("1.1.1.1", 443) in tried
