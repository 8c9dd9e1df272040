"""Hooks of each forge: good, bad, missing, replayed, old, rotated, malformed; never a fault."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rave_cli.pool.sources import hooks as room
from rave_cli.pool.sources import source as sources
from rave_cli.pool.sources.hooks import REFUSED, HookAnswer, HookIntake
from rave_cli.pool.sources.ledger import open_ledger
from rave_cli.pool.sources.source import FORGES, Forge
from rave_platform.domain.ratelimit import Rate
from rave_platform.domain.signatures import WebhookRequest

from .forges import OLD_SECRET, SECRET, SIGNING, commit, hook, push, request, source

if TYPE_CHECKING:
    from collections.abc import Iterator

MANY = settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
NEW = HookAnswer(202, "accepted")


@pytest.fixture
def intake() -> Iterator[HookIntake]:
    found = HookIntake()
    yield found
    found.close()


def take(intake: HookIntake, given: WebhookRequest, name: str = "app") -> HookAnswer:
    return intake._thread.submit(intake._take, name, given).result()


def revisions(name: str = "app") -> list[tuple[str, str]]:
    with open_ledger() as ledger:
        return [(one.revision.name, one.state) for one in ledger.revisions(name, 100)]


@pytest.mark.parametrize("forge", FORGES)
def test_a_good_hook_is_on_the_disk_when_it_is_answered(intake: HookIntake, forge: Forge) -> None:
    sources.add(source(forge))
    assert take(intake, hook(forge, push(forge, commit(1)))) == NEW
    assert revisions() == [("main", "waiting")]
    assert take(intake, hook(forge, request(forge, commit(1)), name="d-2")) == NEW
    assert revisions() == [("7", "waiting"), ("main", "waiting")]


@pytest.mark.parametrize("forge", FORGES)
def test_one_that_comes_again_counts_once(intake: HookIntake, forge: Forge) -> None:
    sources.add(source(forge))
    assert take(intake, hook(forge, push(forge, commit(1)))) == NEW
    assert take(intake, hook(forge, push(forge, commit(1)))) == HookAnswer(200, "duplicate")
    # Replayed under another id, which no forge but GitLab signs: the body tells, else the commit.
    again = take(intake, hook(forge, push(forge, commit(1)), name="d-9"))
    assert (again.status, again.said in ("duplicate", "known")) == (200, True)
    assert revisions() == [("main", "waiting")]


@pytest.mark.parametrize("forge", FORGES)
@pytest.mark.parametrize("wrong", ["secret", "missing", "body", "malformed", "empty"])
def test_who_cannot_sign_hears_one_answer(intake: HookIntake, forge: Forge, wrong: str) -> None:
    # A secret token signs nothing: of GitLab's, the signing one.
    secret, of = (SIGNING, "signing") if forge == "gitlab" else (SECRET, "hook")
    sources.add(source(forge, secrets=(of,)))
    good = hook(forge, push(forge, commit(1)), secret)
    signature = next(n for n in good.headers if "signature" in n or "token" in n)
    given = {
        "secret": hook(forge, push(forge, commit(1)), "w" * 32),
        "missing": replace(good, headers={}),
        "body": replace(good, body=good.body + b" "),
        "malformed": replace(good, headers={**good.headers, signature: "sha256=\xff,v1,="}),
        "empty": replace(good, headers={**good.headers, signature: ""}),
    }[wrong]
    assert take(intake, given) is REFUSED
    assert take(intake, given, "nobody") is REFUSED
    assert revisions() == []


@pytest.mark.parametrize("forge", FORGES)
def test_while_a_secret_is_rotated_both_count(intake: HookIntake, forge: Forge) -> None:
    sources.add(source(forge, secrets=("hook", "old")))
    assert take(intake, hook(forge, push(forge, commit(1)), OLD_SECRET)) == NEW
    assert take(intake, hook(forge, push(forge, commit(2)), SECRET, "d-2")) == NEW
    sources.remove("app")
    sources.add(source(forge, secrets=("hook",)))
    assert take(intake, hook(forge, push(forge, commit(3)), OLD_SECRET, "d-3")) is REFUSED


def test_a_signing_token_of_gitlabs_is_not_replaced_by_a_weaker_one(intake: HookIntake) -> None:
    sources.add(source("gitlab", secrets=("signing", "hook")))
    assert take(intake, hook("gitlab", push("gitlab", commit(1)), SECRET)) is REFUSED
    assert take(intake, hook("gitlab", push("gitlab", commit(1)), SIGNING)) == NEW


def test_an_old_hook_of_a_forge_that_signs_the_time_is_refused(
    intake: HookIntake, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.add(source("gitlab", secrets=("signing",)))
    given = hook("gitlab", push("gitlab", commit(1)), SIGNING)
    later = time.time() + 600
    monkeypatch.setattr(time, "time", lambda: later)
    assert take(intake, given) is REFUSED


def test_a_source_without_its_secret_takes_nothing_in(intake: HookIntake) -> None:
    sources.add(source(secrets=("nowhere",)))
    assert take(intake, hook("github", push("github", commit(1)))) is REFUSED


@pytest.mark.parametrize("forge", FORGES)
@pytest.mark.parametrize(
    "body", [b"", b"[]", b"{", b"null", b"\xff", b"payload=%7B%7D", b'{"a":' * 9999, b'{"a":NaN}']
)
def test_what_is_signed_and_no_payload_is_the_senders_fault(
    intake: HookIntake, forge: Forge, body: bytes
) -> None:
    sources.add(source(forge))
    assert take(intake, hook(forge, body)).status == 400


@pytest.mark.parametrize("forge", FORGES)
def test_what_is_not_built_is_ignored(intake: HookIntake, forge: Forge) -> None:
    sources.add(source(forge, on=("push", "merge-request"), refs=("main", "release/*")))
    ignored = HookAnswer(200, "ignored")
    sha = commit(1)
    assert take(intake, hook(forge, push(forge, sha, "refs/tags/v1"))) == ignored
    assert take(intake, hook(forge, push(forge, sha, "refs/heads/other"))) == ignored
    assert take(intake, hook(forge, request(forge, sha, target="other"))) == ignored
    assert take(intake, hook(forge, request(forge, sha, fork=True))) == ignored
    assert take(intake, hook(forge, {"zen": "Keep it logically awesome."})) == ignored
    assert take(intake, hook(forge, push(forge, sha, "refs/heads/release/1"))) == NEW


@pytest.mark.parametrize("forge", FORGES)
def test_a_hook_of_another_repository_with_the_same_secret_is_ignored(
    intake: HookIntake, forge: Forge
) -> None:
    sources.add(source(forge, repository="team/other"))
    assert take(intake, hook(forge, push(forge, commit(1)))).said == "ignored"
    assert revisions() == []


def test_a_source_may_send_so_many(intake: HookIntake, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "RATE", Rate(0.001, 2))
    sources.add(source())
    answers = [take(intake, hook("github", push("github", commit(n)))) for n in range(3)]
    assert [one.status for one in answers] == [202, 202, 429]
    assert answers[-1].wait > 0
    # Whoever has no secret uses nothing up.
    assert take(intake, hook("github", push("github", commit(9)), "w" * 32)) is REFUSED


def test_a_source_that_is_added_is_known_at_once_and_one_that_is_removed_no_more(
    intake: HookIntake,
) -> None:
    given = hook("github", push("github", commit(1)))
    assert take(intake, given) is REFUSED
    sources.add(source())
    assert take(intake, given) == NEW
    sources.remove("app")
    assert take(intake, given) is REFUSED


def test_what_was_recorded_does_not_count_again_when_a_source_is_added_anew(
    intake: HookIntake,
) -> None:
    sources.add(source())
    assert take(intake, hook("github", push("github", commit(1)))) == NEW
    sources.remove("app")
    with open_ledger() as ledger:
        ledger.forget("app")
    sources.add(source())
    assert take(intake, hook("github", push("github", commit(1)))).said == "duplicate"


@MANY
@given(
    st.sampled_from(FORGES),
    st.dictionaries(
        st.sampled_from([
            "x-hub-signature-256", "x-gitea-signature", "x-forgejo-signature", "x-gitlab-token",
            "x-pagure-signature-256", "webhook-id", "webhook-timestamp", "webhook-signature",
            "idempotency-key", "x-github-event", "x-github-delivery",
        ]),
        st.text(st.characters(max_codepoint=255), max_size=90),
        max_size=6,
    ),
    st.binary(max_size=200),
)  # fmt: skip
def test_whatever_comes_is_refused_and_never_a_fault(
    forge: Forge, headers: dict[str, str], body: bytes
) -> None:
    intake = HookIntake()
    try:
        if not sources.read():
            for one in FORGES:
                sources.add(source(one, name=one))
        assert take(intake, WebhookRequest(headers, body), forge) is REFUSED
    finally:
        intake.close()


@MANY
@given(st.sampled_from(FORGES), st.dictionaries(st.text(max_size=9), st.integers() | st.text()))
def test_whatever_is_signed_has_an_answer(forge: Forge, payload: dict[str, Any]) -> None:
    intake = HookIntake()
    try:
        if not sources.read():
            for one in FORGES:
                sources.add(source(one, name=one))
        answer = take(intake, hook(forge, json.dumps(payload).encode()), forge)
        assert answer.status in (200, 202)
    finally:
        intake.close()
