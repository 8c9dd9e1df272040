"""A development machine as `rave up` makes it, to a signed transcript; people sign in to it.

It takes ten minutes of two processors, so it is asked for: RAVE_DEVELOPMENT=1. One sign-in is a
real browser's, which is large: RAVE_CHROMIUM names it.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.integration.development import ASKED_FOR
from tests.integration.development.pages import sign_in, text
from tests.integration.portal import chromium
from tests.waiting import until

if TYPE_CHECKING:
    from tests.integration.development.clone import CleanClone

pytestmark = [
    *ASKED_FOR,
    pytest.mark.timeout(3600),
]

CHROMIUM = os.environ.get("RAVE_CHROMIUM")
# What people have a development machine for, and so what must have been tried in it.
TRIED = ("sign-in", "chat-control", "workflow")


def test_its_transcript_verifies_and_says_what_was_tried(site: CleanClone) -> None:
    key = Path(site.env["HOME"]) / ".config/rave/signing/id_ed25519.pub"
    site.rave("smoke", "verify", str(site.transcript()), "--key", str(key))
    document = json.loads(site.transcript().read_text())
    assert document["overall_status"] in {"SUCCESS", "WARNING"}
    results = document["validation_results"]
    assert {result["phase"] for result in results} >= set(TRIED)
    others = [
        (r["id"], r["status"]) for r in results if r["phase"] in TRIED and r["status"] != "pass"
    ]
    # No pool is lent to it.
    assert others == [("workflow.sandbox", "skip")]


@pytest.mark.skipif(not CHROMIUM, reason="RAVE_CHROMIUM: not named")
def test_a_browser_signs_in_for_the_first_time(site: CleanClone, tmp_path: Path) -> None:
    site.rave(
        "user",
        "add",
        "development",
        "alice",
        "--name",
        "Alice Liddell",
        "--email",
        "alice@example.org",
    )
    asked = ("user", "reset-password", "development", "alice", "--json", "--with-password")
    once: str = json.loads(site.rave(*asked))["password"]
    machine: dict[str, Any] = json.loads(site.rave("vm", "status", "development", "--json"))
    with chromium.running(str(CHROMIUM), tmp_path / "profile") as browser:
        browser.open(machine["publicOrigin"], width=1100)
        assert "Sign in to see more" in text(browser)
        browser.open(f"{machine['publicOrigin']}/portal/sign-in", width=1100)
        sign_in(browser, "alice", once, "a new one, of mine")
        until(lambda: "Signed in as Alice Liddell" in text(browser))
        browser.open(machine["publicOrigin"], width=1100)
        assert "Signed in as Alice Liddell" in text(browser)
        assert browser.complaints == []
