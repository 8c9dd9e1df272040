"""Services that take a secret while they run: who does, what is restarted, and what if not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import registry
from rave_guest.refusal import Refused
from rave_guest.secrets import renewal
from rave_guest.secrets.proofs import SecretChange
from tests.debian import plan

if TYPE_CHECKING:
    from collections.abc import Callable

PLAN: dict[str, Any] = {
    "base": "debian",
    "services": {
        "redis": {"units": ["redis.service"]},
        "forge": {"units": ["forge.service", "worker.service"]},
    },
    "secrets": {
        "redis/password": {
            "proof": "redis", "refresh": ["redis.service", "forge.service", "worker.service"],
        },
        "forge/key": {"proof": None, "refresh": ["forge.service"]},
        "redis/other": {"proof": "redis", "refresh": ["redis.service"]},
    },
}  # fmt: skip
CHANGE = SecretChange(
    dict.fromkeys(PLAN["secrets"], b"new"),
    {"redis/password": b"old", "forge/key": b"old", "redis/other": b"old"},
)


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """A service that takes what it is told, and what it was told."""
    told: list[Any] = []

    def renew(_plan: Any, name: str, value: str, old: str) -> Callable[[], None]:
        told.append((name, value, old))
        if name == "redis/other":
            raise Refused("refresh", "not this one")
        return lambda: told.append(("forget", name))

    module = SimpleNamespace(renew=renew)
    monkeypatch.setattr(registry, "service", lambda name: module if name == "redis" else None)
    return told


def test_a_service_that_takes_it_is_not_restarted_and_whoever_uses_it_is(told: list[Any]) -> None:
    taken = renewal.take(PLAN, ["redis/password", "forge/key"], CHANGE)
    assert told == [("redis/password", "new", "old")]
    assert renewal.units(PLAN, ["redis/password", "forge/key"], taken) == [
        "forge.service", "worker.service",
    ]  # fmt: skip
    renewal.forget(taken)
    assert told[-1] == ("forget", "redis/password")


def test_a_service_that_does_not_take_one_of_its_secrets_is_restarted(told: list[Any]) -> None:
    taken = renewal.take(PLAN, ["redis/password", "redis/other"], CHANGE)
    assert len(told) == 2
    assert renewal.units(PLAN, ["redis/password", "redis/other"], taken)[-1] == "redis.service"


def test_a_first_secret_and_the_other_base_are_as_ever(told: list[Any]) -> None:
    first = CHANGE._replace(before={})
    assert renewal.take(PLAN, ["redis/password"], first) == {}
    assert renewal.take(PLAN | {"base": "nixos"}, ["redis/password"], CHANGE) == {}
    assert told == []
    assert (
        renewal.units(PLAN, ["redis/password"], {}) == PLAN["secrets"]["redis/password"]["refresh"]
    )


def test_what_can_be_taken_is_what_the_catalog_has_somebody_to_ask_about() -> None:
    """A `renew` is found by the service that proves the secret, and spares that its restart."""
    own = plan("development")
    able = {
        name
        for name, secret in own["secrets"].items()
        if secret["proof"] and hasattr(registry.service(secret["proof"]), "renew")
    }
    clients = {name for name in own["secrets"] if name.endswith("-client-secret")}
    assert able == {"redis/password", "nats/password"} | clients
    assert "oidc/matrix-client-secret" in clients
    for name in able:
        units = own["services"][own["secrets"][name]["proof"]]["units"]
        assert set(units) & set(own["secrets"][name]["refresh"]), name
