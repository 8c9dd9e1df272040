"""The clients of single sign-on: registered from the catalog, known by a hash, proven, revoked."""

from __future__ import annotations

import base64
import hashlib
import json
from copy import deepcopy
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import pytest

from rave_guest.proof import Unproven
from rave_guest.refusal import Refused
from rave_guest.services import canaille as service
from tests import postgres
from tests.debian import plan
from tests.integration.accounts.browser import Browser
from tests.integration.accounts.conftest import (
    ORIGIN,
    SMOKE_SECRET,
    forwarded,
    know,
    running,
)
from tests.integration.accounts.test_accounts import ALICE, Operator, ask
from tests.integration.accounts.test_signing_in import VERIFIER, authorize, changed, code_of

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.accounts.conftest import Canaille

__all__ = ["ask"]

pytestmark = [pytest.mark.integration, *postgres.NEEDED]

BACK = "https://auth.rave.localhost:3002/rave-smoke/callback"
SECRET = "oidc/smoke-client-secret"
RECORD = {
    "id": "rave-smoke", "service": "canaille", "redirects": [BACK], "secret": SECRET,
    "scopes": ["openid", "profile", "email", "groups"], "registered": True,
}  # fmt: skip


def prove(canaille: Canaille, value: str, old: str | None = None) -> list[str]:
    """Let Canaille prove that it took a secret, as an installation does."""
    own = deepcopy(plan("development"))
    own["services"]["canaille"]["ports"] = [{"name": "web", "port": canaille.port}]
    (proof,) = service.proofs(own, SECRET)
    found: list[str] = proof.ask(value, old)
    return found


def redeemed(canaille: Canaille, code: str, secret: str = SMOKE_SECRET) -> tuple[int, Any]:
    basic = base64.b64encode(f"rave-smoke:{secret}".encode()).decode()
    fields = {
        "grant_type": "authorization_code", "code": code, "redirect_uri": BACK,
        "code_verifier": VERIFIER,
    }  # fmt: skip
    headers = forwarded() | {
        "Authorization": f"Basic {basic}", "Content-Type": "application/x-www-form-urlencoded",
    }  # fmt: skip
    with canaille.connected() as connection:
        connection.request("POST", "/oauth/token", urlencode(fields), headers)
        reply = connection.getresponse()
        return reply.status, json.loads(reply.read())


def told(canaille: Canaille, token: str) -> int:
    """Return how the address that tells who somebody is answers to a token."""
    headers = forwarded() | {"Authorization": f"Bearer {token}"}
    return canaille.get("/oauth/userinfo", headers).status


def signed_in(canaille: Canaille, password: str) -> Any:
    browser = Browser(canaille)
    browser.open(authorize(client_id="rave-smoke", redirect_uri=BACK))
    browser.sign_in("alice", password)
    changed(browser)
    status, found = redeemed(canaille, code_of(browser, BACK))
    assert status == 200, found
    return found


def test_what_the_catalog_says_is_registered_below_the_public_origin(ask: Operator) -> None:
    assert BACK.startswith(ORIGIN.replace("//", "//auth."))
    assert [known for known in ask("clients")["clients"] if known["id"] == "rave-smoke"] == [RECORD]


def test_somebody_signs_in_to_it_and_the_database_has_no_secret(
    canaille: Canaille, ask: Operator, database: postgres.Server
) -> None:
    found = signed_in(canaille, str(ask("add", "alice", **ALICE)["password"]))
    assert told(canaille, found["access_token"]) == 200
    place = ["-h", str(database.place), "-p", str(database.port), "-U", "postgres", "canaille"]
    dump = database.run([postgres.program("pg_dump"), *place]).stdout
    assert hashlib.sha256(SMOKE_SECRET.encode()).hexdigest() in dump
    assert SMOKE_SECRET not in dump


def test_the_secret_in_force_is_proven_and_another_is_refused(canaille: Canaille) -> None:
    assert prove(canaille, SMOKE_SECRET) == ["wrong"]
    assert prove(canaille, SMOKE_SECRET, "6" * 64) == ["previous"]
    with pytest.raises(Unproven, match="does not take the installed secret"):
        prove(canaille, "6" * 64)
    with pytest.raises(Unproven, match="takes another secret"):
        prove(canaille, SMOKE_SECRET, SMOKE_SECRET)


def test_what_a_client_was_issued_can_be_revoked(canaille: Canaille, ask: Operator) -> None:
    found = signed_in(canaille, str(ask("add", "alice", **ALICE)["password"]))
    assert ask("revoke-client", client="rave-smoke")["changed"]
    assert told(canaille, found["access_token"]) == 401
    assert not ask("revoke-client", client="rave-smoke")["changed"]
    with pytest.raises(Refused, match="no client nobody") as caught:
        ask("revoke-client", client="nobody")
    assert caught.value.stage == "absent"
    assert [line["result"] for line in ask.written()][-3:] == [
        "changed", "unchanged", "refused (absent): there is no client nobody",
    ]  # fmt: skip


def test_a_secret_is_renewed_while_it_serves_and_nobody_is_refused_in_between(
    canaille: Canaille, monkeypatch: pytest.MonkeyPatch
) -> None:
    called: list[tuple[str, ...]] = []
    direct = partial(service.accounts, address=str(canaille.control))
    monkeypatch.setattr(service, "accounts", direct)
    monkeypatch.setattr(service, "call", lambda *argv: called.append(argv))
    own, new = plan("development"), "9" * 64
    forget = service.renew(own, SECRET, new, SMOKE_SECRET)
    try:
        assert called == [(service.RENDERS,)]
        for shown in (new, SMOKE_SECRET):
            assert redeemed(canaille, "none", shown)[1]["error"] == "invalid_grant"
        # An installation that was ended, and is done again, loses neither.
        forget = service.renew(own, SECRET, new, SMOKE_SECRET)
        assert redeemed(canaille, "none", SMOKE_SECRET)[1]["error"] == "invalid_grant"
        forget()
        assert prove(canaille, new, SMOKE_SECRET) == ["previous"]
    finally:
        service.renew(own, SECRET, SMOKE_SECRET, new)()
    assert prove(canaille, SMOKE_SECRET, new) == ["previous"]
    with pytest.raises(Refused, match="no client") as caught:
        direct("take-client-secret", {"client": "nobody", "sha256": "0" * 64})
    assert caught.value.stage == "absent"


def test_a_restart_takes_another_secret_and_forgets_a_client_that_has_none(
    wheels: Path, place: Path, secrets: Path
) -> None:
    try:
        know(place, "7" * 64)
        with running(wheels, place, secrets) as canaille:
            assert prove(canaille, "7" * 64, SMOKE_SECRET) == ["previous"]
        know(place, None)
        with running(wheels, place, secrets) as canaille:
            known = service.accounts("clients", {}, str(canaille.control))["clients"]
            registered = {client["id"]: client["registered"] for client in known}
            assert registered == {
                "rave-smoke": False, "matrix": True, "pagure": False, "portal": True,
            }  # fmt: skip
    finally:
        know(place, SMOKE_SECRET)
