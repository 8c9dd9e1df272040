"""Secrets in the running machine: rotated, repaired, refused, and never half installed."""

from __future__ import annotations

import signal
import subprocess
import time
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.errors import ExitCode

if TYPE_CHECKING:
    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SERVICES = {"postgresql:prometheus", "postgresql:grafana", "redis", "nats"}


def install(site: Site) -> Any:
    return site.json("secrets", "install", "demo")


@pytest.fixture(scope="module")
def names(site: Site) -> list[str]:
    """The names of the secrets, which are in force: each test leaves them so."""
    return [placed["name"] for placed in install(site)["secrets"]]


def guest(site: Site, *words: str, check: bool = True) -> str:
    return site.rave("vm", "exec", "demo", "--", *words, check=check).stdout


@pytest.mark.usefixtures("names")
def test_installing_again_changes_nothing(site: Site) -> None:
    before = guest(site, "sudo", "stat", "-c", "%n %y", "/run/secrets", "/var/lib/rave/secrets")
    report = install(site)
    assert (report["changed"], report["refreshed"]) == ([], [])
    assert {proof["service"] for proof in report["proofs"]} == SERVICES
    after = guest(site, "sudo", "stat", "-c", "%n %y", "/run/secrets", "/var/lib/rave/secrets")
    assert after == before


def test_after_a_rotation_every_previous_value_is_refused(site: Site, names: list[str]) -> None:
    site.rave("secrets", "rotate", *names)
    report = install(site)
    assert report["changed"] == sorted(names)
    refused = {proof["service"]: proof["refused"] for proof in report["proofs"]}
    assert set(refused) == SERVICES
    assert all("previous" in values for values in refused.values())


@pytest.mark.usefixtures("names")
def test_redis_refuses_what_has_no_password(site: Site) -> None:
    assert "NOAUTH" in guest(site, "redis-cli", "set", "x", "1", check=False)


@pytest.mark.usefixtures("names")
def test_a_password_changed_by_hand_is_put_right(site: Site) -> None:
    by_hand = "alter role grafana password 'changed-by-hand'"
    guest(site, "sudo", "-u", "postgres", "psql", "-Xqc", by_hand)
    report = install(site)
    assert report["changed"] == []
    assert "postgres-set-grafana-password.service" in report["refreshed"]
    assert install(site)["refreshed"] == []


@pytest.mark.parametrize("after", [0.5, 2.0, 4.0])
def test_kill_9_during_an_installation(site: Site, after: float) -> None:
    site.rave("secrets", "rotate", "redis/password", "grafana/db-password")
    child = subprocess.Popen(
        [site.rave_path, "secrets", "install", "demo"], cwd=site.checkout, env=site.env,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    time.sleep(after)
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert retried(site)
    assert install(site)["changed"] == []


def retried(site: Site) -> bool:
    """Install once the guest has done with the installation whose command was killed. Until then
    that has rave's own way in; over SSH a guest of a busy host may not answer in time.
    """
    for _ in range(20):
        done = site.rave("secrets", "install", "demo", check=False)
        if done.returncode == 0:
            return True
        assert "another installation" in done.stderr or done.returncode == ExitCode.NOT_READY
        time.sleep(1)
    return False


@pytest.mark.usefixtures("names")
def test_a_refused_file_does_not_reach_the_machine(site: Site) -> None:
    file = site.home / ".config/rave/secrets.sops.yaml"
    before, inside = file.read_text(), guest(site, "readlink", "/run/secrets")
    try:
        file.write_text(before.replace('lastmodified: "20', 'lastmodified: "19'))
        done = site.rave("secrets", "install", "demo", check=False)
        assert done.returncode == 6
        assert "hint:" in done.stderr
    finally:
        file.write_text(before)
    assert guest(site, "readlink", "/run/secrets") == inside


@pytest.mark.usefixtures("names")
def test_secrets_are_in_no_process_list_and_no_journal(site: Site) -> None:
    """The values of this machine, looked for by root in the guest itself."""
    names = "database/prometheus-password grafana/db-password nats/password redis/password"
    search = (
        "journalctl -b -o cat >/run/all; cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ >>/run/all;"
        f" for name in {names}; do grep -caF -f /run/secrets/$name /run/all; done; rm /run/all"
    )
    found = guest(site, "sudo", "sh", "-c", search)
    assert found.split() == ["0"] * 4


@pytest.mark.usefixtures("names")
def test_the_disks_alone_open_nothing(site: Site) -> None:
    """What is encrypted lies on them; what opens that, or is the machine itself, does not."""
    guest(site, "sudo", "sync")
    machine = site.home / ".local/share/rave/vms/demo"
    disk = b"".join((machine / name).read_bytes() for name in ("disk.qcow2", "data.qcow2"))
    own = (machine / "identity/age.key").read_text().splitlines()[-1]
    host_key = (machine / "identity/ssh_host_ed25519_key").read_text().splitlines()[2]
    assert own.startswith("AGE-SECRET-KEY-1")
    assert b"ENC[AES256_GCM,data:" in disk, "the search would find nothing whatever there was"
    assert own.encode() not in disk
    assert host_key.encode() not in disk
    # Beside them lies only whose they are, so that a clone drops them.
    kept = guest(site, "sudo", "ls", "/var/lib/rave/secrets").split()
    assert kept == ["instance", "secrets.sops.yaml"]
