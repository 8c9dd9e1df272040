"""The webhook dispatcher on the Debian base: what its unit is given is what its settings name."""

from __future__ import annotations

import hashlib
import hmac
import json
import re
import tomllib
from typing import TYPE_CHECKING, Any

import pytest

from rave_platform.adapters import settings
from rave_platform.domain import signatures
from rave_platform.domain.handover import RETENTION_DAYS
from tests.debian import BASE, plan, rendered

if TYPE_CHECKING:
    from pathlib import Path

SERVICE = "webhook-dispatcher"
CONFIGURE = (BASE / "services" / SERVICE / "configure").read_text()
UNIT = f"etc/systemd/system/{SERVICE}.service"
REQUIREMENTS = BASE.parents[1] / "requirements/platform.txt"
PROFILES = ("development", "production")


def read(tmp_path: Path, profile: str, mode: str) -> settings.DispatcherSettings:
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
def test_the_dispatcher_takes_its_settings(tmp_path: Path, profile: str, mode: str) -> None:
    found, own = read(tmp_path, profile, mode), plan(profile)
    assert found.retention_days == RETENTION_DAYS[mode] == own["facts"]["journal"]["days"][mode]
    assert found.port == own["services"][SERVICE]["ports"][0]["port"]
    assert found.nats.user == own["facts"]["nats"]["user"]
    assert str(found.store).startswith(f"/var/lib/{SERVICE}/")
    assert f"ReadWritePaths=/var/lib/{SERVICE}\n" in rendered(profile)[UNIT]


def test_each_secret_of_its_record_is_a_credential_that_the_settings_name(tmp_path: Path) -> None:
    found, own = read(tmp_path, "development", "safe"), plan("development")
    named = {
        str(place)
        for source in found.sources.values()
        for place in (*source.secret_files, *source.project_key_files)
    }
    named.add(str(found.nats.password_file))
    given = re.findall(r"^LoadCredential=(.+):(.+)$", rendered("development")[UNIT], re.MULTILINE)
    assert sorted(given) == sorted((name, f"{SERVICE}.{name}") for name in named)
    (listed,) = re.findall(r"^for secret in (.+); do$", CONFIGURE, re.MULTILINE)
    assert sorted(listed.split()) == sorted(own["services"][SERVICE]["secrets"])
    assert {secret.replace("/", "-") for secret in listed.split()} == named
    assert {own["secrets"][secret]["path"] for secret in listed.split()} == {
        f"/run/secrets/{secret}" for secret in listed.split()
    }


def test_a_secret_that_changes_restarts_it() -> None:
    own = plan("development")
    for name in own["services"][SERVICE]["secrets"]:
        assert f"{SERVICE}.service" in own["secrets"][name]["refresh"], name
    assert plan("demo")["secrets"]["nats/password"]["refresh"] == ["nats-server.service"]


@pytest.mark.parametrize(
    ("secret", "source"),
    [("whsec_" + "a2V5" * 8, "gitlab"), ("0123456789abcdef" * 4, "github"),
     ("0123456789abcdef" * 4, "forgejo"), ("0123456789abcdef" * 4, "pagure")],
)  # fmt: skip
def test_a_source_is_there_once_its_secret_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, secret: str, source: str
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
    (tmp_path / "credentials").mkdir()
    found = read(tmp_path, "development", "safe")

    def there() -> dict[str, bool]:
        sources = settings.webhook_sources(found)
        return {known.name: known.scheme is not None for known in sources}

    assert not any(there().values())
    own = found.sources[source]
    (name,) = (*own.secret_files, *own.project_key_files)
    place = tmp_path / "credentials" / name
    place.write_text(secret)
    place.chmod(0o400)
    assert there() == {known: known == source for known in found.sources}


@pytest.mark.parametrize("profile", PROFILES)
def test_what_happens_in_the_forge_comes_here_and_is_heard_in_the_chat(
    tmp_path: Path, profile: str
) -> None:
    found = read(tmp_path, profile, "safe")
    files = rendered(profile)
    agents = tomllib.loads(files["etc/rave/agents/safe.toml"])
    hook = agents["forge"]["pagure"]["hook"]
    address, _, source = hook.rpartition("/")
    assert address == f"http://127.0.0.1:{found.port}/webhooks"
    assert found.sources[source].project_key_files
    bridge = tomllib.loads(files["etc/rave/chat-bridge/safe.toml"])
    assert bridge["forge"]["source"] == source
    # Agents name projects as the forge does.
    assert "namespace" not in bridge["forge"]
    assert "namespace" not in agents["forge"]["pagure"]


def test_the_forge_and_the_dispatcher_come_to_the_same_key() -> None:
    text = (BASE / "services/pagure/rootfs/usr/lib/rave/forge/rave_forge/keys.py").read_text()
    (body,) = re.findall(r"^def key_of\(.*?(?=^def )", text, re.MULTILINE | re.DOTALL)
    (length,) = re.findall(r"^LENGTH = (\d+)", text, re.MULTILINE)
    names: dict[str, Any] = {"hashlib": hashlib, "hmac": hmac, "LENGTH": int(length)}
    exec(body, names)  # noqa: S102 - the rest of the module needs Pagure
    for project in ("shop", "team/shop"):
        key = signatures.project_key(b"0123456789abcdef" * 4, project)
        assert names["key_of"]("0123456789abcdef" * 4, project) == key.decode()


def test_the_mode_chooses_the_settings() -> None:
    files = rendered("development")
    assert f"/etc/rave/{SERVICE}/${{MODE}}.toml\n" in files[UNIT]
    assert "Environment=MODE=safe\n" in files[UNIT]
    full = files[f"usr/lib/rave/modes/full/{SERVICE}.service.d/70-mode.conf"]
    assert full == "[Service]\nEnvironment=MODE=full\n"


def test_nginx_hands_over_more_than_the_dispatcher_takes_and_bounds_how_often(
    tmp_path: Path,
) -> None:
    files = rendered("development")
    location = files["etc/nginx/locations/webhooks.conf"]
    found = read(tmp_path, "development", "safe")
    assert f"proxy_pass http://127.0.0.1:{found.port};" in location
    assert "client_max_body_size 1m;" in location
    assert found.body_limit_kib < 1024
    (zone,) = re.findall(r"limit_req zone=(\w+) ", location)
    assert f"zone={zone}:" in files["etc/nginx/conf.d/webhooks.conf"]
    assert {"locations", "conf.d"} <= set(
        re.findall(r"include /etc/nginx/([\w.]+)/\*\.conf;", files["etc/nginx/nginx.conf"])
    )


def test_the_set_is_what_the_tests_run_with() -> None:
    locked = dict(re.findall(r"^([\w-]+)==([\w.]+) ", REQUIREMENTS.read_text(), re.MULTILINE))
    for profile in PROFILES:
        # The chat bridge alone asks somebody over HTTP.
        asking = {"certifi", "httpcore", "httpx"}
        wanted = {name: version for name, version in locked.items() if name not in asking}
        assert _set(profile) == wanted, profile


def test_demo_has_nothing_of_it() -> None:
    assert not [path for path in rendered("demo") if "webhook" in path]
    assert "WebhooksWait" not in str(plan("demo"))
    assert SERVICE not in plan("demo")["services"]


def _set(profile: str) -> dict[str, str]:
    lock: dict[str, Any] = json.loads((BASE / "locks" / f"{profile}.json").read_text())
    return {
        file["name"]: file["version"] for file in lock["files"] if file.get("service") == SERVICE
    }
