"""The contract of a guest, asked of the real machine by the program of the NixOS tests."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

PROGRAM = Path(__file__).resolve().parents[2] / "infra/nixos/tests/contract.py"


def ask(site: Site) -> Any:
    done = subprocess.run(
        [site.rave_path, "vm", "exec", "demo", "--sudo", "-i", "--", "python3", "-"],
        input=PROGRAM.read_text(), cwd=site.checkout, env=site.env, timeout=120, check=False,
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.stdout, done.stderr
    return json.loads(done.stdout)


def test_the_debian_machine_keeps_the_contract(site: Site) -> None:
    assert ask(site) == {"broken": [], "base": "debian", "profile": "demo"}


def test_a_machine_that_listens_beyond_loopback_breaks_it(site: Site) -> None:
    server = "python3 -m http.server 9999 --bind 0.0.0.0 >/dev/null 2>&1 &"
    site.rave("vm", "exec", "demo", "--", "sh", "-c", f"{server} sleep 3")
    try:
        assert ask(site)["broken"] == ["port 9999 listens beyond loopback"]
    finally:
        site.rave("vm", "exec", "demo", "--", "pkill", "-f", "http.server 9999", check=False)
