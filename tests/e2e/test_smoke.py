"""`rave smoke run` on a real machine: what it proves, what it notices, how it is interrupted."""

from __future__ import annotations

import json
import signal
import subprocess
from typing import TYPE_CHECKING, Any
from xml.etree import ElementTree

import pytest

from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.e2e.conftest import Site

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(900)]


def report(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(done.stdout)
    return document


def test_every_check_passes_or_says_why_it_cannot_be_asked(
    site: Site, demo: str, tmp_path: Path
) -> None:
    done = site.rave("smoke", "run", "--vm", demo, "--output", str(tmp_path), "--json")
    document = report(done)
    assert document["status"] in {"SUCCESS", "WARNING"}
    skipped = {check["id"] for check in document["checks"] if check["status"] == "skip"}
    assert skipped == {
        "oidc.sign-in", "chat.control", "sandbox.provisioning", "workflow.end-to-end",
    }  # fmt: skip
    (junit,) = tmp_path.glob("*.junit.xml")
    root = ElementTree.fromstring(junit.read_text())  # noqa: S314 - our own
    assert int(root.attrib["tests"]) == len(document["checks"])
    assert root.attrib["failures"] == root.attrib["errors"] == "0"


def test_a_service_that_is_down_is_noticed(site: Site, demo: str, tmp_path: Path) -> None:
    unit = "prometheus-redis-exporter.service"
    site.rave("vm", "exec", demo, "--sudo", "--", "systemctl", "stop", unit)
    try:
        done = site.rave(
            "smoke", "run", "--vm", demo, "--phase", "health", "--output", str(tmp_path), "--json",
            check=False,
        )  # fmt: skip
    finally:
        site.rave("vm", "exec", demo, "--sudo", "--", "systemctl", "start", unit)
    assert done.returncode == 1
    checks = {check["id"]: check for check in report(done)["checks"]}
    assert f"{unit} is inactive" in checks["redis-exporter.units"]["detail"]
    assert checks["redis-exporter.metrics"]["status"] == "skip"
    assert checks["postgresql.roles"]["status"] == "pass"
    assert checks["security.ports"]["detail"] == "not asked for (--phase)"


def test_ctrl_c_aborts_the_run_and_leaves_the_machine(
    site: Site, demo: str, tmp_path: Path
) -> None:
    child = subprocess.Popen(
        [site.rave_path, "smoke", "run", "--vm", demo, "--output", str(tmp_path)],
        cwd=site.checkout, env=site.env, text=True, stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    until(lambda: list(tmp_path.glob("*.events.ndjson")))
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=CEILING)
    assert child.returncode == 130, said
    assert "Traceback" not in said
    found = list(tmp_path.glob("boot_transcript_*Z.json"))
    assert len(found) == 1, said
    (document,) = found
    assert json.loads(document.read_text())["overall_status"] == "ABORTED"
    done = site.rave("smoke", "verify", str(document), "--key", str(site.signing_key), check=False)
    assert done.returncode == 7
    assert site.json("vm", "status", demo)["state"] == "running"
