"""Machines that are started from one template, with real guests: no two are each other's twin."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e.conftest import qemu_processes

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(1800)]

PROFILE = ("--profile", "demo", "--base", "debian")
# As many as are compared, each with each; the environment may ask for more.
CLONES = int(os.environ.get("RAVE_CLONES", "4"))

# What is each machine's own, by name, as one line of a shell in it.
OWN = {
    "uuid": "cat /proc/sys/kernel/random/uuid",
    "getrandom": "python3 -c 'import os; print(os.getrandom(16).hex())'",
    "openssl": "openssl rand -hex 16",
    "machine-id": "cat /etc/machine-id",
    "hostname": "hostname",
    "mac": "cat /sys/class/net/eth0/address",
    "instance": "cat /run/rave/instance-id",
    "host key": "ssh-keygen -y -f /run/credentials/@system/rave.ssh-host-key",
    "login key": "cat /run/rave/ssh/authorized_keys",
    "age identity": "cat /run/credentials/@system/rave.age-key",
    "tls key": "sha256sum </run/rave/tls/current.key",
    "exporter's word": "grep PASSWORD /run/rave/redis/exporter.env",
    "journal": "ls -d /var/log/journal/$(cat /etc/machine-id)",
}
SCRIPT = "; ".join(f'printf \'%s\\t%s\\n\' "{name}" "$({word})"' for name, word in OWN.items())


def own(site: Site, name: str) -> dict[str, str]:
    said = site.rave("vm", "exec", "--sudo", name, "--", "sh", "-c", SCRIPT).stdout
    return dict(line.split("\t", 1) for line in said.splitlines())


def launch(site: Site, name: str) -> Any:
    return site.json("vm", "launch-local", *PROFILE, "--name", name, "--warm")


@pytest.fixture(scope="module")
def template(site: Site) -> Iterator[Any]:
    """A template, and no machine but those of a test."""
    site.rave("vm", "stop", "demo", check=False)
    yield site.json("vm", "template", "create", *PROFILE)
    for document in site.json("vm", "list"):
        if document["name"].startswith("twin"):
            site.rave("vm", "delete", document["name"], "--force")
    for document in site.json("vm", "template", "list"):
        site.rave("vm", "template", "delete", document["name"])


def test_no_two_share_what_is_a_machines_own(site: Site, template: Any) -> None:
    names = [f"twin{number}" for number in range(CLONES)]
    ready = [launch(site, name) for name in names]
    assert {document["origin"] for document in ready} == {"template"}
    # Its clock is the host's, however long the template has lain.
    asked = time.time()
    said = site.rave("vm", "exec", names[-1], "--", "date", "+%s").stdout
    assert asked - 3 < int(said) < time.time() + 3
    found = [own(site, name) for name in names]
    for what in OWN:
        values = [entry[what] for entry in found]
        assert all(values), what
        assert len(set(values)) == CLONES, (what, values)
    for name, entry in zip(names, found, strict=True):
        assert entry["hostname"] == name
        vms = site.home / ".local/share/rave/vms"
        assert (
            json.loads((vms / name / "machine.json").read_text())["machine"]["instance_id"]
            == (entry["instance"])
        )
        # Over SSH, where the pinned host key is the one that is shown.
        assert site.rave("vm", "ssh", name, "--", "hostname").stdout.strip() == name
    for name in names:
        site.rave("vm", "delete", name, "--force")


def test_it_is_proven_as_what_it_is(site: Site, template: Any) -> None:
    before = site.transcripts()
    site.rave("up", *PROFILE, "--name", "twinproven", timeout=600)
    (transcript,) = [path for path in site.transcripts() if path not in before]
    document = json.loads(transcript.read_text())
    assert document["system_info"]["origin"] == f"template sha256:{template['digest']}"
    assert "boot.stages" in transcript.read_text()
    key = str(site.signing_key)
    assert site.rave("smoke", "verify", str(transcript), "--key", key).returncode == 0
    policy = site.home / "policy.yaml"
    policy.write_text("version: 1\nrequired: [image.integrity]\ncold: true\n")
    done = site.rave(
        "smoke", "verify", str(transcript), "--key", key, "--policy", str(policy), check=False
    )
    assert (done.returncode, "not seen to boot" in done.stderr) == (7, True)
    site.rave("vm", "delete", "twinproven", "--force")


def test_a_template_that_was_changed_starts_nothing_and_what_runs_is_like_any_other(
    site: Site, template: Any
) -> None:
    launch(site, "twin")
    before = own(site, "twin")
    site.rave("vm", "suspend", "twin")
    site.rave("vm", "resume", "twin")
    assert site.json("vm", "status", "twin")["origin"] == "resumed"
    memory = site.home / f".local/share/rave/templates/{template['name']}/memory"
    with memory.open("r+b") as stream:
        stream.seek(1 << 20)
        stream.write(b"changed")
    done = site.rave("vm", "launch-local", *PROFILE, "--name", "twinnot", "--warm", check=False)
    assert (done.returncode, "was changed" in done.stderr) == (3, True)
    assert "twinnot" not in [document["name"] for document in site.json("vm", "list")]
    # Nothing of a machine hangs on its template: not its run, nor its disk, nor a copy of that.
    site.rave("vm", "template", "delete", template["name"])
    assert site.rave("vm", "exec", "twin", "--", "hostname").stdout.strip() == "twin"
    site.rave("vm", "restart", "twin")
    assert site.json("vm", "status", "twin")["origin"] == "cold"
    after = own(site, "twin")
    for what in ("machine-id", "hostname", "mac", "instance", "host key", "age identity"):
        assert after[what] == before[what], what
    site.rave("vm", "stop", "twin")
    site.rave("vm", "clone", "twin", "twincopy")
    site.rave("vm", "start", "twincopy")
    copied = own(site, "twincopy")
    for what in ("machine-id", "hostname", "mac", "instance", "host key", "age identity"):
        assert copied[what] != before[what], what
    for name in ("twin", "twincopy"):
        site.rave("vm", "delete", name, "--force")


def test_nothing_is_left(site: Site) -> None:
    assert not list(Path(site.home / ".local/share/rave/templates").glob("[!.]*"))
    argvs = [Path(f"/proc/{pid}/cmdline").read_text() for pid in qemu_processes(site)]
    assert not [argv for argv in argvs if "rave-template" in argv]
