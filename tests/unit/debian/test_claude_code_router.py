"""The router of the guest: what stands before it, run by the Node of this host in its place."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest.services import claude_code_router
from tests.debian import BASE, plan, rendered
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator

START = BASE.parent / "guest/claude-code-router.cjs"
NODE = shutil.which("node") or ""
real = pytest.mark.skipif(not NODE, reason="node: not on this host")

# What the router does as far as it matters here: it reads its settings, lets variables stand for
# keys, and listens.
ROUTER = """
const fs = require("node:fs"), http = require("node:http"), os = require("node:os");
const said = JSON.parse(fs.readFileSync(os.homedir() + "/.claude-code-router/config.json"));
const stands = (_, name) => process.env[name];
const whole = JSON.parse(JSON.stringify(said).replace(/\\$(RAVE\\w+)/g, stands));
http.createServer((request, response) => {
  const known = request.headers.authorization === `Bearer ${whole.APIKEY}`;
  response.writeHead(known ? 200 : 401);
  response.end(known ? JSON.stringify({ whole, words: process.argv.slice(1) }) : "");
}).listen({ port: said.PORT, host: "0.0.0.0" }, () => {});
"""
PROVIDER = {"name": "p", "api_base_url": "http://127.0.0.1:9/v1", "models": ["m"]}
KEY, SECRET = "of-who-uses-it", "sk-of-the-provider"


class Running:
    """It, behind a socket of this test's."""

    def __init__(self, place: Path, program: Path) -> None:
        self.place = place
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self.socket.getsockname()[1])
        (place / "cli.js").write_text(ROUTER)
        env = {
            "CREDENTIALS_DIRECTORY": str(place / "secrets"), "HOME": str(place),
            "PORT": str(self.port), "PATH": os.environ["PATH"],
        }  # fmt: skip
        handed = [(os.POSIX_SPAWN_DUP2, self.socket.fileno(), 3)]
        argv = [NODE, str(program), str(place / "cli.js")]
        self.pid = os.posix_spawn(NODE, argv, env, file_actions=handed)

    def ask(self, key: str = "another") -> tuple[int, Any]:
        """Ask as the guest's own check does."""
        answer = claude_code_router.ask(self.port, key, 240)
        return answer.status, json.loads(answer.body) if answer.body else None

    def ended(self) -> int | None:
        """Return how it ended, if it has."""
        if not self.pid:
            return 0
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        if not pid:
            return None
        self.pid = 0
        return os.waitstatus_to_exitcode(status)


@contextmanager
def running(place: Path, *, program: Path = START, **secrets: str) -> Iterator[Running]:
    """Run it with these secrets in force."""
    (place / "secrets").mkdir()
    for name, value in secrets.items():
        (place / "secrets" / name.replace("_", "-")).write_text(value)
    found = Running(place, program)
    try:
        yield found
    finally:
        if found.ended() is None:
            os.kill(found.pid, signal.SIGTERM)
            until(lambda: found.ended() is not None)
        found.socket.close()


@real
@pytest.mark.parametrize(
    ("providers", "reason"),
    [
        (None, "has no secrets yet"),
        ("{}", "no model provider is configured"),
        ('{"Providers": [], "Router": {}}', "no model provider is configured"),
        ("{'Providers'", "is not JSON"),
        ("[]", "nothing else"),
        ("null", "nothing else"),
        ('{"Providers": [{}], "transformers": [{"path": "/tmp/x.js"}]}', "nothing else"),
        ('{"Providers": [{}], "HOST": "0.0.0.0"}', "nothing else"),
    ],
)
def test_without_a_provider_it_turns_down_what_comes_and_says_why(
    tmp_path: Path, providers: str | None, reason: str
) -> None:
    secrets = {} if providers is None else {"providers": providers, "api_key": KEY}
    with running(tmp_path, program=START, **secrets) as router:
        status, said = router.ask(KEY)
        assert status == 503
        assert said["type"] == "error"
        assert reason in said["error"]["message"]
        assert not (tmp_path / ".claude-code-router").exists()
        verdict = claude_code_router.closed({"port": router.port, "timeout": 240}, None)  # type: ignore[arg-type]
        assert (verdict.status, reason in verdict.detail) == ("pass", True)


@real
def test_with_one_it_listens_where_systemd_does_and_keys_are_in_its_memory_alone(
    tmp_path: Path,
) -> None:
    providers = json.dumps({"Providers": [PROVIDER | {"api_key": SECRET}, PROVIDER]})
    with running(tmp_path, providers=providers, api_key=f"{KEY}\n") as router:
        assert router.ask()[0] == 401
        status, said = router.ask(KEY)
        assert status == 200
        verdict = claude_code_router.closed({"port": router.port, "timeout": 240}, None)  # type: ignore[arg-type]
        assert verdict.status == "pass"
        assert said["words"] == [str(tmp_path / "cli.js"), "start"]
        whole = said["whole"]
        assert [p["api_key"] for p in whole["Providers"]] == [SECRET, ""]
        assert (whole["HOST"], whole["PORT"], whole["LOG"]) == ("127.0.0.1", router.port, False)
        written = tmp_path / ".claude-code-router/config.json"
        assert written.stat().st_mode & 0o77 == 0
        assert not any(key in written.read_text() for key in (SECRET, KEY))
        environment = Path(f"/proc/{router.pid}/environ").read_bytes()
        assert SECRET.encode() not in environment
        assert KEY.encode() not in environment


@real
def test_it_ends_when_nobody_comes(tmp_path: Path) -> None:
    text = START.read_text()
    hasty = tmp_path / "start.cjs"
    hasty.write_text(text.replace("10 * 60 * 1000", "1").replace("5 * 1000", "10"))
    assert hasty.read_text() != text
    with running(tmp_path, program=hasty, providers="{}", api_key=KEY) as router:
        until(lambda: router.ended() == 0)


def test_of_the_router_nothing_but_its_api_is_served() -> None:
    site = rendered("development")["etc/nginx/sites/router.conf"]
    passed = re.findall(r"location (\S+ ?\S*) \{[^}]*proxy_pass", site)
    assert passed == ["/v1/"]
    assert "proxy_buffering off;" in site


def test_it_is_started_by_who_asks_and_its_program_is_what_is_bounded() -> None:
    record = plan("development")["services"]["claude-code-router"]
    files = rendered("development")
    (port,) = (port["port"] for port in record["ports"])
    assert record["units"] == ["claude-code-router.socket"]
    assert (
        f"ListenStream=127.0.0.1:{port}\n" in files["etc/systemd/system/claude-code-router.socket"]
    )
    unit = files["etc/systemd/system/claude-code-router.service"]
    assert f"Environment=PORT={port}\n" in unit
    assert "PartOf=claude-code-router.socket\n" in unit
    limits = files["etc/systemd/system/claude-code-router.service.d/50-limits.conf"]
    assert f"MemoryMax={record['memory']['safe']}M" in limits
    for name in ("providers", "api-key"):
        secret = plan("development")["secrets"][f"claude-code-router/{name}"]
        assert secret["refresh"] == record["units"]
        assert f"LoadCredential={name}:claude-code-router.{name}\n" in unit
