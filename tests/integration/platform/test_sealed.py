"""The dispatcher as the guest runs it: from its locked set, with nothing else that Python has."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import httpx
import pytest

from tests import sets
from tests.integration.platform.services import SOURCE
from tests.waiting import CEILING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.integration.platform.conftest import MakePlatform
    from tests.integration.platform.services import Platform

pytestmark = pytest.mark.integration

SERVICE = "webhook-dispatcher"


def test_the_locked_set_takes_webhooks_and_shows_its_events(
    make_platform: MakePlatform, tmp_path: Path
) -> None:
    place = tmp_path / "set"
    sets.fill(SERVICE, place)
    shutil.copytree(SOURCE / "rave_platform", place / "rave_platform")
    run = [sys.executable, "-IS", str(place)]
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
