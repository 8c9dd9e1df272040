"""Vibe Kanban of the guest: only where it was accepted, alone, and behind the portal's sign-in."""

from __future__ import annotations

import json
import re
import sqlite3
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from rave_guest.services import vibe_kanban
from rave_guest.wire import http
from tests.debian import BASE, plan, rendered

if TYPE_CHECKING:
    from pathlib import Path

BOARD = "vibe-kanban"
SYSTEM = "etc/systemd/system"
SITE = "etc/nginx/sites/vibe-kanban.conf"


@pytest.fixture(params=["development", "production"])
def files(request: pytest.FixtureRequest) -> dict[str, str]:
    return rendered(request.param, BOARD)


@pytest.mark.parametrize("profile", ["demo", "development", "production"])
def test_nothing_of_it_is_in_a_guest_whose_operator_has_not_accepted_it(profile: str) -> None:
    assert [path for path in rendered(profile) if BOARD in path] == []
    assert "sites" not in json.loads(rendered(profile)["etc/rave/portal.json"])


@pytest.mark.parametrize("profile", ["development", "production"])
def test_whoever_accepts_it_gets_it_and_nobody_else_changes_but_the_portal(
    profile: str,
) -> None:
    before, after = rendered(profile), rendered(profile, BOARD)
    changed = {path for path in after if before.get(path) != after[path]}
    # A tunnel may lead to its port, too.
    others = sorted(path for path in changed if BOARD not in path)
    assert others == ["etc/rave/portal.json", "etc/ssh/sshd_config"]
    assert json.loads(after["etc/rave/portal.json"])["sites"] == [BOARD]
    assert not before.keys() - after.keys()


def test_whoever_comes_first_starts_it_in_a_network_of_its_own(files: dict[str, str]) -> None:
    (port,) = (port["port"] for port in plan("development", BOARD)["services"][BOARD]["ports"])
    socket = files[f"{SYSTEM}/vibe-kanban.socket"]
    assert f"\nListenStream=127.0.0.1:{port}\n" in socket
    assert "\nService=vibe-kanban-way.service\n" in socket
    way, board = files[f"{SYSTEM}/vibe-kanban-way.service"], files[f"{SYSTEM}/{BOARD}.service"]
    assert f" 127.0.0.1:{port}\n" in way
    assert "\nJoinsNamespaceOf=vibe-kanban.service\n" in way
    assert re.search(r"^After=.*\bvibe-kanban\.service$", way, re.MULTILINE)
    assert re.search(r"^Requires=.*\bvibe-kanban\.service$", way, re.MULTILINE)
    # What is started has answered, so the way to it never finds nobody there.
    assert f"ExecStartPost=/bin/bash -c 'until (: </dev/tcp/127.0.0.1/{port})" in board
    for unit in (way, board):
        assert "\nPrivateNetwork=yes\n" in unit
        assert "\nStartLimitIntervalSec=0\n" in unit
        assert "\nPartOf=vibe-kanban.socket\n" in unit
    assert "\nStopWhenUnneeded=yes\n" in board


def test_what_it_is_told_to_run_has_nothing_of_the_machine(files: dict[str, str]) -> None:
    unit = files[f"{SYSTEM}/{BOARD}.service"]
    for setting in (
        "PrivateTmp=yes", "PrivateIPC=yes", "PrivateDevices=yes", "ProtectSystem=strict",
        "ProtectHome=yes", "CapabilityBoundingSet=", "NoNewPrivileges=yes",
        "TemporaryFileSystem=/data:ro /run:ro /var/lib:ro /var/log:ro /etc/rave:ro",
        "TemporaryFileSystem=/dev/shm:mode=1777", "RestrictAddressFamilies=AF_INET AF_UNIX",
        "TasksMax=256", "LimitFSIZE=1G",
    ):  # fmt: skip
        assert f"\n{setting}\n" in unit
    assert "LoadCredential" not in unit
    assert re.findall("^Bind.*", unit, re.MULTILINE) == [
        "BindPaths=/data/vibe-kanban:/var/lib/vibe-kanban"
    ]


def test_only_who_has_signed_in_is_let_in_and_no_other_site_asks_in_their_name(
    files: dict[str, str],
) -> None:
    site = files[SITE]
    served = re.findall(r"^    location (.+?) \{\n(.*?)^    \}", site, re.MULTILINE | re.DOTALL)
    proxied = {name: body for name, body in served if "proxy_pass http" in body}
    assert proxied.keys() == {"/", "/api/"}
    for body in proxied.values():
        assert "auth_request /portal/session;" in body
        assert "if ($vibe_kanban_foreign) {\n            return 403;" in body
        assert 'proxy_set_header Cookie "";' in body


@pytest.mark.parametrize(
    ("origin", "foreign"),
    [("", False), ("https://vibe-kanban.rave.localhost:2", False),
     ("https://forge.rave.localhost:2", True), ("https://vibe-kanban.rave.localhost:3", True),
     ("http://vibe-kanban.rave.localhost:2", True), ("null", True),
     ("https://vibe-kanban.rave.localhost:2 vibe-kanban.rave.localhost:2", True)],
)  # fmt: skip
def test_what_another_origin_is(origin: str, *, foreign: bool, files: dict[str, str]) -> None:
    (body,) = re.findall(r"map \"\$http_origin \$http_host\" \S+ \{(.*?)\}", files[SITE], re.DOTALL)
    own = re.findall(r'^ *"~(.+)" "";$', body, re.MULTILINE)
    asked = f"{origin} vibe-kanban.rave.localhost:2"
    assert (not any(re.search(one, asked) for one in own)) == foreign


def test_a_browser_reaches_nobody_else_through_its_page(files: dict[str, str]) -> None:
    site = files[SITE]
    (policy,) = re.findall('Content-Security-Policy "(.+?)"', site)
    sources = {word for part in policy.split(";") for word in part.split()[1:]}
    assert sources == {"'none'", "'self'", "'unsafe-inline'", "data:", "blob:"}
    assert policy.startswith("default-src 'none'; script-src 'self';")
    taken = re.findall("sub_filter '(.+?)' '';", site)
    assert set(re.findall(r"https://([a-z.]+)", "".join(taken))) == {
        "fonts.googleapis.com", "fonts.gstatic.com",
    }  # fmt: skip
    assert any("manifest" in one for one in taken)


def test_it_reports_nothing_unless_somebody_tells_it_to(files: dict[str, str]) -> None:
    settings = json.loads(files["usr/share/rave/vibe-kanban/config.json"])
    assert settings["analytics_enabled"] is False
    assert settings["telemetry_acknowledged"] is True
    # What its maker warns of is for people to read.
    assert settings["disclaimer_acknowledged"] is False


def test_of_its_package_the_guest_keeps_one_program() -> None:
    script = (BASE / "services" / BOARD / "configure").read_text()
    assert 'rm -rf /tmp/vibe-kanban "$set/node_modules"' in script
    assert "mcp" not in script


# --- what is kept -----------------------------------------------------------------------------


def kept(path: Path, folder: Path) -> None:
    """Keep all of a directory in a folder, as a backup does."""
    folder.mkdir()
    for name, pieces in vibe_kanban.keep({}, str(path), str(folder)):
        data = b"".join(pieces)
        (folder / name).write_bytes(data)


def test_the_board_comes_back_with_its_files_as_of_one_moment(tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    (there / "hello/.git").mkdir(parents=True)
    (there / "hello/.git/HEAD").write_text("ref: refs/heads/main\n")
    (there / "config.json").write_text("{}")
    with closing(sqlite3.connect(there / "db.sqlite")) as board:
        board.execute("pragma journal_mode = wal")
        board.execute("create table tasks (title text)")
        board.execute("insert into tasks values ('a task')")
        board.commit()
        assert (there / "db.sqlite-wal").exists()
        kept(there, tmp_path / "backup")
    back.mkdir()
    vibe_kanban.put(str(tmp_path / "backup"), str(back), "")
    with closing(sqlite3.connect(back / "db.sqlite")) as board:
        assert board.execute("select title from tasks").fetchall() == [("a task",)]
    assert (back / "hello/.git/HEAD").read_text() == "ref: refs/heads/main\n"
    assert sorted(path.name for path in back.iterdir()) == ["config.json", "db.sqlite", "hello"]


def test_a_board_that_nobody_has_opened_yet_is_kept_too(tmp_path: Path) -> None:
    there, back = tmp_path / "there", tmp_path / "back"
    there.mkdir()
    back.mkdir()
    kept(there, tmp_path / "backup")
    vibe_kanban.put(str(tmp_path / "backup"), str(back), "")
    assert list(back.iterdir()) == []


# --- the check --------------------------------------------------------------------------------


class Machine:
    """The machine of this test, where the program is this process."""

    def __init__(self, pid: int | str) -> None:
        self.pid = str(pid)

    def units(self, names: list[str], properties: tuple[str, ...]) -> dict[str, dict[str, str]]:
        assert (names, properties) == ([vibe_kanban.UNIT], ("MainPID",))
        return {vibe_kanban.UNIT: {"MainPID": self.pid}}


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [(502, b"", "status 502"), (200, b"{}", "status 200"),
     (200, b'{"success":true}', "it is in the network of the machine")],
)  # fmt: skip
def test_one_that_does_not_answer_or_is_in_the_machines_network_is_told(
    monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, said: str
) -> None:
    monkeypatch.setattr(http, "get", lambda *_: http.Response(status, body, None, None))
    found = vibe_kanban.alone({"port": 1, "timeout": 1.0}, Machine("self"))  # type: ignore[arg-type]
    assert found.status == "fail"
    assert said in found.detail
