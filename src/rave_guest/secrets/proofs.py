"""Proof that services took their secrets: each is asked over its own protocol.

A secret's record names the service that can be asked; how, its module knows. The new value must be
accepted; the previous one, or none, must be refused. Answers name the secret and the service, never
a value.
"""

from __future__ import annotations

import threading
import time
from collections import namedtuple

from rave_guest import registry
from rave_guest.proof import Proof, Unproven

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from typing import Any

PATIENCE = 15.0  # seconds that a service gets after its restart
LOOK = 0.05  # seconds until a service that does not answer yet is asked again
AT_REST = 2.0  # seconds that a service gets that was not restarted


class SecretChange(namedtuple("SecretChange", ("values", "before"))):
    """The secrets now in force, and those that were before; a changed one must be refused now."""

    __slots__ = ()
    values: Mapping[str, bytes]
    before: Mapping[str, bytes]

    def of(self, name: str) -> tuple[str, str | None]:
        """Return a secret's value and its previous one if that was another."""
        value, old = self.values[name].decode(), self.before.get(name, b"").decode()
        return value, old if old and old != value else None


def prove(plan: Mapping[str, Any], change: SecretChange, patience: float) -> list[dict[str, Any]]:
    """Ask every service of the plan that can be asked; return one record for each.

    Args:
        plan: the resolved plan of this guest.
        change: the secrets now in force, and those before.
        patience: seconds that each service gets until it answers as it must.

    Raises:
        Unproven: if a service does not accept the new value, or still accepts something else.
    """
    threads = [_Asking(proof, change, patience) for proof in proofs(plan, change.values)]
    for thread in threads:
        thread.start()
    return [thread.answer() for thread in threads]


def proofs(plan: Mapping[str, Any], names: Iterable[str]) -> Iterator[Proof]:
    """Return how to ask about these secrets, as far as they can be asked about.

    Raises:
        Unproven: a secret names a service without proofs.
    """
    for name in names:
        service = plan["secrets"][name].get("proof")
        if service in plan["services"]:
            ask = getattr(registry.service(service), "proofs", None)
            if ask is None:
                raise Unproven(f"{service} cannot be asked about {name}")
            yield from ask(plan, name)


class _Asking(threading.Thread):
    """Asks one service while others are asked: each spends its time in its own process."""

    def __init__(self, proof: Proof, change: SecretChange, patience: float) -> None:
        super().__init__(daemon=True)
        self._ask = (proof, change, patience)
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


def _record(proof: Proof, change: SecretChange, patience: float) -> dict[str, Any]:
    began = time.monotonic()
    refused = _patiently(proof, *change.of(proof.secret), patience)
    return {
        "service": proof.service,
        "secret": proof.secret,
        "accepted": True,
        "refused": refused,
        "seconds": round(time.monotonic() - began, 3),
    }


def _patiently(proof: Proof, value: str, old: str | None, patience: float) -> list[str]:
    """Ask until the service answers as it must, or patience ends."""
    deadline = time.monotonic() + patience
    while True:
        try:
            return proof.ask(value, old)
        except (OSError, ValueError, Unproven) as error:
            if time.monotonic() > deadline:
                raise Unproven(f"{proof.service}: {error}") from error
        time.sleep(LOOK)
