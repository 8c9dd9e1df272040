"""What the check of the web client finds wrong, of answers as nginx could give them."""

from __future__ import annotations

import json

import pytest

from rave_guest.services.hydrogen import FILES, SETTINGS, found_wrong
from tests.debian import rendered

HOME = "https://matrix.rave.localhost:3002"
CONFIGURED = rendered("development")["etc/nginx/sites/hydrogen.conf"]
POLICY = next(line for line in CONFIGURED.splitlines() if "connect-src" in line)
POLICY = POLICY.replace("$hydrogen_place", "rave.localhost:3002")
SAID = json.dumps({"defaultHomeServer": HOME}).encode()


def wrong(**changed: tuple[int, str, bytes]) -> list[str]:
    """Return what is wrong where some paths are answered otherwise."""
    answers = dict.fromkeys(FILES, (200, POLICY, b"x")) | {SETTINGS: (200, POLICY, SAID)}
    return found_wrong((answers | changed).__getitem__, HOME)


def test_what_nginx_is_told_to_say_is_right() -> None:
    assert wrong() == []


@pytest.mark.parametrize("path", FILES)
def test_a_file_that_is_not_there_is_named(path: str) -> None:
    assert wrong(**{path: (404, POLICY, b"")}) == [f"{path} is answered with 404"]
    assert wrong(**{path: (200, POLICY, b"")}) == [f"{path} is answered with 200"]


def test_a_policy_that_lets_others_in_is_told() -> None:
    open_to_all = POLICY.replace("script-src 'self'", "script-src 'self' 'unsafe-inline'")
    assert wrong(**{"/": (200, open_to_all, b"x")}) == ["/ would let scripts of others run"]
    elsewhere = POLICY.replace(
        "connect-src 'self' https://matrix.", "connect-src 'self' https://x."
    )
    assert wrong(**{"/": (200, elsewhere, b"x")}) == [f"/ may not connect to {HOME}"]


def test_a_client_of_another_homeserver_is_told() -> None:
    said = json.dumps({"defaultHomeServer": "https://elsewhere.example"}).encode()
    found = wrong(**{SETTINGS: (200, POLICY, said)})
    assert found == ["it is a client of https://elsewhere.example"]
