"""Machines that are started from one template, with real guests: no two are each other's twin."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.e2e import hostile_jobs
from tests.e2e.conftest import qemu_processes
from tests.waiting import CEILING, until

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
    "origin": "cat /run/rave/origin",
    "host key": "ssh-keygen -y -f /run/credentials/@system/rave.ssh-host-key",
    "login key": "cat /run/rave/ssh/authorized_keys",
    "age identity": "cat /run/credentials/@system/rave.age-key",
    "tls key": "sha256sum </run/rave/tls/current.key",
    "exporter's word": "grep PASSWORD /run/rave/redis/exporter.env",
    "Redis' run": "redis-cli info server | grep ^run_id",
    "NATS' id": "python3 -c 'import json, socket;"
    ' s = socket.create_connection(("127.0.0.1", 4222), 9);'
    ' print(json.loads(s.makefile().readline()[5:])["server_id"])\'',
    "journal": "ls -d /var/log/journal/$(cat /etc/machine-id)",
}
# Prints what ended its wait for a line in the journal, opened with the flags that fail2ban has.
HEARS = """
import re, subprocess
from systemd import journal
flags = re.search(r"journalflags=([0-9]+)", open("/etc/fail2ban/jail.conf").read())
reader = journal.Reader(flags=int(flags[1]) if flags else journal.SYSTEM)
reader.add_match(SYSLOG_IDENTIFIER="hears")
reader.seek_tail()
while reader.wait(0):
    pass
reader.get_previous()
subprocess.run(["logger", "-t", "hears", "a line"], check=True)
print(reader.wait(60))
"""
SCRIPT = "; ".join(f'printf \'%s\\t%s\\n\' "{name}" "$({word})"' for name, word in OWN.items())


def own(site: Site, name: str) -> dict[str, str]:
    said = site.rave("vm", "exec", "--sudo", name, "--", "sh", "-c", SCRIPT).stdout
    return dict(line.split("\t", 1) for line in said.splitlines())


# What a system that is made anew keeps, and what it does not: how it is put there, and looked for.
PSQL = "runuser -u postgres -- psql -qtA"
MARKS = {
    "in PostgreSQL": (f"{PSQL} -c 'create table mark ()'", f"{PSQL} -c 'table mark'"),
    "on /data": ("touch /var/lib/rave/mark", "test -e /data/rave/mark"),
    "in /etc": ("touch /etc/mark", "test -e /etc/mark"),
}


def leave_marks(site: Site, name: str) -> None:
    for leave, _ in MARKS.values():
        site.rave("vm", "exec", "--sudo", name, "--", "sh", "-c", leave)


def marks(site: Site, name: str) -> dict[str, bool]:
    """Return which marks are there."""
    script = "; ".join(f"({look}) >&2; echo $?" for _, look in MARKS.values())
    said = site.rave("vm", "exec", "--sudo", name, "--", "sh", "-c", script).stdout
    return dict(zip(MARKS, [code == "0" for code in said.split()], strict=True))


def data_label(site: Site, name: str) -> str:
    """Return the id of the machine whose a machine's data disk says to be."""
    word = ("dd", "if=/dev/vdb", "bs=512", "count=1", "status=none")
    said = site.rave("vm", "exec", "--sudo", name, "--", *word).stdout
    return said.split()[2].rstrip("\0")


def launch(site: Site, name: str, *more: str) -> Any:
    return site.json("vm", "launch-local", *PROFILE, "--name", name, "--warm", *more)


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
    # Every other one runs a command before its services come up, and that is its own, too.
    quick = names[::2]
    ready, drawn = [], set()
    for name in names:
        ready.append(launch(site, name, *["--no-wait"] * (name in quick)))
        drawn.add(site.rave("vm", "exec", name, "--", "openssl", "rand", "-hex", "16").stdout)
    assert {document["origin"] for document in ready} == {"template"}
    assert len(drawn) == CLONES
    for name in quick:
        site.rave("vm", "wait", name, timeout=CEILING)
    # Its clock is the host's, however long the template has lain.
    asked = time.time()
    said = site.rave("vm", "exec", names[-1], "--", "date", "+%s").stdout
    assert asked - 3 < int(said) < time.time() + 3
    found = [own(site, name) for name in names]
    for what in OWN:
        values = [entry[what] for entry in found]
        assert all(values), what
        assert len(set(values)) == CLONES, (what, values)
    for name, entry, document in zip(names, found, ready, strict=True):
        assert entry["hostname"] == name
        assert entry["origin"] == document["publicOrigin"]
        vms = site.home / ".local/share/rave/vms"
        assert (
            json.loads((vms / name / "machine.json").read_text())["machine"]["instance_id"]
            == (entry["instance"])
        )
        # Over SSH, where the pinned host key is the one that is shown.
        assert site.rave("vm", "ssh", name, "--", "hostname").stdout.strip() == name
    # What watches the journal as fail2ban does hears of a new line, and does not look for one.
    heard = site.rave(
        "vm", "exec", "--sudo", names[-1], "--", "python3", "-c", HEARS, timeout=CEILING
    )
    assert heard.stdout.strip() == "1", "APPEND"
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


@contextmanager
def serving(site: Site, *more: str) -> Iterator[subprocess.Popen[bytes]]:
    """Serve the pool meanwhile."""
    log = site.home / "pool.log"
    argv = [site.rave_path, "pool", "serve", *PROFILE, *more]
    with log.open("wb") as stream:
        server = subprocess.Popen(
            argv, cwd=site.checkout, env=site.env, stdout=stream, stderr=stream
        )
    try:
        until(lambda: server.poll() is not None or "serving" in log.read_text())
        assert server.poll() is None, log.read_text()
        yield server
    finally:
        server.terminate()
        server.wait(timeout=CEILING)


def submitted(site: Site, *command: str) -> str:
    """Submit a job and wait until its machine runs."""
    name = site.rave("pool", "submit", "--", *command).stdout.strip()
    until(lambda: site.json("pool", "show", name)["state"] == "running", pause=0.5)
    until(lambda: qemu_processes(site), pause=0.1)
    return name


def test_a_machine_that_stands_by_is_itself_when_its_job_comes(site: Site, template: Any) -> None:
    ask = "cat /proc/sys/kernel/random/uuid /etc/machine-id; hostname; date +%s"
    stood: list[list[str]] = []
    with serving(site):
        site.rave("pool", "scale", "--standby", "1")
        for _ in range(10):
            until(lambda: qemu_processes(site))
            words = site.rave("pool", "run", "--", "sh", "-c", ask).stdout.split()
            assert abs(float(words[3]) - time.time()) < 60
            # One that comes while none stands by yet has a machine made for it.
            stood += [words] if words[2].endswith("-0") else []
            if len(stood) == 2:
                break
        assert len({word for words in stood for word in words[:3]}) == 6
        site.rave("pool", "scale", "--standby", "0")
        until(lambda: not qemu_processes(site))


def test_a_job_gets_a_machine_of_its_own_that_is_gone_with_it(site: Site, template: Any) -> None:
    ask = "cat /proc/sys/kernel/random/uuid /etc/machine-id; hostname; echo $RAVE_ATTEMPT"
    with serving(site) as server:
        said = [site.rave("pool", "run", "--", "sh", "-c", ask).stdout.split() for _ in range(2)]
        assert len({word for words in said for word in words[:3]}) == 6
        assert [words[3] for words in said] == ["1", "1"]
        until(lambda: not qemu_processes(site))

        given = site.home / "given"
        (given / "below").mkdir(parents=True)
        (given / "below/file").write_text("given\n")
        command = "cat below/file; echo $A > left; echo $TRACEPARENT > trace"
        words = ("--input", str(given), "--env", "A=b", "--artifact", "left", "--artifact", "trace")
        assert site.rave("pool", "run", *words, "--", "sh", "-c", command).stdout == "given\n"
        (job,) = site.json("pool", "list", "-n", "1")
        site.rave("pool", "artifacts", job["job"], "--to", str(site.home / "left"))
        assert (site.home / "left/left").read_text() == "b\n"
        told = site.json("pool", "trace", job["job"])
        spans = {span["name"]: span["id"] for span in told["spans"]}
        assert list(spans) == [
            "RUN", "submit", "queue", "attempt", "restore", "hand-over", "command", "artifacts",
            "remove", "result",
        ]  # fmt: skip
        said_to_be = (site.home / "left/trace").read_text().strip()
        assert said_to_be == f"00-{told['trace']}-{spans['command']}-01"
        proven = site.json("pool", "verify", job["job"], "--key", str(site.signing_key))
        assert (proven["result"], proven["template"]) == ("success", template["digest"])

        lost = submitted(site, "sh", "-c", "sleep 5; echo $RAVE_ATTEMPT")
        for pid in qemu_processes(site):
            os.kill(pid, signal.SIGKILL)
        assert site.rave("pool", "logs", lost, "--follow").stdout == "2\n"
        assert site.json("pool", "show", lost)["state"] == "success"
        broken = [(one["name"], one["error"]) for one in site.json("pool", "trace", lost)["spans"]]
        assert broken.count(("attempt", "error")) == broken.count(("attempt", "")) == 1

        late = site.rave("pool", "run", "--timeout", "1", "--", "sleep", "300", check=False)
        assert (late.returncode, "ended as timeout" in late.stderr) == (5, True)

        unwanted = submitted(site, "sleep", "300")
        site.rave("pool", "cancel", unwanted)
        site.rave("pool", "logs", unwanted, "--follow")
        assert site.json("pool", "show", unwanted)["state"] == "cancelled"

        left = submitted(site, "sleep", "300")
        server.kill()
        server.wait(timeout=CEILING)
        assert qemu_processes(site)
        site.rave("pool", "cancel", left)
    with serving(site):
        assert site.json("pool", "show", left)["state"] in ("running", "cancelled")
        site.rave("pool", "logs", left, "--follow")
        assert site.json("pool", "show", left)["state"] == "cancelled"
        given_back = submitted(site, "sleep", "300")
    job = site.json("pool", "show", given_back)
    assert (job["state"], job["lost"], job["failed"]) == ("waiting", 0, 0)
    # Whoever serves next is not to sleep.
    assert site.rave("pool", "cancel", given_back).returncode == 0
    assert qemu_processes(site) == []
    assert not [one for one in site.json("vm", "list") if one["name"].startswith("job-")]


def test_every_job_that_means_harm_ends_once_and_harms_nobody(site: Site, template: Any) -> None:
    assert hostile_jobs.tried(site, serving) == {}
    if hostile_jobs.ALL:
        with serving(site):
            hostile_jobs.kept(site)


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
    # Nor a system that the image makes anew, with the data that there are.
    leave_marks(site, "twin")
    site.rave("vm", "stop", "twin")
    site.rave("vm", "start", "twin", "--fresh-system")
    assert site.json("vm", "status", "twin")["origin"] == "cold"
    assert marks(site, "twin") == {"in PostgreSQL": True, "on /data": True, "in /etc": False}
    after = own(site, "twin")
    for what in ("machine-id", "hostname", "mac", "instance", "host key", "age identity"):
        assert after[what] == before[what], what
    label = data_label(site, "twin")
    site.rave("vm", "stop", "twin")
    site.rave("vm", "clone", "twin", "twincopy")
    site.rave("vm", "start", "twincopy")
    copied = own(site, "twincopy")
    for what in ("machine-id", "hostname", "mac", "instance", "host key", "age identity"):
        assert copied[what] != before[what], what
    assert marks(site, "twincopy")["in PostgreSQL"]
    assert data_label(site, "twincopy") == copied["machine-id"] != label
    for name in ("twin", "twincopy"):
        site.rave("vm", "delete", name, "--force")


def test_nothing_is_left(site: Site) -> None:
    assert not list(Path(site.home / ".local/share/rave/templates").glob("[!.]*"))
    argvs = [Path(f"/proc/{pid}/cmdline").read_text() for pid in qemu_processes(site)]
    assert not [argv for argv in argvs if "rave-template" in argv]
