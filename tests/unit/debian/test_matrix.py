"""Synapse on the Debian base: what it is told of its machine, and what its settings name."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from tests.debian import BASE, plan, rendered

if TYPE_CHECKING:
    from pathlib import Path

CONFIGURE = BASE / "services/matrix/rootfs/usr/lib/rave/matrix-configure"
UNIT = "etc/systemd/system/matrix-synapse.service"
SETTINGS = "etc/rave/matrix/homeserver.yaml"
ADDRESSES = "etc/rave/matrix/origin.yaml"


@pytest.fixture(params=["development", "production"])
def profile(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def configured(place: Path, origin: str | None) -> dict[str, str]:
    """Return what Synapse is told, by name, on a machine of this origin."""
    told = place / "origin"
    told.unlink(missing_ok=True)
    if origin is not None:
        told.write_text(f"{origin}\n")
    template = place / "template.yaml"
    template.write_text(rendered("development")[ADDRESSES])
    env = {
        "STATE_DIRECTORY": str(place),
        "RUNTIME_DIRECTORY": str(place),
        "PATH": os.environ["PATH"],
    }
    services = place / "services"
    services.mkdir(exist_ok=True)
    (services / "wiki.yaml").write_text("id: wiki\n")
    env["CREDENTIALS_DIRECTORY"] = str(place / "credentials")
    subprocess.run([str(CONFIGURE), str(told), str(template), str(services)], env=env, check=True)
    lines = re.findall(r"^ *([a-z_]+): (\S+)$", (place / "origin.yaml").read_text(), re.MULTILINE)
    return dict(lines)


def test_it_does_not_look_for_other_servers_after_each_message(profile: str) -> None:
    told = rendered(profile)[SETTINGS].splitlines()
    assert "send_federation: false" in told
    assert "federation_domain_whitelist: []" in told


def test_nginx_closes_a_connection_before_synapse_does(profile: str) -> None:
    text = rendered(profile)["etc/nginx/sites/matrix.conf"]
    (kept,) = re.findall(r"keepalive_timeout (\d+)s;", text)
    # Twisted's own (twisted.web.http, HTTPFactory).
    assert int(kept) < 60
    assert 'proxy_set_header Connection "";' in text


def test_addresses_follow_from_the_public_origin(tmp_path: Path) -> None:
    found = configured(tmp_path, "https://team.example.org:8443")
    assert found["server_name"] == "team.example.org"
    assert found["public_baseurl"] == "https://matrix.team.example.org:8443/"
    assert found["issuer"] == "https://auth.team.example.org:8443"
    assert found["authorization_endpoint"] == "https://auth.team.example.org:8443/oauth/authorize"
    assert found["token_endpoint"] == "http://127.0.0.1:3040/oauth/token"
    assert "{" not in "".join(found.values())
    assert found["app_service_config_files"] == "[]"


def test_the_servers_name_is_that_of_its_first_start(tmp_path: Path) -> None:
    configured(tmp_path, "https://rave.localhost:20001")
    found = configured(tmp_path, "https://team.example.org")
    assert found["server_name"] == "rave.localhost"
    assert found["public_baseurl"] == "https://matrix.team.example.org/"


def test_a_name_of_which_nothing_was_written_is_made_anew(tmp_path: Path) -> None:
    """The machine lost its power between the two."""
    (tmp_path / "server-name").write_text("")
    assert configured(tmp_path, "https://team.example.org")["server_name"] == "team.example.org"


def test_without_an_origin_it_has_the_name_that_nginx_has(tmp_path: Path) -> None:
    assert configured(tmp_path, None)["server_name"] == "rave.localhost"


@pytest.mark.parametrize(
    ("given", "registered"),
    [
        ({}, False),
        ({"as-token": "0123"}, False),
        ({"as-token": "0123", "hs-token": "45e6\n"}, True),
        ({"as-token": "0123", "hs-token": ""}, False),
        ({"as-token": "0123", "hs-token": '45"\nurl: x'}, False),
    ],
)
def test_a_service_whose_tokens_are_there_is_registered_with_them(
    tmp_path: Path, given: dict[str, str], registered: bool
) -> None:
    (tmp_path / "credentials").mkdir()
    for name, token in given.items():
        (tmp_path / "credentials" / f"wiki-{name}").write_text(token)
    found = configured(tmp_path, None)["app_service_config_files"]
    assert found == (f"[{tmp_path}/wiki.yaml]" if registered else "[]")
    if registered:
        text = (tmp_path / "wiki.yaml").read_text()
        assert text == 'id: wiki\nas_token: "0123"\nhs_token: "45e6"\n'


def test_it_reads_the_secrets_of_its_record_and_may(profile: str) -> None:
    files, own = rendered(profile), plan(profile)
    named = set(re.findall(r"/run/secrets/(\S+)", files[SETTINGS] + files[ADDRESSES]))
    assert named == set(own["services"]["matrix"]["secrets"])
    assert {own["secrets"][name]["owner"] for name in named} == {"matrix-synapse"}
    assert "\nUser=matrix-synapse\n" in files[UNIT]
    assert all("matrix-synapse.service" in own["secrets"][name]["refresh"] for name in named)


def test_it_waits_for_secrets_as_its_record_says(profile: str) -> None:
    record = plan(profile)["services"]["matrix"]
    assert record["waits"]
    (awaited,) = re.findall(
        r"^ConditionPathExists=/run/secrets/(\S+)$", rendered(profile)[UNIT], re.MULTILINE
    )
    assert awaited in record["secrets"]
    waiting = [name for name, one in plan(profile)["services"].items() if one["waits"]]
    wanted = ["agents", "chat-bridge", "docker-registry", "matrix", "pagure", "pagure-worker"]
    assert waiting == wanted


def test_it_is_a_client_of_whoever_keeps_the_accounts(profile: str) -> None:
    own, files = plan(profile), rendered(profile)
    record = own["services"]["matrix"]
    client = record["oidcClient"]
    assert f"client_id: {client['id']}\n" in files[ADDRESSES]
    assert f"client_secret_path: /run/secrets/{client['secret']}\n" in files[ADDRESSES]
    assert f"scopes: [{', '.join(client['scopes'])}]\n" in files[ADDRESSES]
    assert own["secrets"][client["secret"]]["proof"] == "canaille"
    (provider,) = [one["site"] for one in own["services"].values() if "oidc" in one["provides"]]
    assert f"issuer: {{scheme}}://{provider}.{{place}}\n" in files[ADDRESSES]
    assert f"public_baseurl: {{scheme}}://{record['site']}.{{place}}/\n" in files[ADDRESSES]


def test_it_is_told_of_sessions_that_have_ended_where_it_listens(profile: str) -> None:
    record = plan(profile)["services"]["matrix"]
    (client,) = [one["port"] for one in record["ports"] if one["name"] == "client"]
    path = "/_synapse/client/oidc/backchannel_logout"
    assert record["oidcClient"]["logout"] == f"http://127.0.0.1:{client}{path}"
    assert "backchannel_logout_enabled: true\n" in rendered(profile)[ADDRESSES]


def test_its_account_comes_in_over_the_socket_as_its_role(profile: str) -> None:
    files = rendered(profile)
    entries = dict(
        line.split()[1:] for line in files["etc/rave/postgresql/pg_ident.conf"].splitlines()
        if not line.startswith("#")
    )  # fmt: skip
    assert entries["matrix-synapse"] == "synapse"
    assert entries["canaille"] == "canaille"
    assert (entries["root"], entries["postgres"]) == ("postgres", "postgres")
    assert "user: synapse, dbname: synapse," in files[SETTINGS]
    access = files["etc/rave/postgresql/pg_hba.conf"]
    local: list[Any] = re.findall(r"^local .+$", access, re.MULTILINE)
    assert all(line.endswith("peer map=rave") for line in local)


def test_clients_alone_are_served_and_administration_stays_inside(profile: str) -> None:
    files = rendered(profile)
    resources = re.findall(r"resources: (.+)$", files[SETTINGS], re.MULTILINE)
    assert resources == ["[{names: [client], compress: false}]"]
    (served,) = re.findall(r"location ~ (\S+) \{", files["etc/nginx/sites/matrix.conf"])
    for path in (
        "/",
        "/_matrix/client/versions",
        "/_synapse/client/oidc/callback",
        "/.well-known/matrix/client",
    ):
        assert re.search(served, path), path
    for path in (
        "/_synapse/admin/v1/users",
        "/_synapse/metrics",
        "/health",
        "/_synapse/",
        "/index",
    ):
        assert not re.search(served, path), path
