"""A real debsecan over a real lock; its data, of Debian's form, are made here."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from rave_cli.images import lock as locks
from tests.unit.images.test_sbom import LOCKS

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.integration

ROOT = Path(__file__).resolve().parents[3]
# Names and texts, then package, name's number, flags (urgency, remote, fix), and versions without
# it, then source packages and what is made of them: as debsecan(1) fetches it.
DATA = """VERSION 1
CVE-2026-1,,a hole in one
CVE-2026-2,,another
CVE-2026-3,,one that is mended in the image

nginx,0, HRF,99,
redis,1, M  ,,
nginx,2, HRF,0.1,

nginx,nginx nginx-common
redis,redis-server
"""


@pytest.fixture
def debsecan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The real program, told where its data are."""
    real = shutil.which("debsecan")
    assert real, "debsecan is missing: infra/host/test-packages"

    class Tracker(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(zlib.compress(DATA.encode()))

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Tracker) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        program = tmp_path / "bin/debsecan"
        program.parent.mkdir()
        source = f"http://127.0.0.1:{server.server_port}/"
        program.write_text(f'#!/bin/sh\nexec {real} --source {source} "$@"\n')
        program.chmod(0o755)
        monkeypatch.setenv("PATH", f"{program.parent}:{os.environ['PATH']}")
        yield
        server.shutdown()


@pytest.mark.usefixtures("home", "debsecan")
def test_what_debian_knows_of_a_lock_is_told_and_refused() -> None:
    (place,) = [place for place in LOCKS if place.name.startswith("demo")]
    lock, _ = locks.load(place)

    def made_of(source: str) -> list[str]:
        shipped = (package for package in lock.packages if package.role != "tool")
        return sorted(one.name for one in shipped if (one.source or one.name) == source)

    argv = [sys.executable, "-m", "rave_cli", "image", "scan", "--profile", "demo", "--json",
            "--scanner", "debsecan"]  # fmt: skip

    def scan(*words: str) -> tuple[int, Any]:
        done = subprocess.run(
            [*argv, *words], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.stdout, done.stderr
        return done.returncode, json.loads(done.stdout)

    code, found = scan()
    assert code == 1
    assert [(h["id"], h["package"], h["severity"], h["fixed"]) for h in found["holes"]] == [
        *[("CVE-2026-1", name, "critical", "yes") for name in made_of("nginx")],
        *[("CVE-2026-2", name, "medium", "") for name in made_of("redis")],
    ]
    assert {hole["id"] for hole in found["refused"]} == {"CVE-2026-1"}
    assert scan("--accept", "CVE-2026-1")[0] == 0
    assert scan("--accept", "CVE-2026-1", "--refuse", "medium")[0] == 1
