"""What Canaille is given of its clients: records from the plan, and hashes of their secrets."""

from __future__ import annotations

import json
import subprocess
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from tests.debian import BASE, part, plan

if TYPE_CHECKING:
    from pathlib import Path

SCRIPT = BASE / "services/canaille/rootfs/usr/lib/rave/canaille-clients"


@pytest.mark.parametrize("profile", ["development", "production"])
def test_every_client_of_the_plan_has_a_site_a_secret_and_paths(profile: str) -> None:
    own = plan(profile)
    files = part("canaille").files(own)
    told = json.loads(files["etc/rave/clients.json"])
    assert told["site"] == "auth"
    clients = told["clients"]
    assert {client["id"] for client in clients} >= {"rave-smoke"}
    lines = dict(line.split() for line in files["etc/rave/client-secrets"].splitlines())
    for client in clients:
        service = own["services"][client["service"]]
        assert client["secret"] in service["secrets"]
        assert own["secrets"][client["secret"]]["proof"] == "canaille"
        assert "canaille.service" in own["secrets"][client["secret"]]["refresh"]
        # The portal is at the origin itself.
        assert client["site"] or client["service"] == "portal"
        assert all(path.startswith("/") for path in client["redirects"])
        assert lines[client["id"]] == f"/run/secrets/{client['secret']}"
    sites = [service["site"] for service in own["services"].values() if service["site"]]
    assert len(sites) == len(set(sites))


def test_a_secret_that_is_there_becomes_a_hash_and_one_that_is_not_nothing(
    tmp_path: Path,
) -> None:
    secret, run = tmp_path / "secret", tmp_path / "run"
    secret.write_text("s" * 64)
    run.mkdir()
    (tmp_path / "auth.sh").write_text(
        f"set -eu\numask 027\nrun={run}\nprepare() {{ : >$run/$1; }}\n"
    )
    (tmp_path / "list").write_text(f"wiki {secret}\nforge {tmp_path}/absent\n")
    text = SCRIPT.read_text().replace("/usr/lib/rave/auth.sh", str(tmp_path / "auth.sh"))
    script = tmp_path / "script"
    script.write_text(text.replace("/etc/rave/client-secrets", str(tmp_path / "list")))
    for _ in range(2):
        subprocess.run(["/bin/sh", script], check=True)
        assert (run / "clients").read_text() == f"wiki {sha256(b's' * 64).hexdigest()}\n"
    assert SCRIPT.stat().st_mode & 0o100
