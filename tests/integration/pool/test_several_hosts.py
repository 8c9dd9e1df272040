"""One pool over several hosts: whose a job is, who runs it, and what is killed meanwhile."""

from __future__ import annotations

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from rave_cli.errors import ExitCode
from rave_cli.pool.jobs.work import Work
from tests.waiting import until

from .hosts import PASSWORD, Host, SharedServer, hosts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rave_cli.pool.jobs.job import Job

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def _server() -> Iterator[SharedServer]:
    place = Path(tempfile.mkdtemp(prefix="rave-shared-"))
    server = SharedServer(place)
    yield server
    server.child.kill()
    server.child.wait()
    shutil.rmtree(place)


@pytest.fixture
def server(_server: SharedServer) -> SharedServer:
    _server.client.flushall()
    return _server


def told(host: Host) -> list[str]:
    """Return what processes of a host were called with, and what it said."""
    lines = [host.log.read_text()]
    for place in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(place.read_text())
        except OSError:
            continue
    return lines + [file.read_text() for file in (host.home / ".local").rglob("*.jsonl")]


@pytest.fixture(scope="module")
def _owner(_server: SharedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with hosts(_server, tmp_path_factory.mktemp("hosts"), "a") as (owner,):
        yield owner.start("--agents", "0").ready()


@pytest.fixture
def owner(_owner: Host, server: SharedServer) -> Host:
    """A host that owns jobs and runs none. It has seen its server wiped by every test before."""
    assert server
    with _owner.store() as store:
        for job in store.newest(100, ("waiting", "running")):
            store.cancel(job.name)
    _owner.over()
    return _owner


def test_what_a_job_is_given_and_what_it_leaves_travel_and_nothing_stays_behind(
    server: SharedServer, owner: Host, tmp_path: Path
) -> None:
    given = tmp_path / "src"
    given.mkdir()
    # More than is on its way at a time.
    (given / "big").write_bytes(bytes(range(256)) * 20_000)
    with hosts(server, tmp_path, "b") as (b,):
        b.start("--agents", "1").ready()
        command = ("sh", "-c", "mkdir out; cp big out/copy; echo x")
        name = owner.submit("--input", str(given), "--artifact", "out", "--", *command)
        owner.over(name)
        job = owner.job(name)
        assert (job.state, job.attempt, job.lost) == ("success", 1, 0)
        done = owner.rave("artifacts", name, "--to", str(tmp_path / "out"))
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out/out/copy").read_bytes() == (given / "big").read_bytes()
        key = next(owner.home.rglob("id_ed25519.pub"))
        verified = owner.rave("verify", name, "--key", str(key))
        assert verified.returncode == 0, verified.stderr
        # The host that ran it keeps nothing of it, and the server no piece.
        assert [*(b.pool / "inputs").glob("*"), *(b.pool / "artifacts").glob("*")] == []
        assert server.client.keys("rave:pieces:*") == []
        assert b.jobs() == []
        assert not any(PASSWORD in text for host in (owner, b) for text in told(host))


def test_whoever_is_killed_each_job_ends_once(server: SharedServer, tmp_path: Path) -> None:
    effects = tmp_path / "effects"
    command = ("sh", "-c", f"echo $RAVE_JOB $RAVE_ATTEMPT >> {effects}; sleep 0.3; echo x")
    with hosts(server, tmp_path, "a", "b", "c") as (a, b, c):
        for host in (a, b, c):
            host.start("--agents", "2")
        for host in (a, b, c):
            host.ready()
        for host in (a, b):
            with host.store() as store:
                store.accept([Work(command)] * 12)
        until(effects.exists, pause=0.1)
        # A host that only runs them, and one whose jobs others run now.
        c.kill()
        a.kill()
        until(lambda: any(job.over for job in b.jobs()), pause=0.1)
        a.start("--agents", "1").ready()
        server.kill()
        a.over()
        b.over()
        with b.store() as store:
            store.accept([Work(command)] * 4)
        server.client.flushall()
        server.signal(signal.SIGSTOP)
        with a.store() as store:
            store.accept([Work(command)] * 4)
        server.signal(signal.SIGCONT)
        a.over()
        b.over()
        jobs = [*a.jobs(), *b.jobs()]
        assert len(jobs) == 32
        assert {job.state for job in jobs} == {"success"}
        for host in (a, b):
            with host.store() as store:
                for job in host.jobs():
                    assert b"".join(piece.data for piece in store.output(job)) == b"x\n"
                    assert store.proof(job.name) is not None


def test_a_server_without_memory_lets_jobs_wait(server: SharedServer, owner: Host) -> None:
    server.client.config_set("maxmemory", "1")
    try:
        name = owner.submit("--", "echo", "x")
        until(lambda: "queue" in owner.rave("explain", name, "--json").stdout, pause=0.1)
    finally:
        server.client.config_set("maxmemory", "64mb")
    until(lambda: server.client.exists(f"rave:job:{name}"), pause=0.1)
    until(lambda: "at-once" in owner.rave("explain", name, "--json").stdout, pause=0.1)


def test_a_job_rests_while_the_host_is_away_that_has_its_files(
    server: SharedServer, tmp_path: Path
) -> None:
    with hosts(server, tmp_path, "a", "b", "copy") as (a, b, copy):
        given = tmp_path / "src"
        given.mkdir()
        (given / "word").write_text("x\n")
        a.start("--agents", "0").ready()
        name = a.submit("--input", str(given), "--", "cat", "word")
        until(lambda: server.client.exists(f"rave:job:{name}"), pause=0.1)
        # A copy of its store is not served beside it.
        copy.pool.parent.mkdir(parents=True)
        shutil.copytree(a.pool, copy.pool)
        assert copy.start("--agents", "0").child.wait() == ExitCode.HOST
        assert "a copy of this pool's jobs is served by another host" in copy.log.read_text()
        a.kill()
        for key in server.client.keys("rave:owner:*"):
            # As if it had been away for some time.
            server.client.delete(key)
        b.start("--agents", "1").ready()
        until(lambda: server.client.zcard("rave:delayed") == 1, pause=0.1)
        assert (a.job(name).state, a.job(name).attempt) == ("waiting", 0)
        a.start("--agents", "0").ready()
        a.over()
        assert (a.job(name).state, a.job(name).attempt) == ("success", 1)


def test_a_worker_takes_one_job_and_ends(server: SharedServer, owner: Host, tmp_path: Path) -> None:
    with hosts(server, tmp_path, "pod") as (pod,):
        first = owner.submit("--artifact", "out", "--", "sh", "-c", "echo x > out; exit 3")
        second = owner.submit("--", "true")
        # What became of the job is not what becomes of the worker.
        assert pod.start("--json", verb="work").child.wait() == 0
        text = pod.log.read_text()
        assert json.loads(text[text.index("{") :]) == {"took": 1}
        owner.over(first)
        assert (owner.job(first).state, owner.job(second).state) == ("failure", "waiting")
        assert owner.job(first).facts.artifacts[0].path == "out"
        assert server.client.xlen("rave:jobs") == 1
        assert pod.start("--jobs", "2", "--wait", "0.5", verb="work").child.wait() == 0
        owner.over(second)
        assert server.client.xlen("rave:jobs") == 0
        assert server.client.xinfo_consumers("rave:jobs", "agents") == []


@pytest.mark.parametrize(("grace", "code"), [("60", 0), ("0", 143)])
def test_a_worker_that_is_told_to_end_lets_its_job_end_or_gives_it_back(
    server: SharedServer, owner: Host, tmp_path: Path, grace: str, code: int
) -> None:
    with hosts(server, tmp_path, "pod") as (pod,):
        name = owner.submit("--", "sleep", "60" if code else "2")
        pod.start("--grace", grace, "--jobs", "5", verb="work")
        until(lambda: owner.job(name).state == "running", pause=0.1)
        assert pod.kill(signal.SIGTERM) == code
        until(lambda: owner.job(name).state != "running", pause=0.1)
        job = owner.job(name)
        assert (job.state, job.lost, job.failed) == ("waiting" if code else "success", 0, 0)


# Seals values into a new secrets file of whoever runs it.
SEAL = """
import json, sys
from rave_cli.secrets import identity, policy, store
from rave_cli.secrets.init import init
from tests.sops import CATALOG
file = store.place(None)
init(file, {"redis/password": CATALOG["redis/password"]})
allowed = policy.load(file)
store.replace(file, store.seal(json.loads(sys.argv[1]), allowed, identity.load()), allowed, new=())
"""


def test_each_host_lends_its_own_secrets_and_the_server_sees_none(
    server: SharedServer, owner: Host, tmp_path: Path
) -> None:
    values = {"registry/token": "hunter22hunter22", "own/word": "battery-staple"}

    def submitted(host: Host, name: str) -> Job:
        """Submit a job that prints the digest of a secret."""
        command = ("sh", "-c", f'sha256sum < "$RAVE_SECRETS/{name}"')
        with host.store() as store:
            return store.accept([Work(command, secrets=(name,))])[0]

    def printed(host: Host, job: Job) -> str:
        host.over(job.name)
        with host.store() as store:
            assert store.load(job.name).state == "success"
            return b"".join(piece.data for piece in store.output(store.load(job.name))).decode()

    with hosts(server, tmp_path, "poor", "rich") as (poor, rich):
        argv = [sys.executable, "-c", SEAL, json.dumps(values)]
        subprocess.run(argv, env=rich.env, check=True)
        lent, kept = submitted(owner, "registry/token"), submitted(owner, "own/word")
        poor.start("--agents", "1").ready()
        until(lambda: owner.job(lent.name).lacking, pause=0.1)
        (reason,) = json.loads(owner.rave("explain", lent.name, "--json").stdout)["reasons"]
        assert reason["code"] == "secrets"
        assert reason["text"].endswith("lends it the secret registry/token")
        assert reason["hint"].startswith("rave pool serve --lend registry/token ")
        rich.start("--agents", "1", "--lend", "registry/token")
        own = submitted(rich, "own/word")
        for host, job in ((owner, lent), (rich, own)):
            value = values[job.work.secrets[0]].encode()
            assert printed(host, job).split()[0] == hashlib.sha256(value).hexdigest()
        # What is not named for them its own jobs alone read.
        until(lambda: owner.job(kept.name).lacking == "own/word", pause=0.1)
        folder = server.place / "appendonlydir"
        written = b"".join(file.read_bytes() for file in folder.iterdir())
        assert b"registry/token" in written
        assert not any(value.encode() in written for value in values.values())
