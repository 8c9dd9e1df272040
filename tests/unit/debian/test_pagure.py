"""Pagure on the Debian base: its settings, its hooks, and what its units name."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.debian import BASE, plan, rendered

if TYPE_CHECKING:
    from pathlib import Path

if TYPE_CHECKING:
    from pathlib import Path

SETTINGS = "etc/rave/pagure/settings.cfg"
UNITS = ("pagure.service", "pagure-worker.service")
WEB = "etc/systemd/system/pagure.service"
ROOTFS = BASE / "services/pagure/rootfs"


def stored(configure: str) -> list[tuple[str, str]]:
    """Return each secret that is a credential, and under which name."""
    return re.findall(r"ln -s /run/secrets/(\S+) /etc/credstore/(\S+)", configure)


@pytest.fixture(params=["development", "production"])
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def settings(place: Path, origin: str | None) -> dict[str, Any]:
    """Return what Pagure is told on a machine of this origin, whose secrets are below `place`."""
    text = rendered("development")[SETTINGS].replace('"/run/', f'"{place}/run/')
    if origin is not None:
        (place / "run/rave").mkdir(parents=True, exist_ok=True)
        (place / "run/rave/origin").write_text(f"{origin}\n")
    found: dict[str, Any] = {}
    exec(compile(text, SETTINGS, "exec"), found)  # noqa: S102 - as Flask reads it
    return found


def test_addresses_follow_from_the_public_origin(tmp_path: Path) -> None:
    found = settings(tmp_path, "https://team.example.org:8443")
    assert found["APP_URL"] == found["GIT_URL_GIT"] == "https://forge.team.example.org:8443/"
    provider = found["RAVE_OIDC"]
    assert provider["issuer"] == "https://auth.team.example.org:8443"
    assert provider["authorize_url"] == "https://auth.team.example.org:8443/oauth/authorize"
    assert provider["access_token_url"] == "http://127.0.0.1:3040/oauth/token"


def test_without_an_origin_it_has_the_name_that_nginx_has(tmp_path: Path) -> None:
    assert settings(tmp_path, None)["APP_URL"] == "https://forge.rave.localhost/"


def test_a_hook_finds_the_credentials_of_its_service_where_its_environment_names_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for place, password in (("run/credentials/pagure.service", "web"), ("worker", "worker")):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "redis-password").write_text(f"{password}\n")
    monkeypatch.delenv("CREDENTIALS_DIRECTORY", raising=False)
    assert settings(tmp_path, None)["BROKER_URL"] == "redis://:web@127.0.0.1:6379/1"
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "worker"))
    assert settings(tmp_path, None)["BROKER_URL"] == "redis://:worker@127.0.0.1:6379/1"


def test_its_secrets_are_those_of_its_record(profile: str) -> None:
    record = plan(profile)["services"]["pagure"]
    text = rendered(profile)[SETTINGS]
    units = "".join(rendered(profile)[f"etc/systemd/system/{unit}"] for unit in UNITS)
    named = set(re.findall(r"/run/secrets/([a-z/-]+)", text + units))
    assert named <= set(record["secrets"])
    configure = (BASE / "services/pagure/configure").read_text()
    assert {"redis/password", "webhook/pagure-key"} <= set(record["secrets"])
    given = re.findall(r"^LoadCredential=(.+):(.+)$", rendered(profile)[WEB], re.MULTILINE)
    assert given == [(name.removeprefix("pagure."), name) for _, name in stored(configure)]
    assert {secret for secret, _ in stored(configure)} == {"redis/password", "webhook/pagure-key"}
    # Where Pagure's own settings look for it.
    assert all(f'/{name}")' in text for name, _ in given)
    assert plan(profile)["secrets"]["pagure/secret-key"]["owner"] == "pagure"


def test_it_is_a_client_of_single_sign_on_at_the_address_where_it_takes_people_in(
    profile: str,
) -> None:
    record = plan(profile)["services"]["pagure"]
    client = record["oidcClient"]
    source = (ROOTFS / "usr/lib/rave/forge/flask_oidc.py").read_text()
    assert [f'"{path}"' in source for path in client["redirects"]] == [True]
    assert " ".join(client["scopes"]) in source
    port = record["ports"][0]["port"]
    path = client["logout"].removeprefix(f"http://127.0.0.1:{port}")
    assert f'"{path}"' in (ROOTFS / "usr/lib/rave/forge/rave_forge/logout.py").read_text()
    # From outside nobody tells it whose sessions have ended.
    site = rendered(profile)[f"etc/nginx/sites/{record['site']}.conf"]
    assert re.search(r"location /rave/ \{\s+return 404;", site)
    assert path.startswith("/rave/")


def test_whoever_is_rave_in_the_forge_is_nobody_who_signs_in(profile: str) -> None:
    forge = ROOTFS / "usr/lib/rave/forge"
    account = (forge / "rave_forge/accounts.py").read_text()
    (name,) = re.findall(r'^NAME = "(\w+)"$', account, re.MULTILINE)
    assert f'RESERVED = {{"{name}"}}' in (forge / "flask_oidc.py").read_text()


def test_of_the_newer_release_pagure_alone_is_asked_for() -> None:
    text = (BASE / "archives.nix").read_text()
    assert re.findall(r"only = \[(.*)\];", text) == [' "pagure" ']


@pytest.mark.parametrize("hook", ["pre-receive", "post-receive"])
def test_the_hooks_of_its_repositories_are_the_systems(tmp_path: Path, hook: str) -> None:
    """Whatever a repository brings: git asks for the hooks where its own settings say."""
    where = (ROOTFS / "etc/rave/pagure/gitconfig").read_text()
    assert "hooksPath = /usr/lib/rave/forge/hooks" in where
    place = ROOTFS / "usr/lib/rave/forge/hooks" / hook
    assert place.resolve().name == "hook"
    assert os.access(place, os.X_OK)
    state = tmp_path / "pagure"
    config = (ROOTFS / "etc/gitconfig").read_text().replace("/var/lib/pagure/", f"{state}/")
    (tmp_path / "hooks").mkdir()
    ours = tmp_path / "ours"
    ours.write_text(where.replace("/usr/lib/rave/forge/hooks", str(tmp_path / "hooks")))
    (tmp_path / "gitconfig").write_text(config.replace("/etc/rave/pagure/gitconfig", str(ours)))
    env = {"PATH": os.environ["PATH"], "GIT_CONFIG_SYSTEM": str(tmp_path / "gitconfig"),
           "GIT_CONFIG_GLOBAL": "/dev/null"}  # fmt: skip
    for repository in (state / "a.git", tmp_path / "b.git"):
        subprocess.run(["git", "init", "-q", "--bare", repository], env=env, check=True)
    found = [
        subprocess.run(
            ["git", "-C", repository, "config", "core.hooksPath"],
            env=env, capture_output=True, text=True, check=False,
        ).stdout.strip()
        for repository in (state / "a.git", tmp_path / "b.git")
    ]  # fmt: skip
    assert found == [str(tmp_path / "hooks"), ""]
