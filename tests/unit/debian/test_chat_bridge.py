"""The chat bridge on the Debian base: what its unit, Synapse and Canaille are told of it agrees."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from rave_guest import commanding
from rave_platform.adapters.chat import matrix, settings
from rave_platform.domain.chat.commands import Verb
from rave_platform.domain.handover import RETENTION_DAYS
from tests.debian import BASE, plan, rendered

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "chat-bridge"
FOLDER = BASE / "services" / SERVICE
CONFIGURE = (FOLDER / "configure").read_text()
UNIT = f"etc/systemd/system/{SERVICE}.service"
HOMESERVER = f"etc/systemd/system/matrix-synapse.service.d/40-{SERVICE}.conf"
REQUIREMENTS = BASE.parents[1] / "requirements/platform.txt"
PROFILES = ("development", "production")


def read(tmp_path: Path, profile: str, mode: str = "safe") -> settings.BridgeSettings:
    text = rendered(profile)[f"etc/rave/{SERVICE}/safe.toml"]
    # `configure` makes the other file of this one.
    assert text.count('\nmode = "safe"\n') == 1
    assert """sed 's/^mode = "safe"$/mode = "full"/' safe.toml >full.toml""" in CONFIGURE
    place = tmp_path / f"{mode}.toml"
    place.write_text(text.replace('mode = "safe"', f'mode = "{mode}"'))
    place.chmod(0o644)
    return settings.read(place)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("mode", ["safe", "full"])
def test_the_bridge_takes_its_settings(tmp_path: Path, profile: str, mode: str) -> None:
    found, own = read(tmp_path, profile, mode), plan(profile)
    assert found.retention_days == RETENTION_DAYS[mode] == own["facts"]["journal"]["days"][mode]
    assert found.port == own["services"][SERVICE]["ports"][0]["port"]
    assert found.nats.user == own["facts"]["nats"]["user"]
    assert str(found.store).startswith(f"/var/lib/{SERVICE}/")
    assert f"ReadWritePaths=/var/lib/{SERVICE}\n" in rendered(profile)[UNIT]
    assert f"/etc/rave/{SERVICE}/${{MODE}}.toml\n" in rendered(profile)[UNIT]


def test_who_may_approve_may_everything_and_the_smoke_suite_changes_nothing(
    tmp_path: Path,
) -> None:
    permitted = read(tmp_path, "development").permissions
    assert permitted["leads"] == frozenset(Verb)
    assert permitted["developers"] < permitted["leads"]
    assert permitted[commanding.GROUP] == {Verb.HELP, Verb.STATUS, Verb.AGENTS}


def test_each_secret_of_its_record_is_a_credential_that_the_settings_name(tmp_path: Path) -> None:
    found, own = read(tmp_path, "development"), plan("development")
    assert found.matrix is not None
    named = {str(found.nats.password_file), str(found.matrix.as_token_file),
             str(found.matrix.hs_token_file)}  # fmt: skip
    files = rendered("development")
    given = dict(re.findall(r"^LoadCredential=(.+):(.+)$", files[UNIT], re.MULTILINE))
    assert given.keys() == named
    (listed,) = re.findall(r"^for secret in (.+); do$", CONFIGURE, re.MULTILINE)
    assert sorted(listed.split()) == sorted(own["services"][SERVICE]["secrets"])
    stored = {f"{SERVICE}.{secret.rpartition('/')[2]}" for secret in listed.split()}
    assert set(given.values()) == stored
    # The homeserver is given the two of them by which each knows the other.
    theirs = dict(re.findall(r"^LoadCredential=(.+):(.+)$", files[HOMESERVER], re.MULTILINE))
    assert theirs == {
        f"{SERVICE}-{name}": given[name] for name in ("as-token", "hs-token")
    }  # fmt: skip
    for secret in ("chat-bridge/as-token", "chat-bridge/hs-token"):
        refreshed = own["secrets"][secret]["refresh"]
        assert refreshed == ["matrix-synapse.service", "chat-bridge.service"]


def test_the_homeserver_knows_it_as_it_knows_itself(tmp_path: Path) -> None:
    found, files = read(tmp_path, "development"), rendered("development")
    assert found.matrix is not None
    told = yaml.safe_load(files[f"etc/rave/matrix/services/{SERVICE}.yaml"])
    assert told["id"] == found.matrix.service
    assert told["url"] == f"http://{found.host}:{found.port}"
    assert told["sender_localpart"] == commanding.BRIDGE
    assert not told["rate_limited"]
    (aliases,) = told["namespaces"]["aliases"]
    assert aliases["exclusive"]
    for name in found.matrix.own_rooms:
        assert re.fullmatch(aliases["regex"], f"#{name}:rave.localhost")
    assert commanding.ROOM in found.matrix.own_rooms
    assert commanding.KEY == matrix.KEY


def test_it_alone_may_ask_canaille_for_groups(tmp_path: Path) -> None:
    socket = rendered("development")["etc/systemd/system/canaille-groups.socket"]
    lines = set(socket.splitlines())
    assert f"ListenStream={read(tmp_path, 'development').groups_socket}" in lines
    assert {"SocketUser=root", f"SocketGroup={SERVICE}", "SocketMode=0660"} <= lines
    assert {"Service=canaille.service", "FileDescriptorName=groups"} <= lines
    assert f"User={SERVICE}\n" in rendered("development")[UNIT]


def test_the_set_is_what_the_tests_run_with() -> None:
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+) ", REQUIREMENTS.read_text(), re.MULTILINE))
    for profile in PROFILES:
        lock: dict[str, Any] = json.loads((BASE / "locks" / f"{profile}.json").read_text())
        found = {
            file["name"]: file["version"]
            for file in lock["files"]
            if file.get("service") == SERVICE
        }
        assert found == locked, profile


def test_demo_has_nothing_of_it() -> None:
    assert not [path for path in rendered("demo") if SERVICE in path or "groups" in path]
    assert "CommandsWait" not in str(plan("demo"))
