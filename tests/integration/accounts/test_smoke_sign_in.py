"""The smoke suite's own sign-in, against the real Canaille: it passes, and finds what is wrong."""

from __future__ import annotations

from http.client import HTTPConnection
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import signin
from rave_guest.services import canaille as service
from tests import postgres
from tests.debian import plan
from tests.integration.accounts.conftest import ORIGIN, SMOKE_SECRET, forwarded
from tests.integration.accounts.test_accounts import Operator, ask

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.integration.accounts.conftest import Canaille

__all__ = ["ask"]

pytestmark = [pytest.mark.integration, *postgres.NEEDED]

SITE = ORIGIN.replace("//", "//auth.")
BACK = f"{SITE}/rave-smoke/callback"


def journey(canaille: Canaille, secret: str = SMOKE_SECRET, **more: Any) -> signin.Journey:
    def connect() -> HTTPConnection:
        return HTTPConnection("127.0.0.1", canaille.port, timeout=30)

    def accounts(action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        return service.accounts(action, arguments, str(canaille.control))

    client = plan("development")["services"]["canaille"]["oidcClient"] | {"back": BACK} | more
    headers = {name: value for name, value in forwarded().items() if name != "Host"}
    return signin.Journey(SITE, client, secret, accounts, connect=connect, headers=headers)


def states(verdicts: Mapping[str, Any]) -> dict[str, str]:
    return {name: verdict.status for name, verdict in verdicts.items()}


def test_every_step_passes_whatever_was_left_before_and_nothing_is_left(
    canaille: Canaille, ask: Operator
) -> None:
    ask("add", signin.USER, name="Left", email="", groups=[], password=False)
    verdicts = signin.travel(journey(canaille))
    assert {name: found for name, found in verdicts.items() if found.status != "pass"} == {}
    assert ask("list")["users"] == []


def test_a_secret_that_is_not_taken_is_a_failure_and_the_rest_has_no_ground(
    canaille: Canaille,
) -> None:
    found = states(signin.travel(journey(canaille, "6" * 64)))
    assert found.pop("discovery") == "pass"
    assert found.pop("code-flow") == "fail"
    assert set(found.values()) == {"skip"}


def test_an_address_that_is_not_registered_is_found(canaille: Canaille) -> None:
    found = states(signin.travel(journey(canaille, back=f"{SITE}/elsewhere")))
    assert found["code-flow"] in {"fail", "error"}


def test_a_provider_that_is_away_is_an_error_of_the_first_step(canaille: Canaille) -> None:
    gone = journey(canaille)
    gone._connect = lambda: (_ for _ in ()).throw(ConnectionRefusedError(111, "refused"))
    found = states(signin.travel(gone))
    assert found.pop("discovery") == "error"
    assert set(found.values()) == {"skip"}
