"""The forge as the guest's checks ask it: what is answered, what is left, what is kept of it."""

from __future__ import annotations

import json
import threading
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from rave_guest import working
from rave_guest.proof import Unproven
from rave_guest.refusal import Refused
from rave_guest.services import pagure
from rave_guest.verdict import Verdict
from rave_guest.wire.forge import PagureError, PagureUser

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from rave_guest.system import System

TOKEN = "ab" * 32


class Pagure:
    """As much of its API as the checks ask for."""

    def __init__(self) -> None:
        self.projects: set[str] = set()
        self.tokens = {TOKEN: ""}
        self.full = False
        # Of which nobody has told it yet that they are made: they are not deleted.
        self.making: set[str] = set()
        self.asked: list[str] = []

    def answer(self, path: str, shown: str, form: Mapping[str, str]) -> tuple[int, Any]:
        self.asked.append(path)
        project, _, action = path.removeprefix("/api/0/").rpartition("/")
        if shown not in self.tokens:
            return 401, {"error": "Invalid or expired token"}
        if action == "whoami":
            return 200, {"username": "rave"}
        if action == "new" and not project:
            return self.make(form)
        if action == "generateacls":
            self.making.discard(project.removesuffix("/git"))
            return 200, {"message": "Project ACLs generated"}
        return self.answer_of(project.removesuffix("/token"), action, shown)

    def answer_of(self, project: str, action: str, shown: str) -> tuple[int, Any]:
        if project not in self.projects:
            return 404, {"error": "Project not found"}
        if action == "new":
            self.tokens["OWN"] = project
            return 200, {"token": {"id": "OWN"}}
        if self.tokens[shown] != project:
            return 401, {"error": "Invalid or expired token"}
        if project in self.making:
            return 400, {"error": "The ACLs of this project are being refreshed in the backend"}
        self.projects.discard(project)
        return 200, {"message": "Project deleted"}

    def make(self, form: Mapping[str, str]) -> tuple[int, Any]:
        if self.full:
            return 400, {"error": "No space left on device"}
        self.projects.add(f"rave/{form['name']}")
        return 200, {"message": "created"}


@contextmanager
def serving(answer: Callable[[str, str, Mapping[str, str]], tuple[int, Any]]) -> Iterator[int]:
    """Serve answers over HTTP; provides the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size = int(self.headers.get("Content-Length", 0))
            form = {k: v[0] for k, v in parse_qs(self.rfile.read(size).decode()).items()}
            shown = self.headers.get("Authorization", "").removeprefix("token ")
            status, document = answer(self.path, shown, form)
            body = json.dumps(document).encode() if document is not None else b"<h1>fault</h1>"
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        do_GET = do_POST  # noqa: N815 - as http.server looks for it

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield server.server_port
        finally:
            server.shutdown()


def test_a_project_is_where_pagure_puts_what_is_private_and_goes_by_a_token_of_its_own() -> None:
    fake = Pagure()
    with serving(fake.answer) as port:
        forge = PagureUser(port, "rave", TOKEN, 10)
        assert forge.create("one") == "rave/one"
        assert fake.projects == {"rave/one"}
        forge.delete("rave/one")
        forge.delete("rave/one")
    assert not fake.projects


@pytest.mark.parametrize("document", [None, {}, {"error": "No space left on device"}])
def test_a_forge_that_fails_is_a_fault_that_says_what_it_answers(document: Any) -> None:
    with (
        serving(lambda *_: (500, document)) as port,
        pytest.raises(PagureError, match=r"^500 ") as caught,
    ):
        PagureUser(port, "rave", TOKEN, 10).create("one")
    assert str(caught.value).endswith((document or {}).get("error", "without a reason"))


class Machine:
    """A machine on which git says what it is told to say."""

    def __init__(self, secret: str | None, says: str = "") -> None:
        self._secret, self._says = secret, says
        self.ran: list[list[str]] = []
        self.env: dict[str, str] = {}

    def secret(self, _path: str) -> str | None:
        return self._secret

    def run(self, argv: list[str], _timeout: float, **more: Any) -> Any:
        self.ran.append(argv)
        self.env = more["env"]

        class Done:
            returncode = 1 if self._says else 0
            stdout, stderr = "", self._says

        return Done()


def asked(port: int, machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Verdict:
    monkeypatch.setattr("shutil.chown", lambda *_: None)
    system: System = machine  # type: ignore[assignment]
    return pagure.repository({"port": port, "secret": "/run/secrets/pagure/token"}, system)


def test_a_disk_that_is_full_is_a_failure_and_nothing_is_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake = Pagure()
    fake.full = True
    with serving(fake.answer) as port:
        found = asked(port, Machine(TOKEN), monkeypatch)
    assert found == Verdict("fail", "400 No space left on device", {})
    assert not fake.projects


def test_a_push_that_is_refused_is_a_failure_and_the_project_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake, machine = Pagure(), Machine(TOKEN, "remote: Denied push\nfatal: the remote hung up")
    with serving(fake.answer) as port:
        found = asked(port, machine, monkeypatch)
    assert found == Verdict("fail", "git clone: fatal: the remote hung up", {})
    assert not fake.projects
    # Everybody on the machine sees the words of a program.
    assert not [word for argv in machine.ran for word in argv if TOKEN in word]


def test_an_answer_that_comes_late_is_told_with_its_own_time_and_the_project_goes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time of the whole check was told, which was not over."""

    class Slow(Machine):
        def run(self, argv: list[str], _timeout: float, **more: Any) -> Any:
            raise TimeoutError

    fake = Pagure()
    with serving(fake.answer) as port:
        found = asked(port, Slow(TOKEN), monkeypatch)
    late = f"one answer takes longer than {pagure.STEP:g} s"
    assert found == Verdict("fail", late, {})
    assert not fake.projects


def test_a_project_whose_making_was_broken_off_stops_no_later_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fake, machine = Pagure(), Machine(TOKEN, "fatal: as far as this")
    fake.projects, fake.making = {"rave/rave-smoke"}, {"rave/rave-smoke"}
    with serving(fake.answer) as port:
        found = asked(port, machine, monkeypatch)
    assert found.detail == "git clone: fatal: as far as this"
    assert not fake.projects


def test_without_secrets_nothing_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    fake = Pagure()
    with serving(fake.answer) as port:
        assert asked(port, Machine(None), monkeypatch).status == "skip"
    assert not fake.asked


def test_a_token_is_proven_by_whose_it_is_and_by_what_is_nobodys() -> None:
    with serving(Pagure().answer) as port:
        plan = {"services": {"pagure": {"ports": [{"name": "web", "port": port}]}}}
        (proof,) = pagure.proofs(plan, "pagure/token")
        assert proof.ask(TOKEN, None) == ["wrong"]
        assert proof.ask(TOKEN, "cd" * 32) == ["previous"]
        with pytest.raises(Unproven, match="does not take the installed token"):
            proof.ask("cd" * 32, None)
        with pytest.raises(Unproven, match="takes another token"):
            proof.ask(TOKEN, TOKEN)


def kept(place: Path) -> tuple[bytes, list[tuple[str, int, int | None]]]:
    items = {name: b"".join(pieces) for name, pieces in pagure.keep({}, str(place), "")}
    entries = [(name, mode, size) for name, mode, size in json.loads(items["files.json"])]
    return items["files"], entries


def repository(place: Path) -> Path:
    """Make a directory as Pagure has one: a repository, a link, and what is being received."""
    bare = place / "repositories/team/hello.git"
    for folder in ("refs/heads", "objects/0b", "objects/pack", "hooks"):
        (bare / folder).mkdir(parents=True)
    (bare / "refs/heads/main").write_text("0b1\n")
    (bare / "objects/0b/1").write_bytes(b"object")
    (bare / "hooks/pre-receive").symlink_to("/usr/lib/elsewhere")
    (place / "tmp").mkdir()
    (place / "tmp/half").write_bytes(b"half a push")
    return bare


def test_what_names_objects_is_read_before_them(tmp_path: Path) -> None:
    repository(tmp_path)
    names = [name for name, _, _ in kept(tmp_path)[1]]
    bare = "repositories/team/hello.git"
    assert names.index(f"{bare}/refs/heads/main") < names.index(f"{bare}/objects/0b/1")
    assert names.index(f"{bare}/objects/0b") < names.index(f"{bare}/objects/pack")
    assert not [name for name in names if name.startswith("tmp") or "pre-receive" in name]


def test_what_was_kept_is_a_repository_again(tmp_path: Path) -> None:
    repository(tmp_path / "there")
    data, entries = kept(tmp_path / "there")
    folder, target = tmp_path / "items", tmp_path / "here"
    folder.mkdir()
    target.mkdir()
    (folder / "files").write_bytes(data)
    (folder / "files.json").write_text(json.dumps(entries))
    pagure.put(str(folder), str(target), "")
    bare = target / "repositories/team/hello.git"
    assert (bare / "refs/heads/main").read_text() == "0b1\n"
    assert (bare / "objects/0b/1").read_bytes() == b"object"
    assert (bare / "objects/pack").is_dir()


def test_an_account_is_deleted_whatever_becomes_of_the_journey() -> None:
    told: list[tuple[str, str]] = []

    def accounts(action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        told.append((action, arguments["user"]))
        if action == "delete":
            raise Refused("absent", "there is none")
        return {"password": "once"}

    with serving(lambda *_: (502, None)) as port:
        journey = working.ForgeVisit(
            "https://f", "https://a", accounts,
            connect=lambda _: HTTPConnection("127.0.0.1", port, timeout=10),
            forge=lambda shown: PagureUser(port, working.USER, shown, 10),
        )  # fmt: skip
        found = working.make(journey)
    assert found["sign-in"] == Verdict("fail", "one is not sent to sign in: 502", {})
    assert {found[name].status for name in ("token", "disabled")} == {"skip"}
    assert told == [("delete", working.USER), ("add", working.USER), ("delete", working.USER)]
