"""A base may let services wait for their secrets: what the watch makes of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import ready
from tests.unit.guest.test_guest_ready import FakeManager, record, state

if TYPE_CHECKING:
    from pathlib import Path


def watch_over(manager: FakeManager, **services: dict[str, Any]) -> ready.Watch:
    plan = {"profile": "demo", "base": "nixos", "services": services, "absent": []}
    return ready.Watch(plan, manager)  # type: ignore[arg-type]


@pytest.fixture
def secrets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The link that is /run/secrets; it does not exist yet."""
    link = tmp_path / "secrets"
    monkeypatch.setattr(ready, "SECRETS", str(link))
    return link


def test_a_service_waits_as_long_as_there_are_no_secrets(secrets: Path) -> None:
    manager = FakeManager({"a": "inactive"})
    watch = watch_over(manager, one=record("a") | {"waits": True})
    assert watch.settle(5, pause=0.001)
    assert state(watch, "one") == "waiting"
    assert watch.all_active()


def test_it_stops_waiting_when_they_come(secrets: Path) -> None:
    manager = FakeManager({"a": "inactive"})
    watch = watch_over(manager, one=record("a") | {"waits": True})
    watch.settle(5, pause=0.001)
    secrets.symlink_to("secrets.d/1")
    manager.looks = [{"a": "inactive"}, {"a": "active"}]
    watch.settle(5, pause=0.001)
    assert state(watch, "one") == "healthy"


def test_who_waits_can_still_fail(secrets: Path) -> None:
    watch = watch_over(FakeManager({"a": "failed"}), one=record("a") | {"waits": True})
    watch.settle(5, pause=0.001)
    assert state(watch, "one") == "failed"


def test_an_inactive_service_that_needs_no_secret_does_not_wait(secrets: Path) -> None:
    watch = watch_over(FakeManager({"a": "inactive"}), one=record("a"))
    watch.settle(0.05, pause=0.001)
    assert state(watch, "one") == "failed"


def test_sops_nix_is_asked_whether_the_secrets_failed(secrets: Path) -> None:
    watch = watch_over(FakeManager({"sops-install-secrets.service": "failed"}))
    assert watch.secrets() == "failed"
