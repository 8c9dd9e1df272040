"""The custom executor, driven as GitLab Runner's documentation says that the runner drives one.

The runner itself is not to be had here. What it would run, with which variables, arguments and
files, and what it makes of exit codes, is from https://docs.gitlab.com/runner/executors/custom.
"""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.served import served
from tests.conftest import live_in
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.pool.jobs.job import Job

pytestmark = pytest.mark.integration

# What the runner would call it: other numbers than rave's own.
BUILD_FAILED, SYSTEM_FAILED = 41, 42
BUILD = "4711"

# A machine is a folder of this host; whatever is run in it is run here.
MACHINE = """
import os, subprocess, sys
from contextlib import contextmanager
from types import SimpleNamespace
from rave_cli import app
from rave_cli.flows import templates
from rave_cli.pool.agents import sandbox
from rave_cli.pool.builds import stages
ROOT = os.environ["MACHINE_ROOT"]

def placed(word):
    return word.replace("/dev/shm/", ROOT + "/shm/").replace("/var/tmp/", ROOT + "/var/")

class Session:
    def run(self, argv, *, stdin, timeout):
        done = subprocess.run([placed(w) for w in argv], input=stdin, capture_output=True)
        return SimpleNamespace(returncode=done.returncode, error_text=done.stderr.decode())

    def stream(self, argv, *, stdin, on_output, timeout):
        child = subprocess.Popen([placed(w) for w in argv], stdin=stdin or subprocess.DEVNULL,
                                 stdout=subprocess.PIPE, stderr=subprocess.STDOUT, bufsize=0)
        with child:
            try:
                while data := child.stdout.read(65536):
                    on_output(1, data)
            except BaseException:
                child.kill()
                raise
            return child.wait()

@contextmanager
def connect(machine):
    yield Session()

class FolderSandbox:
    def prepare(self):
        pass

    def run(self, task, attempt):
        # A new machine has nothing of another's.
        for name in os.listdir(ROOT + "/shm"):
            os.unlink(ROOT + "/shm/" + name)
        script = ROOT + "/script"
        with open(script, "w") as file:
            file.write(placed(task.work.script))
        os.chmod(script, 0o700)
        child = subprocess.Popen([script], stdout=subprocess.PIPE, bufsize=0)
        with child, attempt.ended_by(child.kill):
            attempt.begins("1" * 64, "2" * 64)
            while data := child.stdout.read(65536):
                attempt.say(1, data)
            return child.wait()

templates.get = lambda *_words, **_named: None
sandbox.MachineSandbox = lambda *_words, **_named: FolderSandbox()
stages.connect = connect
stages.machines = SimpleNamespace(load=lambda name: name)
app.main(sys.argv[1:])
"""


@dataclass
class Runner:
    """GitLab Runner with one build, as far as it is documented."""

    place: Path
    machine: Path
    repository: str
    commit: str
    kept: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    asked: dict[str, Any] = field(default_factory=dict)
    variables: dict[str, str] = field(default_factory=dict)
    printed: list[str] = field(default_factory=list)

    def environment(self) -> dict[str, str]:
        """Return the environment of every stage."""
        response = {
            "id": int(BUILD), "token": "jobT0ken", "runner_info": {"timeout": 600},
            "git_info": {
                "repo_url": self.repository, "sha": self.commit, "ref": "main", "depth": 2,
            },
            "job_info": {"project_id": 7}, **self.asked,
        }  # fmt: skip
        file = self.place / "response.json"
        file.write_text(json.dumps(response))
        custom = {
            "CI_JOB_ID": BUILD, "CI_JOB_TIMEOUT": "600", "CI_COMMIT_SHA": self.commit,
            "CI_PROJECT_DIR": "/var/tmp/rave-builds/team/app", **self.variables,
        }  # fmt: skip
        return os.environ | {
            "BUILD_FAILURE_EXIT_CODE": str(BUILD_FAILED),
            "SYSTEM_FAILURE_EXIT_CODE": str(SYSTEM_FAILED),
            "BUILD_EXIT_CODE_FILE": str(self.place / "status"),
            "JOB_RESPONSE_FILE": str(file),
            **{f"CUSTOM_ENV_{name}": value for name, value in custom.items()},
        }

    def start(self, *words: str) -> subprocess.Popen[bytes]:
        """Start a stage's executable, in a process group of its own."""
        argv = [sys.executable, "-c", MACHINE, "pool", "executor", *words]
        pipe = subprocess.PIPE
        return subprocess.Popen(
            argv, stdout=pipe, stderr=pipe, env=self.environment(), start_new_session=True
        )

    def stage(self, *words: str) -> int:
        """Run a stage's executable to its end; keep what the build's log would have."""
        with self.start(*words) as child:
            out, err = child.communicate(timeout=CEILING)
        self.printed.append(out.decode() + err.decode())
        return child.returncode

    def script(self, stage: str, body: str) -> int:
        """Run a sub-stage of run_exec, with a script as the runner generates it."""
        file = self.place / f"script-{stage}"
        quoted = body.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
        text = f"#!/usr/bin/env bash\n\nset -eo pipefail\nset +o noclobber\n: | eval $'{quoted}'\n"
        file.write_text(text)
        file.chmod(0o700)
        return self.stage("run", str(file), stage)


@contextmanager
def git_over_http(
    project_root: Path, seen: list[str], kept: dict[str, tuple[str, bytes]]
) -> Iterator[str]:
    """Serve repositories and artifacts as GitLab does, to whoever shows the build's token."""

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            seen.append(self.headers.get("Authorization", ""))
            path, _, query = self.path.partition("?")
            length = int(self.headers.get("Content-Length", 0))
            done = subprocess.run(
                ["git", "http-backend"], input=self.rfile.read(length), capture_output=True,
                check=False, env=os.environ | {
                    "GIT_PROJECT_ROOT": str(project_root), "GIT_HTTP_EXPORT_ALL": "1",
                    "PATH_INFO": path, "QUERY_STRING": query, "REQUEST_METHOD": self.command,
                    "CONTENT_TYPE": self.headers.get("Content-Type", ""),
                    "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
                    "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
                },
            )  # fmt: skip
            head, _, body = done.stdout.partition(b"\r\n\r\n")
            self.send_response(200)
            for line in head.decode().splitlines():
                name, _, value = line.partition(": ")
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            if self.path.startswith("/api/"):
                token, data = kept.get(self.path, ("", b""))
                self._say(200 if token == self.headers["JOB-TOKEN"] else 404, data)
            else:
                self._answer()

        def do_POST(self) -> None:
            if self.path.startswith("/api/"):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                kept[self.path] = (self.headers["JOB-TOKEN"], body)
                self._say(201, b"{}")
            else:
                self._answer()

        def _say(self, status: int, data: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Serve a pool for all; yields the folder that is its machine."""
    root = tmp_path_factory.mktemp("pool")
    with pytest.MonkeyPatch.context() as patched:
        live_in(root / "home", patched)
        patched.setenv("MACHINE_ROOT", str(root / "machine"))
        for name in ("shm", "var"):
            (root / "machine" / name).mkdir(parents=True)
        with serving_in(root / "server.log"):
            yield root / "machine"


@contextmanager
def serving_in(log: Path) -> Iterator[None]:
    """Serve a pool meanwhile."""
    words = ["pool", "serve", "--profile", "demo", "--base", "debian", "--memory", "256"]
    with log.open("wb") as out:
        argv = [sys.executable, "-c", MACHINE, *words]
        server = subprocess.Popen(argv, stdout=out, stderr=out)
    try:
        until(lambda: server.poll() is not None or "serving" in log.read_text())
        assert served(), log.read_text()
        yield
    finally:
        server.send_signal(signal.SIGTERM)
        server.wait(timeout=CEILING)


@pytest.fixture
def runner(machine: Path, tmp_path: Path) -> Iterator[Runner]:
    work = tmp_path / "team" / "app"
    git = ["git", "-C", str(work), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    subprocess.run(["git", "init", "--quiet", "-b", "main", str(work)], check=True)
    (work / "hello.txt").write_text("hello\n")
    subprocess.run([*git, "add", "."], check=True)
    for message in ("1", "2", "3"):
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", message], check=True)
    told = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    seen: list[str] = []
    kept: dict[str, tuple[str, bytes]] = {}
    with git_over_http(tmp_path, seen, kept) as host:
        url = f"http://gitlab-ci-token:jobT0ken@{host}/team/app"
        yield Runner(tmp_path, machine, url, told.stdout.strip(), kept)
    if seen:
        word = base64.b64encode(b"gitlab-ci-token:jobT0ken").decode()
        assert set(seen) == {f"Basic {word}"}


def jobs() -> list[Job]:
    with open_store() as store:
        return store.newest(9)


def over() -> Job:
    until(lambda: jobs()[0].over)
    return jobs()[0]


def test_a_build_goes_through_its_stages_in_one_machine(runner: Runner) -> None:
    with runner.start("config") as child:
        out, _ = child.communicate(timeout=CEILING)
    told: dict[str, Any] = json.loads(out)
    assert child.returncode == 0
    assert told["builds_dir"].startswith("/")
    assert told["cache_dir"].startswith("/")
    assert (told["builds_dir_is_shared"], told["shell"]) == (False, "bash")
    assert set(told["driver"]) == {"name", "version"}
    assert runner.stage("prepare") == 0
    assert jobs()[0].state == "running"
    assert runner.script("get_sources", "exit 77") == 0
    body = 'cd /var/tmp/rave-builds/team/app\nexport LEFT="it\'s"\ncat hello.txt\necho here > mark'
    assert runner.script("build_script", body.replace("/var/tmp", f"{runner.machine}/var")) == 0
    assert "hello\n" in runner.printed[-1]
    # So many commits as the runner says, checked out as they are; and no token.
    place = f"{runner.machine}/var/rave-builds/team/app"
    body = f"cd {place}; git log --format=%s; git status --porcelain; git config -l --local"
    assert runner.script("step_test", body) == 0
    assert runner.printed[-1].startswith("3\n2\n?? mark\ncore.")
    assert "remote.origin.url=http://127.0.0.1:" in runner.printed[-1]
    assert "jobT0ken" not in runner.printed[-1]
    # Another shell in the same machine.
    after = f"cat {runner.machine}/var/rave-builds/team/app/mark"
    assert runner.script("after_script", after) == 0
    assert "here\n" in runner.printed[-1]
    assert runner.stage("cleanup") == 0
    job = over()
    assert job.state == "success"
    # Neither the token nor a script is left anywhere.
    assert "jobT0ken" not in str(job)
    assert list((runner.machine / "shm").glob("rave-build")) == []


def test_a_script_that_fails_is_the_builds_failure_with_its_status(runner: Runner) -> None:
    assert runner.stage("prepare") == 0
    assert runner.script("build_script", "echo no; exit 9") == BUILD_FAILED
    assert (runner.place / "status").read_text().strip() == "9"
    assert runner.stage("cleanup") == 0
    job = over()
    assert (job.state, job.exit_status) == ("failure", 9)


def test_what_is_no_fault_of_the_build_is_the_systems(runner: Runner) -> None:
    # Nothing is prepared.
    assert runner.script("build_script", "true") == SYSTEM_FAILED
    assert runner.stage("prepare") == 0
    runner.commit = "f" * 40
    assert runner.script("get_sources", "true") == SYSTEM_FAILED
    assert "git fetch fails" in runner.printed[-1]
    assert not (runner.place / "status").exists()
    # The runner tries again what failed so: it gets another machine, and the first one ends.
    assert runner.stage("prepare") == 0
    second, first = jobs()[:2]
    until(lambda: jobs()[1].over)
    assert second.state == "running"
    assert runner.stage("cleanup") == 0
    assert over().name == second.name
    assert first.name != second.name


def test_a_build_that_is_cancelled_leaves_no_machine(runner: Runner) -> None:
    assert runner.stage("prepare") == 0
    file = runner.place / "script"
    file.write_text("echo begun; exec sleep 600\n")
    with runner.start("run", str(file), "build_script") as child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"begun\n"
        # As the runner ends an executable: its group, in order.
        os.killpg(child.pid, signal.SIGTERM)
        child.communicate(timeout=CEILING)
    assert child.returncode != 0
    assert runner.stage("cleanup") == 0
    assert over().state == "failure"
    # Again it changes nothing.
    assert runner.stage("cleanup") == 0


def part(body: bytes) -> bytes:
    """Return the file of a form."""
    return body.partition(b"\r\n\r\n")[2].rpartition(b"\r\n--")[0]


def test_caches_stay_here_and_artifacts_go_to_gitlab_and_come_from_there(runner: Runner) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("lib/made", "by another build\n")
    runner.kept["/api/v4/jobs/3/artifacts"] = ("oth3r", packed.getvalue())
    runner.asked = {
        "artifacts": [
            {"name": "$CI_JOB_ID", "paths": ["lib", "out/**/*.txt"], "exclude": ["lib/not"],
             "artifact_type": "archive", "artifact_format": "zip", "expire_in": "1 day"},
            {"name": "r.xml", "paths": ["r.xml"], "when": "always", "artifact_type": "junit",
             "artifact_format": "gzip"},
        ],
        "cache": [{"key": "deps", "paths": ["deps"], "policy": "pull-push"}],
        "dependencies": [
            {"id": 3, "token": "oth3r", "name": "make", "artifacts_file": {"filename": "a.zip"}}
        ],
    }  # fmt: skip
    place = runner.machine / "var/rave-builds/team/app"
    assert runner.stage("prepare") == 0
    assert runner.script("get_sources", "exit 77") == 0
    assert runner.script("restore_cache", "exit 77") == 0
    assert "cache deps: there is none" in runner.printed[-1]
    assert runner.script("download_artifacts", "exit 77") == 0
    assert (place / "lib/made").read_text() == "by another build\n"
    body = (
        "mkdir -p deps out/a; echo d > deps/d; echo t > out/a/t.txt; echo r > r.xml; touch lib/not"
    )
    assert runner.script("build_script", f"cd {place}\n{body}; chmod 755 lib/made") == 0
    assert runner.script("archive_cache", "exit 77") == 0
    assert runner.script("upload_artifacts_on_success", "exit 77") == 0
    sent = {path: part(body) for path, (token, body) in runner.kept.items() if token == "jobT0ken"}
    url = f"/api/v4/jobs/{BUILD}/artifacts?artifact_format="
    with zipfile.ZipFile(
        io.BytesIO(sent[f"{url}zip&artifact_type=archive&expire_in=1+day"])
    ) as found:
        assert sorted(found.namelist()) == ["lib/made", "out/a/t.txt"]
        assert found.getinfo("lib/made").external_attr >> 16 == 0o100755
    assert gzip.decompress(sent[f"{url}gzip&artifact_type=junit"]) == b"r\n"
    assert len(sent) == 2
    # The next build has what this one kept.
    shutil.rmtree(place)
    assert runner.script("restore_cache", "exit 77") == 0
    assert (place / "deps/d").read_text() == "d\n"
    # What is not there is no fault of the build's.
    runner.asked["dependencies"][0]["token"] = "an0ther"
    assert runner.script("download_artifacts", "exit 77") == SYSTEM_FAILED
    assert "GitLab answers 404" in runner.printed[-1]
    assert not any("oth3r" in text or "jobT0ken" in text for text in runner.printed)
    assert runner.stage("cleanup") == 0
