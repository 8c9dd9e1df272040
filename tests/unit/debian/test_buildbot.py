"""Buildbot on the Debian base: what it asks of the forge, how it is started, what a build may."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.error import HTTPError
from urllib.parse import parse_qs

import pytest

from rave_guest.services import buildbot
from tests.debian import BASE, part, plan, rendered
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

SYSTEM = "etc/systemd/system"
SET = "rootfs/usr/lib/rave/sets/buildbot/rave_ci"
forge = part("buildbot", f"{SET}/forge.py")
RUN = BASE / "services/buildbot" / SET / "run.py"


class Pagure(BaseHTTPRequestHandler):
    """What it answers by path, and what it was told."""

    answers: ClassVar[dict[str, Any]] = {}
    told: ClassVar[list[tuple[str, str, dict[str, list[str]]]]] = []

    def do_GET(self) -> None:
        """Answer what there is."""
        found = self.answers.get(self.path)
        self.send_response(200 if found is not None else 404)
        self.end_headers()
        self.wfile.write(found if isinstance(found, bytes) else json.dumps(found).encode())

    def do_POST(self) -> None:
        """Take what is told, of whoever shows the token."""
        body = self.rfile.read(int(self.headers["Content-Length"])).decode()
        self.told.append((self.path, self.headers["Authorization"], parse_qs(body)))
        self.send_response(200 if self.headers["Authorization"] == "token good" else 401)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Say nothing."""


@pytest.fixture
def address() -> Iterator[str]:
    Pagure.answers, Pagure.told = {}, []
    with HTTPServer(("127.0.0.1", 0), Pagure) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_all_pages_of_projects_are_looked_at(address: str) -> None:
    for number, name in ((1, "one"), (2, "forks/sam/one")):
        Pagure.answers[f"/api/0/projects?per_page=100&short=true&page={number}"] = {
            "projects": [{"fullname": name}], "pagination": {"pages": 2},
        }  # fmt: skip
    assert forge.Forge(address).projects() == ["one", "forks/sam/one"]


def test_a_fork_is_asked_for_as_pages_name_it_and_fetched_as_git_does(address: str) -> None:
    Pagure.answers["/api/0/fork/sam/one/git/branches?with_commits=true"] = {
        "branches": {"main": "c0ffee"}
    }
    asked = forge.Forge(address)
    assert asked.heads("forks/sam/one") == {"main": "c0ffee"}
    assert asked.source("forks/sam/one") == f"{address}/forks/sam/one.git"


def test_what_nobody_may_see_has_no_branches_and_is_not_built(address: str) -> None:
    assert forge.Forge(address).heads("sam/private") == {}
    assert not forge.Forge(address).wanted("sam/private", "c0ffee")


def test_a_commit_that_says_how_it_is_built_is_built(address: str) -> None:
    Pagure.answers["/one/raw/c0ffee/f/.ci/run"] = b"#!/bin/sh\n"
    assert forge.Forge(address).wanted("one", "c0ffee")


def test_what_is_said_later_of_a_commit_takes_the_place_of_what_was_said(address: str) -> None:
    said = {"comment": "it is so", "url": "https://rave.localhost/buildbot/"}
    for status in ("pending", "success"):
        forge.Forge(address, "good").flag("one", "c0ffee", status=status, **said)
    assert {path for path, _, _ in Pagure.told} == {"/api/0/one/c/c0ffee/flag"}
    assert {fields["uid"][0] for _, _, fields in Pagure.told} == {"rave-ci"}
    with pytest.raises(HTTPError):
        forge.Forge(address, "another").flag("one", "c0ffee", status="success", **said)


@pytest.mark.parametrize(
    ("place", "project"),
    [("/data/pagure/repositories/one.git", "one"),
     ("/data/pagure/repositories/forks/sam/one.git", "forks/sam/one"), ("", ""), ("/tmp", "")],
)  # fmt: skip
def test_a_repository_is_known_by_its_place(place: str, project: str) -> None:
    assert forge.project_of(place) == project


@pytest.mark.parametrize(
    ("complete", "results", "status"),
    [(False, None, "pending"), (True, 0, "success"), (True, 2, "failure"), (True, 4, "error"),
     (True, 5, "pending"), (True, 6, "canceled")],
)  # fmt: skip
def test_a_result_is_said_in_the_forges_words(
    complete: bool, results: int | None, status: str
) -> None:
    assert forge.described({"complete": complete, "results": results}) == status


@pytest.mark.parametrize(
    ("script", "mode", "ends", "said"),
    [("echo built", 0o755, 0, "built\n"), ("echo no >&2; exit 3", 0o755, 3, "no\n"),
     ("kill -9 $$", 0o755, 137, ""), ("sleep 1000 & echo left $!", 0o755, 0, "left "),
     ("true", 0o644, 126, ".ci/run cannot be executed: Permission denied\n")],
)  # fmt: skip
def test_a_build_ends_as_its_script_does_whatever_is_left_running(
    script: str, mode: int, ends: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".ci/run").write_text(f"#!/bin/sh\n{script}\n")
    (tmp_path / ".ci/run").chmod(mode)
    program = f"import sys; sys.path.insert(0, {str(RUN.parent)!r}); import run; run.main()"
    done = subprocess.run(
        [sys.executable, "-IBSc", program], cwd=tmp_path, check=False, capture_output=True,
        text=True, timeout=CEILING,
    )  # fmt: skip
    assert (done.returncode, done.stdout[: len(said)] if said else done.stdout) == (ends, said)
    if left := re.fullmatch("left (.+)\n", done.stdout):
        os.kill(int(left[1]), signal.SIGKILL)


def test_who_loads_a_program_of_the_guest_leaves_nothing_beside_it() -> None:
    assert not list(RUN.parent.rglob("__pycache__"))


@pytest.fixture(params=["development", "production"])
def files(request: pytest.FixtureRequest) -> dict[str, str]:
    return rendered(request.param)


def test_who_pushes_or_looks_starts_it_and_no_boot_does(files: dict[str, str]) -> None:
    services = plan("development")["services"]
    (port,) = (port["port"] for port in services["buildbot"]["ports"])
    socket = files[f"{SYSTEM}/buildbot.socket"]
    # By their order it knows which is which.
    assert re.findall("ListenStream=(.+)", socket) == [f"127.0.0.1:{port}", "/run/buildbot-pushed"]
    assert "SocketGroup=pagure\nSocketMode=0660\n" in socket
    hook = files["usr/lib/rave/forge/hooks/hook"]
    assert '\nPUSHED = "/run/buildbot-pushed"\n' in hook
    for name in ("buildbot", "buildbot-worker"):
        # However often it starts or fails, its socket stays open.
        assert "\nStartLimitIntervalSec=0\n" in files[f"{SYSTEM}/{name}.service"]
        assert services[name]["units"] == [f"{name}.socket"]
        assert (
            f"MemoryMax={services[name]['memory']['safe']}M\n"
            in (files[f"{SYSTEM}/{name}.service.d/50-limits.conf"])
        )


def test_a_build_has_nothing_of_the_machine(files: dict[str, str]) -> None:
    unit = files[f"{SYSTEM}/buildbot-worker.service"]
    for setting in (
        "PrivateNetwork=yes", "PrivateTmp=yes", "ProtectSystem=strict", "CapabilityBoundingSet=",
        "TemporaryFileSystem=/data:ro /run:ro /var/lib:ro /var/log:ro /etc/rave:ro",
        "TemporaryFileSystem=/dev/shm:mode=1777",
    ):  # fmt: skip
        assert f"\n{setting}\n" in unit
    assert "LoadCredential" not in unit
    assert "SocketUser=buildbot\nSocketMode=0600\n" in files[f"{SYSTEM}/buildbot-worker.socket"]
    called = files["usr/lib/rave/sets/buildbot/rave_ci/called.py"]
    assert 'CALL = "/run/buildbot-worker"\nMEET = "/run/buildbot/worker"\n' in called


class Told:
    """A forge that says one thing after another of a commit."""

    def __init__(self, *said: str) -> None:
        self._said = list(said)

    def look(self, path: str) -> dict[str, Any] | None:
        """Return the next."""
        status = self._said.pop(0)
        return {"flags": [{"status": status, "comment": "it is so"}]} if status else None


@pytest.mark.parametrize(
    ("said", "ends", "detail"),
    [(("", "pending", "success"), "pass", "built "), (("pending", "failure"), "fail", "failure"),
     (("pending", "error"), "fail", "error: it is so")],
)  # fmt: skip
def test_the_suite_waits_for_what_the_forge_says(
    said: tuple[str, ...], ends: str, detail: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buildbot, "LOOKS", 0)
    verdict = buildbot._built(Told(*said), "c0ffee", float("inf"))  # type: ignore[arg-type]
    assert (verdict.status, detail in verdict.detail) == (ends, True)


def test_a_commit_of_which_nothing_is_said_fails() -> None:
    verdict = buildbot._built(Told(), "c0ffee", 0)  # type: ignore[arg-type]
    assert "is not told" in verdict.detail
