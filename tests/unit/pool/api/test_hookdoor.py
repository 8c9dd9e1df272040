"""Hooks over real sockets: no token, a signature; bounded; two hundred at once, each once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.api import hookdoor
from rave_cli.pool.sources import hooks, keys
from rave_cli.pool.sources import source as sources
from rave_cli.pool.sources.ledger import open_ledger
from rave_platform.domain.ratelimit import Rate
from tests.unit.pool.sources.forges import SECRET, commit, hook, push, source

if TYPE_CHECKING:
    import httpx

    from rave_platform.domain.signatures import WebhookRequest

    from .conftest import ServedApi


@pytest.fixture(autouse=True)
def _secrets(home: object, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "opened", lambda _names: {"hook": SECRET})


def send(client: httpx.Client, given: WebhookRequest, name: str = "app") -> httpx.Response:
    return client.post(f"/v1/hooks/{name}", content=given.body, headers=dict(given.headers))


def count() -> int:
    with open_ledger() as ledger:
        return len(ledger.revisions("app", 1000))


def test_a_hook_needs_no_token_and_is_kept(api: ServedApi) -> None:
    sources.add(source())
    with api.other() as forge, api.owner() as owner:
        answer = send(forge, hook("github", push("github", commit(1))))
        assert (answer.status_code, answer.json()) == (202, {"status": "accepted"})
        assert count() == 1
        again = send(owner, hook("github", push("github", commit(1))))
        assert (again.status_code, again.json()) == (200, {"status": "duplicate"})
        # It is no way to anything else.
        assert forge.get("/v1/hooks/app").status_code == 405
        assert forge.get("/v1/jobs").status_code == 401


def test_who_guesses_learns_nothing_and_is_slowed_down(api: ServedApi) -> None:
    sources.add(source())
    bad = hook("github", push("github", commit(1)), "w" * 32)
    with api.other() as other:
        answers = [send(other, bad, name) for name in ("app", "nobody", "x" * 99, "a%2f..%2fb")]
        told = {(one.status_code, one.text) for one in answers[:3]}
        assert told == {(401, '{"status": "refused"}')}
        assert answers[3].status_code in (401, 404)
        # As fast as they come back they are answered.
        tries = (send(other, bad) for _ in range(100 * hookdoor.GUESSES_AT_ONCE))
        last = next(one for one in tries if one.status_code == 429)
        assert int(last.headers["retry-after"]) > 0
        # The forge itself is heard on.
        assert send(other, hook("github", push("github", commit(1)))).status_code == 202


def test_a_hook_that_is_too_large_or_too_slow_is_given_up(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.add(source())
    monkeypatch.setattr(hookdoor, "MOST_BODY", 1000)
    with api.other() as other:
        assert send(other, hook("github", b"x" * 1001)).status_code == 413

        def endless() -> object:
            yield b"x" * 600
            yield b"x" * 600

        answer = other.post("/v1/hooks/app", content=endless())  # type: ignore[arg-type]
        assert answer.status_code == 413
    monkeypatch.setattr(hookdoor, "BODY_WITHIN", 0.2)
    with api.other() as other:

        def slow() -> object:
            import time

            yield b"x"
            time.sleep(1)
            yield b"x"

        answer = other.post("/v1/hooks/app", content=slow())  # type: ignore[arg-type]
        assert answer.status_code == 408


def test_a_store_that_cannot_be_written_accepts_nothing(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    sources.add(source())

    def full(*_words: object) -> None:
        raise RaveError("the disk is full", exit_code=ExitCode.HOST)

    with api.other() as other:
        with monkeypatch.context() as patched:
            patched.setattr(hooks.HookIntake, "_opened", full)
            answer = send(other, hook("github", push("github", commit(1))))
        assert answer.status_code == 503
        assert "disk" not in answer.text
        assert send(other, hook("github", push("github", commit(1)))).status_code == 202


def test_two_hundred_hooks_at_once_are_all_kept_each_once(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hooks, "RATE", Rate(1e6, 1000))
    sources.add(source())
    given = [hook("github", push("github", commit(number // 2))) for number in range(200)]
    with api.owner() as owner, ThreadPoolExecutor(32) as threads:
        answers = list(threads.map(lambda one: send(owner, one), given))
    assert {one.status_code for one in answers} <= {200, 202}
    assert sum(one.status_code == 202 for one in answers) == count() == 100
