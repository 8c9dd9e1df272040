"""Forges and a pool: what is pushed is built once and told of, whatever is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from http.client import HTTPConnection, HTTPException
from typing import TYPE_CHECKING

import pytest

from rave_cli.pool.jobs.job import Ended
from rave_cli.pool.jobs.rows import work_text
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.served import api_socket, served
from rave_cli.pool.sources import source as sources
from rave_cli.pool.sources.client import asking
from rave_cli.pool.sources.ledger import open_ledger
from rave_cli.pool.sources.reporting import report
from rave_cli.pool.sources.revision import Revision
from tests import kills
from tests.unit.pool.sources.forges import SECRET, TOKEN, commit, hook, push, source
from tests.unit.pool.sources.stub import serving
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from pathlib import Path

    from rave_platform.domain.signatures import WebhookRequest

pytestmark = pytest.mark.integration

SEED = 11

# Each child dies at the n-th call of a function, before or after it; the last one does not. Forked
# by one that has imported all, as a new process would be started.
MORTAL = """
import json, os, sys, time
from rave_cli.pool.api.events import JobFeed
from rave_cli.pool.api.listening import listening
from rave_cli.pool.jobs.work import JobInput
from rave_cli.pool.serving.metrics import PoolMetrics
from rave_cli.pool.sources import keys
from rave_cli.pool.sources.client import asking
from rave_cli.pool.sources.ledger import RevisionLedger, open_ledger
from rave_cli.pool.sources.making import make_jobs
from rave_cli.pool.sources.reporting import report
from rave_cli.pool.sources.source import load

keys.opened = lambda names: {"hook": SECRET}

def mortal(name, when, number):
    real, calls = getattr(RevisionLedger, name), []
    def told(*words, **more):
        calls.append(1)
        if len(calls) == number and when == "before":
            os.kill(os.getpid(), 9)
        found = real(*words, **more)
        if len(calls) == number and when == "after":
            os.kill(os.getpid(), 9)
        return found
    setattr(RevisionLedger, name, told)

def hooks():
    with listening(JobFeed(), PoolMetrics("demo")):
        time.sleep(1e6)

def makes():
    with open_ledger() as ledger:
        while make_jobs(ledger, load("app"), lambda *_: JobInput("0" * 64, 1, "x"), time.time):
            pass

def reports():
    with open_ledger() as ledger, asking(load("app"), TOKEN) as client:
        while report(ledger, client, time.time):
            pass

does = {"take": hooks, "make": makes, "reported": reports}[sys.argv[1]]
killed = 0
for when, number in json.loads(sys.argv[2]):
    child = os.fork()
    if child == 0:
        if when:
            mortal(sys.argv[1], when, number)
        does()
        os._exit(0)
    status = os.waitpid(child, 0)[1]
    if status not in (0, 9):
        sys.exit("a process ended by a fault")
    killed += status == 9
print(killed, flush=True)
""".replace("SECRET", repr(SECRET)).replace("TOKEN", repr(TOKEN))


def deaths(number: int, most: int) -> list[tuple[str, int]]:
    """Return where each of so many processes dies; the last one lives."""
    chosen = random.Random(SEED)  # noqa: S311 - to be the same again
    found = [(chosen.choice(["before", "after"]), chosen.randint(1, most)) for _ in range(number)]
    return [*found, ("", 0)]


def die(what: str, where: list[tuple[str, int]]) -> int:
    """Let processes do their work and die; return how many did."""
    argv = [sys.executable, "-c", MORTAL, what, json.dumps(where)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=CEILING, check=True)
    for _ in range(int(done.stdout)):
        kills.count()
    return int(done.stdout)


def send(given: WebhookRequest, server: subprocess.Popen[bytes]) -> int:
    """Send a hook as a forge does: again until it is answered; return with what."""
    while server.poll() is None:
        forge = HTTPConnection("pool", timeout=CEILING)
        with closing(forge), suppress(OSError, HTTPException):
            forge.sock = socket.socket(socket.AF_UNIX)
            forge.sock.connect(str(api_socket()))
            forge.request("POST", "/v1/hooks/app", given.body, dict(given.headers))
            return forge.getresponse().status
        time.sleep(0.01)
    raise AssertionError("nobody answers")


def test_no_hook_is_lost_and_none_counts_twice_however_often_the_server_is_killed(
    home: Path,
) -> None:
    sources.add(source())
    given = [hook("github", push("github", commit(number))) for number in range(60)]
    argv = [sys.executable, "-c", MORTAL, "take", json.dumps(deaths(12, 4))]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, start_new_session=True) as server:
        with ThreadPoolExecutor(8) as forge:
            answers = list(forge.map(lambda one: send(one, server), given))
        assert set(answers) <= {200, 202}
        # Before the last has lived there were twelve deaths, each in the middle of a hook.
        os.killpg(server.pid, signal.SIGKILL)
    for _ in range(12):
        kills.count()
    with open_ledger() as ledger:
        known = [one.revision.commit for one in ledger.revisions("app", 1000)]
    assert sorted(known) == sorted(commit(number) for number in range(60))
    # Those that were kept, and of which nobody heard, came again.
    assert 200 in answers


def test_each_revision_has_one_job_however_often_its_maker_is_killed(home: Path) -> None:
    sources.add(source())
    with open_ledger() as ledger:
        for number in range(30):
            ledger.take("app", f"d-{number}", pushed(number), "hook", 1.0)
        assert die("make", deaths(8, 3)) == 8
        known = ledger.revisions("app", 1000)
        jobs = ledger.newest(1000)
    assert len(jobs) == len(known) == 30
    assert sorted(one.job for one in known) == sorted(job.name for job in jobs)


def test_a_forge_hears_how_each_commit_ended_however_often_who_tells_it_is_killed(
    home: Path,
) -> None:
    with serving("gitea") as stub, open_ledger() as ledger:
        sources.add(source("gitea", url=stub.url, token="token"))
        for number in range(10):
            ledger.take("app", f"d-{number}", pushed(number), "hook", 1.0)
        for known in ledger.waiting("app", 2.0):
            ledger.make(known.number, Work(("true",)), "source:app")
        # Each ends, and is told of once at least, by whoever lives.
        for job in ledger.newest(1000):
            ledger.record([(job.name, Ended(2, 1, "success", 0, "", 0, 0))])
        assert die("reported", deaths(6, 2)) == 6
        assert {sha for sha, told in stub.statuses if told["state"] == "success"} == {
            commit(number) for number in range(10)
        }
        with asking(sources.load("app"), TOKEN) as client:
            assert report(ledger, client, time.time) == 0


def pushed(number: int) -> Revision:
    """Return a revision."""
    return Revision("push", "main", commit(number))


# A pool whose machines are processes of this host, and whose secrets need no file.
SERVER = """
from rave_cli import app
from rave_cli.flows import templates
from rave_cli.pool.agents import sandbox
from rave_cli.pool.sources import keys
from tests.integration.pool.pools import ProcessSandbox
keys.opened = lambda names: {"hook": SECRET, "token": TOKEN}
templates.get = lambda *_words, **_named: None
sandbox.MachineSandbox = lambda *_words, **_named: ProcessSandbox()
app.main(["pool", "serve", "--profile", "demo", "--base", "debian", "--memory", "256"])
""".replace("SECRET", repr(SECRET)).replace("TOKEN", repr(TOKEN))


def test_what_is_pushed_is_built_and_told_of_with_a_hook_and_without(home: Path) -> None:
    work = home / "app"
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "--quiet", "-b", "main", str(work)], check=True)

    def new(number: int) -> str:
        (work / "file").write_text(f"{number}\n")
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "--quiet", "-m", f"{number}"], check=True)
        told = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True)
        return told.stdout.decode().strip()

    with serving("forgejo") as stub:
        first = new(1)
        stub.branches = {"main": first}
        asked = work_text(Work(("sh", "-c", "echo built")))
        more = {"url": stub.url, "token": "token", "clone": str(work), "asked": asked}
        sources.add(source("forgejo", every=10.0, **more))
        log = home / "server.log"
        with log.open("wb") as out:
            server = subprocess.Popen([sys.executable, "-c", SERVER], stdout=out, stderr=out)
        try:
            until(lambda: server.poll() is not None or "serving" in log.read_text())
            assert served(), log.read_text()
            with open_ledger() as ledger:
                until(lambda: ledger.poll("app").done is not None)
                second = new(2)
                assert send(hook("forgejo", push("forgejo", second)), server) == 202
                until(lambda: ends(stub.statuses, second))
                # No hook tells of this one.
                third = new(3)
                stub.branches = {"main": third}
                ledger.poll_at_once("app")
                until(lambda: ends(stub.statuses, third))
                known = {one.revision.commit: one for one in ledger.revisions("app", 9)}
                assert {sha: one.told_by for sha, one in known.items()} == {
                    first: "poll", second: "hook", third: "poll",
                }  # fmt: skip
                assert (known[first].state, known[first].job) == ("seen", "")
                job = ledger.load(known[third].job)
                assert job.state == "success"
                assert job.work.given is not None
                assert third in job.work.given.origin
                # The secrets of the source stand nowhere.
                # By another process: to close the jobs' file here would give up our locks on it.
                argv = ["grep", "-rlaF", "-e", SECRET, "-e", TOKEN, str(home)]
                found = subprocess.run(argv, capture_output=True, text=True, check=False)
                assert (found.returncode, found.stdout) == (1, "")
        finally:
            server.send_signal(signal.SIGTERM)
            server.wait(timeout=CEILING)


def ends(statuses: list[tuple[str, dict[str, str]]], sha: str) -> bool:
    """Return whether a forge was told that a commit waits, and that it is over."""
    told = [one["state"] for at, one in list(statuses) if at == sha]
    return told[:1] == ["pending"] and told[-1:] == ["success"]
