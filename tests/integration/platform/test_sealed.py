"""rave's own services as the guest runs them: each from its locked set, with nothing else."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from tests import sets
from tests.integration.platform.homeserver import chat
from tests.integration.platform.services import SOURCE
from tests.waiting import CEILING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.platform.conftest import MakePlatform
    from tests.integration.platform.services import Platform

pytestmark = pytest.mark.integration


def sealed(service: str, place: Path) -> list[str]:
    """Fill a service's set, and return what runs a program of it."""
    sets.fill(service, place)
    shutil.copytree(SOURCE / "rave_platform", place / "rave_platform")
    return [sys.executable, "-IS", str(place)]


def test_the_locked_set_takes_webhooks_and_shows_its_events(
    make_platform: MakePlatform, tmp_path: Path
) -> None:
    run = sealed("webhook-dispatcher", tmp_path / "set")
    found: Platform = make_platform()
    settings = found.dispatcher.argv[-1]
    found.dispatcher.argv = [*run, "rave_platform.dispatcher", settings]
    found.nats.start()
    found.dispatcher.start()
    with httpx.Client(timeout=60) as client:
        assert found.post(client, 1).status_code == 202
    found.settle()
    argv = [*run, "rave_platform.events", settings, "list", "--state", "published"]
    done = subprocess.run(argv, capture_output=True, check=True, timeout=CEILING)
    assert [event["event_uuid"] for event in json.loads(done.stdout)] == [found.acknowledged[1]]


def test_the_locked_set_of_the_chat_bridge_serves_though_there_is_no_chat_yet(
    tmp_path: Path,
) -> None:
    found = chat(tmp_path, lambda _: ["true"])
    found.allow()
    settings = found.bridge.argv[-1]
    found.bridge.argv = [
        *sealed("chat-bridge", tmp_path / "set"), "rave_platform.bridge", settings,
    ]  # fmt: skip
    try:
        found.bridge.start()
        health = found.health()
    finally:
        found.close()
    assert (health["undecided"], health["chat"]) == (0, "not-connected")
