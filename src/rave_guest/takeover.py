"""Proof that services took their secrets: each is asked over its own protocol.

The new value must be accepted; the previous one, or none, must be refused. Answers name the
secret and the service, never a value.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from rave_guest.wire import postgres
from rave_guest.wire.nats import Nats, NatsError
from rave_guest.wire.redis import Redis, RedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TIMEOUT = 5.0  # seconds for one exchange
PATIENCE = 15.0  # seconds a restarted service gets until it takes the new value
NATS_USER = "rave"
# Refused by every service: no generated or valid value is this short.
_WRONG = "wrong"
# invalid_password, invalid_authorization_specification
_LOGIN_REFUSED = {"28P01", "28000"}


class Unproven(Exception):  # noqa: N818 - it reads as what happened
    """A service does not behave as its secret demands."""


def prove(
    plan: Mapping[str, Any], values: Mapping[str, bytes], before: Mapping[str, bytes]
) -> list[dict[str, Any]]:
    """Ask every service of the plan that can be asked; return one record for each.

    Args:
        plan: the resolved plan of this guest.
        values: the secrets now in force.
        before: the secrets that were in force before; a value that changed must be refused now.

    Raises:
        Unproven: if a service does not accept the new value, or still accepts something else.
    """
    asked: list[tuple[str, str, Callable[[str, str | None], list[str]]]] = [
        (f"postgresql:{entry['role']}", entry["secret"], _postgresql(plan, entry))
        for entry in plan["databases"]
        if "postgresql" in plan["services"]
    ]
    for service, secret, question in (
        ("redis", "redis/password", _redis),
        ("nats", "nats/password", _nats),
        ("nginx", "tls/certificate", _nginx),
    ):
        if service in plan["services"]:
            asked.append((service, secret, question(plan["services"][service])))
    return [
        _record(name, secret, question, values, before)
        for name, secret, question in asked
        if secret in values
    ]


def _record(
    name: str,
    secret: str,
    question: Callable[[str, str | None], list[str]],
    values: Mapping[str, bytes],
    before: Mapping[str, bytes],
) -> dict[str, Any]:
    began = time.monotonic()
    value, old = values[secret].decode(), before.get(secret, b"").decode() or None
    refused = _patiently(name, lambda: question(value, old if old != value else None))
    return {
        "service": name,
        "secret": secret,
        "accepted": True,
        "refused": refused,
        "seconds": round(time.monotonic() - began, 3),
    }


def _patiently(name: str, ask: Callable[[], list[str]]) -> list[str]:
    """Ask until the service answers as it must, or patience ends."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return ask()
        except (OSError, ValueError, Unproven) as error:
            if time.monotonic() > deadline:
                raise Unproven(f"{name}: {error}") from error
        time.sleep(0.02)


def _port(service: Mapping[str, Any], name: str) -> int:
    return next(int(port["port"]) for port in service["ports"] if port["name"] == name)


def _postgresql(
    plan: Mapping[str, Any], entry: Mapping[str, Any]
) -> Callable[[str, str | None], list[str]]:
    role, database = entry["role"], entry["name"] or "postgres"
    port = _port(plan["services"]["postgresql"], "postgresql")

    def ask(value: str, old: str | None) -> list[str]:
        try:
            postgres.log_in(role, database, value, TIMEOUT, port)
        except postgres.Refused as error:
            raise Unproven(f"it refuses the new password ({error.code})") from error
        try:
            postgres.log_in(role, database, old or _WRONG, TIMEOUT, port)
        except postgres.Refused as error:
            if error.code not in _LOGIN_REFUSED:
                raise Unproven(f"it answered {error.code} instead of refusing") from error
            return ["previous" if old else "wrong"]
        raise Unproven(f"it still accepts {'the previous' if old else 'a wrong'} password")

    return ask


def _redis(service: Mapping[str, Any]) -> Callable[[str, str | None], list[str]]:
    port = _port(service, "redis")

    def ask(value: str, old: str | None) -> list[str]:
        refusals = {"none": ("SET", "rave:proof", "1"), "previous": ("AUTH", old or _WRONG)}
        for attempt in refusals.values():
            with Redis(TIMEOUT, port) as redis:
                try:
                    redis.ask(*attempt)
                except RedisError:
                    continue
            raise Unproven(f"it accepts {attempt[0]} without the new password")
        with Redis(TIMEOUT, port) as redis:
            try:
                redis.ask("AUTH", value)
                redis.ask("PING")
            except RedisError as error:
                raise Unproven(f"it refuses the new password ({error})") from error
        return ["none", "previous" if old else "wrong"]

    return ask


def _nats(service: Mapping[str, Any]) -> Callable[[str, str | None], list[str]]:
    port = _port(service, "client")

    def ask(value: str, old: str | None) -> list[str]:
        for user, password in ((None, None), (NATS_USER, old or _WRONG)):
            try:
                Nats(TIMEOUT, user=user, password=password, port=port).close()
            except NatsError:
                continue
            raise Unproven("it accepts a client without the new password")
        try:
            Nats(TIMEOUT, user=NATS_USER, password=value, port=port).close()
        except NatsError as error:
            raise Unproven(f"it refuses the new password ({error})") from error
        return ["none", "previous" if old else "wrong"]

    return ask


def _nginx(service: Mapping[str, Any]) -> Callable[[str, str | None], list[str]]:
    port = _port(service, "status")

    def ask(value: str, old: str | None) -> list[str]:
        import ssl

        served = ssl.get_server_certificate(("127.0.0.1", port), timeout=TIMEOUT)
        if ssl.PEM_cert_to_DER_cert(served) != ssl.PEM_cert_to_DER_cert(_first(value)):
            raise Unproven("it serves another certificate than the installed one")
        return ["previous"] if old else []

    return ask


def _first(chain: str) -> str:
    """Return the first certificate of a PEM chain: the server's own."""
    end = "-----END CERTIFICATE-----"
    return chain[: chain.index(end) + len(end)]
