"""The agents on the Debian base: units, settings, records and forge are told the same."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest.services import agents, pagure
from rave_platform.adapters.agents import settings
from rave_platform.adapters.agents.figures import AgentFigures
from rave_platform.adapters.agents.template import TemplateRunner
from rave_platform.application.agents import beating
from rave_platform.domain.handover import RETENTION_DAYS
from rave_platform.domain.tasks import AgentKind
from tests.debian import BASE, part, plan, rendered

if TYPE_CHECKING:
    from pathlib import Path

    from rave_platform.adapters.agents.settings import AgentSettings

FOLDER = BASE / "services/agents"
CONFIGURE = (FOLDER / "configure").read_text()
UNIT = "etc/systemd/system/rave-agent@.service"
REQUIREMENTS = BASE.parents[1] / "requirements/platform.txt"
PROFILES = ("development", "production")
# What a framework for the web and the library of metrics would bring; the agents have neither.
LEFT_OUT = {"prometheus-client", "starlette", "uvicorn", "click"}


def read(tmp_path: Path, profile: str, mode: str = "safe") -> AgentSettings:
    text = rendered(profile)["etc/rave/agents/safe.toml"]
    # `configure` makes the other file of this one.
    assert text.count('\nmode = "safe"\n') == 1
    assert """sed 's/^mode = "safe"$/mode = "full"/' safe.toml >full.toml""" in CONFIGURE
    place = tmp_path / f"{mode}.toml"
    place.write_text(text.replace('mode = "safe"', f'mode = "{mode}"'))
    place.chmod(0o644)
    return settings.read(place)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", ["safe", "full"])
def test_the_agents_take_their_settings(tmp_path: Path, profile: str, mode: str) -> None:
    found, own = read(tmp_path, profile, mode), plan(profile)
    record = own["services"]["agents"]
    assert found.retention_days == RETENTION_DAYS[mode]
    assert {port["name"]: port["port"] for port in record["ports"]} == found.ports
    assert set(found.ports) == set(AgentKind)
    assert found.nats.user == own["facts"]["nats"]["user"]
    assert isinstance(settings.runner(found), TemplateRunner)
    assert str(found.state) == record["state"]["path"]
    unit = rendered(profile)[UNIT]
    assert f"ReadWritePaths={found.state}\n" in unit
    assert "/etc/rave/agents/${MODE}.toml %i\n" in unit
    # One program leaves room for its agent.
    assert found.limits.memory_mib < record["memory"][mode]


def test_there_is_a_unit_for_each_kind_and_its_answers_are_asked_for() -> None:
    record = plan("development")["services"]["agents"]
    assert record["units"] == [f"rave-agent@{kind}.service" for kind in sorted(AgentKind)]
    ports = {port["port"] for port in record["ports"]}
    scraped = {record["scrape"]["port"], *record["scrape"]["also"]}
    asked = {int(re.findall(r":(\d+)/healthz", check["url"])[0]) for check in record["checks"]}
    assert scraped == asked == ports
    config = json.loads(rendered("development")["etc/rave/prometheus/prometheus.yml"])
    (job,) = (one for one in config["scrape_configs"] if one["job_name"] == "agents")
    assert job["static_configs"] == [
        {
            "targets": [f"127.0.0.1:{port}" for port in sorted(ports)],
            "labels": {"service": "agents"},
        }
    ]


def test_all_of_them_together_have_the_cap() -> None:
    files, record = rendered("development"), plan("development")["services"]["agents"]
    slice_ = part("agents").SLICE
    assert f"Slice={slice_}\n" in files[UNIT]
    assert f"MemoryMax={record['memory']['safe']}M\n" in files[f"etc/systemd/system/{slice_}"]
    full = files[f"usr/lib/rave/modes/full/{slice_}.d/60-limits.conf"]
    assert f"MemoryMax={record['memory']['full']}M\n" in full
    # What the mode in force says is put there by the generator.
    generator = (BASE / "rootfs/etc/systemd/system-generators/rave").read_text()
    assert "/usr/lib/rave/modes/full/*.slice.d" in generator


def test_each_secret_is_a_credential_and_they_wait_for_the_forges(tmp_path: Path) -> None:
    found, own = read(tmp_path, "development"), plan("development")
    assert found.forge.pagure is not None
    named = {str(found.nats.password_file), str(found.forge.pagure.token_file)}
    given = dict(
        re.findall(r"^LoadCredential=(.+):(.+)$", rendered("development")[UNIT], re.MULTILINE)
    )
    assert given.keys() == named
    stored = dict(re.findall(r"ln -s /run/secrets/(\S+) /etc/credstore/(\S+)", CONFIGURE))
    assert set(stored.values()) == set(given.values())
    assert set(stored) == {"nats/password", pagure.TOKEN}
    for secret in stored:
        assert set(own["services"]["agents"]["units"]) <= set(own["secrets"][secret]["refresh"])
    assert f"ConditionPathExists=/run/secrets/{pagure.TOKEN}\n" in rendered("development")[UNIT]


def test_its_account_is_the_one_that_pagure_makes(tmp_path: Path) -> None:
    place = BASE / "services/pagure/rootfs/usr/lib/rave/forge/rave_forge/accounts.py"
    (account,) = re.findall(r'^NAME = "(\w+)"$', place.read_text(), re.MULTILINE)
    forge = read(tmp_path, "development").forge.pagure
    assert forge is not None
    assert forge.user == pagure.USER == account


def test_a_sign_of_life_comes_long_before_anybody_misses_it() -> None:
    (watchdog,) = re.findall(r"^WatchdogSec=(\d+)$", rendered("development")[UNIT], re.MULTILINE)
    assert float(watchdog) >= 3 * beating.EVERY
    rules = plan("development")["facts"]["alerts"]
    (alert,) = (rule for rule in rules if rule["alert"] == "AgentSilent")
    (longest,) = re.findall(r"> (\d+)$", alert["expr"])
    assert float(longest) == agents.LONGEST > beating.EVERY
    page = AgentFigures(AgentKind.AI_ENGINEER).page(stream=True, waiting=0, unfinished=0)
    assert agents.silence(page.decode()) is not None
    assert alert["expr"].startswith(f"{agents.SILENT} ")
    # Prometheus asks every 8 s: the alert is there within 30 s of the last sign of life.
    interval = plan("development")["services"]["agents"]["scrape"]["interval"]
    assert float(longest) + float(interval.removesuffix("s")) <= 30
    assert "AgentSilent" not in str(plan("demo"))


def test_the_set_is_what_the_tests_run_with() -> None:
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+) ", REQUIREMENTS.read_text(), re.MULTILINE))
    for profile in PROFILES:
        lock: dict[str, Any] = json.loads((BASE / "locks" / f"{profile}.json").read_text())
        found = {
            file["name"]: file["version"]
            for file in lock["files"]
            if file.get("service") == "agents"
        }
        assert found == {name: v for name, v in locked.items() if name not in LEFT_OUT}, profile


def test_demo_has_nothing_of_it() -> None:
    assert not [path for path in rendered("demo") if "agent" in path]
