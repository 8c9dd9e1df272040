"""What the guest's programs bring in: under emulation a machine waits for every import."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from rave_cli.profiles.source import load_catalog
from tests.waiting import CEILING

SOURCE = Path(__file__).resolve().parents[3] / "src"
# Each costs a guest under TCG a twentieth of a second or more.
HEAVY = {
    "ssl", "subprocess", "threading", "hashlib", "hmac", "pickle", "base64", "typing",
    "dataclasses", "inspect", "importlib.util", "http.client", "urllib.parse", "logging", "asyncio",
}  # fmt: skip


def brought_in(code: str) -> set[str]:
    """Return the modules that a program of the guest has when it has run `code`."""
    head = f"import sys; sys.path.insert(0, {str(SOURCE)!r})\n"
    tail = "\nimport json; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-ISB", "-c", head + code + tail],
        capture_output=True, text=True, check=True, timeout=CEILING,
    )  # fmt: skip
    return set(json.loads(done.stdout))


def test_whoever_waits_for_the_services_brings_in_nothing_heavy() -> None:
    plan = load_catalog(None).plan("production", "nixos").model_dump(mode="json", by_alias=True)
    services = {name: record for name, record in plan["services"].items() if record["units"]}
    code = f"""
from rave_guest import ready
services = {services!r}
asked = {{name: len(ready.alive(name, record)) for name, record in services.items()}}
assert asked["redis"] == asked["postgresql"] == asked["sshd"] == asked["fail2ban"] == 1
"""
    found = brought_in(code)
    assert not found & HEAVY
    assert "rave_guest.services.redis" in found
    assert "rave_guest.services.nats" not in found, "its record asks over HTTP"


@pytest.mark.parametrize(
    ("code", "but"),
    [
        ("from rave_guest.secrets import boot", {"subprocess", "threading"}),
        ("from rave_guest import door", set()),
        ("from rave_guest import command", set()),
        ("from rave_guest import door, probe", {"subprocess", "threading"}),
    ],
    ids=["secrets-boot", "door", "command", "probe"],
)
def test_what_other_programs_bring_in_before_they_begin(code: str, but: set[str]) -> None:
    assert brought_in(code) & HEAVY <= but


def test_typing_is_for_those_who_read_the_code_not_for_the_guest() -> None:
    code = "from rave_guest import door, probe, ready, registry; registry.modules()"
    assert "typing" not in brought_in(code)


def test_what_a_template_has_loaded_brings_no_random_generator_that_its_copies_would_share() -> (
    None
):
    found = brought_in("from rave_guest import command, held, door; door.load()")
    assert {
        "rave_guest.probe",
        "rave_guest.secrets.install",
        "rave_guest.services.redis",
        "ssl",
    } <= found
    assert not found & {"random", "secrets", "tempfile"}
