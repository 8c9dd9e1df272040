"""Proof that services took their secrets: each is asked over its own protocol.

The new value must be accepted; the previous one, or none, must be refused. Answers name the
secret and the service, never a value.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, NamedTuple

from rave_guest.wire import postgres
from rave_guest.wire.nats import Nats, NatsError
from rave_guest.wire.redis import Redis, RedisError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

TIMEOUT = 5.0  # seconds for one exchange
PATIENCE = 15.0  # seconds that a service gets after its restart
AT_REST = 2.0  # seconds that a service gets that was not restarted
NATS_USER = "rave"
# Refused by every service: no generated or valid value is this short.
_WRONG = "wrong"
# invalid_password, invalid_authorization_specification
_LOGIN_REFUSED = {"28P01", "28000"}


class Unproven(Exception):  # noqa: N818 - it reads as what happened
    """A service does not behave as its secret demands."""


class Change(NamedTuple):
    """The secrets now in force, and those that were before; a changed one must be refused now."""

    values: Mapping[str, bytes]
    before: Mapping[str, bytes]

    def of(self, name: str) -> tuple[str, str | None]:
        """Return a secret's value and its previous one if that was another."""
        value, old = self.values[name].decode(), self.before.get(name, b"").decode()
        return value, old if old and old != value else None


def prove(plan: Mapping[str, Any], change: Change, patience: float) -> list[dict[str, Any]]:
    """Ask every service of the plan that can be asked; return one record for each.

    Args:
        plan: the resolved plan of this guest.
        change: the secrets now in force, and those before.
        patience: seconds that each service gets until it answers as it must.

    Raises:
        Unproven: if a service does not accept the new value, or still accepts something else.
    """
    asked = [question for question in _questions(plan) if question.secret in change.values]
    threads = [_Asking(question, change, patience) for question in asked]
    for thread in threads:
        thread.start()
    return [thread.answer() for thread in threads]


class _Asking(threading.Thread):
    """Asks one service while others are asked: each spends its time in its own process."""

    def __init__(self, question: _Question, change: Change, patience: float) -> None:
        super().__init__(daemon=True)
        self._ask = (question, change, patience)
        self._record: dict[str, Any] = {}
        self._fault: BaseException | None = None

    def run(self) -> None:
        """Keep the record, or what went wrong, for `answer`."""
        try:
            self._record = _record(*self._ask)
        except BaseException as error:  # noqa: BLE001 - raised again where it is waited for
            self._fault = error

    def answer(self) -> dict[str, Any]:
        """Wait for the record; raise what went wrong instead if something did."""
        self.join()
        if self._fault is not None:
            raise self._fault
        return self._record


class _Question(NamedTuple):
    """How to ask a service about a secret; `ask` gets the value and the previous one, if any."""

    service: str
    secret: str
    ask: Callable[[str, str | None], list[str]]


def _questions(plan: Mapping[str, Any]) -> Iterator[_Question]:
    services = plan["services"]
    if "postgresql" in services:
        for entry in plan["databases"]:
            ask = _postgresql(services["postgresql"], entry)
            yield _Question(f"postgresql:{entry['role']}", entry["secret"], ask)
    for service, secret, maker in (
        ("redis", "redis/password", _redis),
        ("nats", "nats/password", _nats),
        ("nginx", "tls/certificate", _nginx),
    ):
        if service in services:
            yield _Question(service, secret, maker(services[service]))


def _record(question: _Question, change: Change, patience: float) -> dict[str, Any]:
    began = time.monotonic()
    refused = _patiently(question, *change.of(question.secret), patience)
    return {
        "service": question.service,
        "secret": question.secret,
        "accepted": True,
        "refused": refused,
        "seconds": round(time.monotonic() - began, 3),
    }


def _patiently(question: _Question, value: str, old: str | None, patience: float) -> list[str]:
    """Ask until the service answers as it must, or patience ends."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return question.ask(value, old)
        except (OSError, ValueError, Unproven) as error:
            if time.monotonic() > deadline:
                raise Unproven(f"{question.service}: {error}") from error
        time.sleep(0.02)


def _port(service: Mapping[str, Any], name: str) -> int:
    return next(int(port["port"]) for port in service["ports"] if port["name"] == name)


def _postgresql(
    service: Mapping[str, Any], entry: Mapping[str, Any]
) -> Callable[[str, str | None], list[str]]:
    role, database = entry["role"], entry["name"] or "postgres"
    port = _port(service, "postgresql")

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
