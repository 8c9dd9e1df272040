"""The units of the guest: hardened by one rule for all, with few and named exceptions."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from rave_guest import ready
from rave_guest.state import load
from tests.debian import BASE, plan, rendered

PROFILES = ("demo", "development", "production")
SYSTEM = "etc/systemd/system"
RULE = "10-hardening.conf"
# What systemd-analyze may say at most; its scale goes to 10.
EXPOSURE = 4.5
# What the operator does is done by children of these: what they may not do, the operator may not do
# (the files say more).
OPERATOR = {"ssh.service", "rave-command.service"}
# systemd's own; it comes hardened.
UPSTREAM = "systemd-journald.service"


def units(files: dict[str, str]) -> list[str]:
    """Return the services among our files by name."""
    names = (path.removeprefix(f"{SYSTEM}/") for path in files)
    return sorted(name for name in names if name.endswith(".service") and "/" not in name)


def in_force(files: dict[str, str], unit: str) -> dict[str, list[str]]:
    """Return the settings of a unit by name, each with all its values in their order.

    A drop-in of the unit's own takes the place of one for all units with the same name, and
    drop-ins apply in the order of their names (systemd.unit(5)).
    """
    drop_ins: dict[str, str] = {}
    for directory in (f"{SYSTEM}/service.d/", f"{SYSTEM}/{unit}.d/"):
        drop_ins |= {
            p.removeprefix(directory): t for p, t in files.items() if p.startswith(directory)
        }
    found: dict[str, list[str]] = {}
    for text in (files[f"{SYSTEM}/{unit}"], *(text for _, text in sorted(drop_ins.items()))):
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals and not name.startswith("#"):
                found.setdefault(name, []).append(value)
    return found


@pytest.fixture(params=PROFILES)
def files(request: pytest.FixtureRequest) -> dict[str, str]:
    found = rendered(request.param)
    assert len(units(found)) > len(plan(request.param)["services"]) - len(
        plan(request.param)["absent"]
    )
    return found


def test_the_rule_is_for_every_unit_and_the_exceptions_are_these_three(
    files: dict[str, str],
) -> None:
    assert f"{SYSTEM}/service.d/{RULE}" in files
    assert {p for p in files if p.endswith(f".service.d/{RULE}")} == {
        f"{SYSTEM}/{unit}.d/{RULE}" for unit in OPERATOR
    }
    masked = [p for p in (BASE / "rootfs").rglob(RULE) if p.is_symlink()]
    assert [(p.parent.name, p.readlink()) for p in masked] == [(f"{UPSTREAM}.d", Path("/dev/null"))]


def test_processors_are_shared_between_processes_not_units(files: dict[str, str]) -> None:
    """A unit that asks for the kernel's controller of processors turns it on for all of them. Each
    then gets the same share whatever its processes' Nice= says, and the longest start is last.
    """
    asking = r"^(CPU\w+|StartupCPU\w+|AllowedCPUs|IO\w+|Delegate)=(.+)$"
    assert not {p: m[0] for p, t in files.items() if (m := re.search(asking, t, re.MULTILINE))}
    assert in_force(files, "fail2ban.service")["Nice"] == ["-10"]
    assert in_force(files, "rave-command.service")["Delegate"] == [""]


def test_nats_finds_no_proc_so_it_does_not_look_at_itself_each_second(
    files: dict[str, str],
) -> None:
    found = in_force(files, "nats-server.service")
    assert found["InaccessiblePaths"] == ["/proc"]
    # What is started in its namespace finds none either, unless it is exempt.
    assert all(c.startswith("+") for c in found["ExecStartPre"] + found["ExecReload"])


def test_every_exception_says_why(files: dict[str, str]) -> None:
    own = {p: t for p, t in files.items() if re.search(r"\.service\.d/\d+-hardening\.conf$", p)}
    assert own
    assert not [path for path, text in own.items() if not text.startswith("# ")]


@pytest.mark.parametrize("unit", sorted(OPERATOR))
def test_a_unit_is_exempt_for_what_the_operator_needs(files: dict[str, str], unit: str) -> None:
    reason = files[f"{SYSTEM}/{unit}.d/{RULE}"]
    for word in ("session", "inherits", "sudo", "secrets install"):
        assert word in reason
    assert "SystemCallFilter" not in in_force(files, unit)


def test_every_other_unit_is_bounded(files: dict[str, str]) -> None:
    for unit in set(units(files)) - OPERATOR:
        found = in_force(files, unit)
        (capabilities,) = found["CapabilityBoundingSet"]
        assert not capabilities.startswith("~"), unit
        assert len(capabilities.split()) <= 4, unit
        for name in ("NoNewPrivileges", "RestrictNamespaces"):
            assert found[name][-1] == "yes", (unit, name)
        assert found["SystemCallArchitectures"] == ["native"], unit
        assert found["SystemCallErrorNumber"] == ["EPERM"], unit


def test_system_calls_come_back_to_three_units_alone(files: dict[str, str]) -> None:
    returned = {}
    for unit in set(units(files)) - OPERATOR:
        first, *rest = in_force(files, unit)["SystemCallFilter"]
        # A first line without the tilde would allow what it names and nothing else.
        assert first.startswith("~@"), unit
        if allowed := [value for value in rest if not value.startswith("~")]:
            returned[unit] = allowed
    assert returned == {
        "nginx.service": ["@chown @setuid"],
        "rave-ready.service": ["@clock"],
        "rave-secrets.service": ["@chown @mount"],
    }


def test_a_unit_with_an_account_of_its_own_has_no_capability(files: dict[str, str]) -> None:
    for unit in units(files):
        found = in_force(files, unit)
        assert "User" not in found or found["CapabilityBoundingSet"] == [""], unit


def test_systemd_itself_finds_every_unit_little_exposed(
    files: dict[str, str], tmp_path: Path
) -> None:
    for path, text in files.items():
        if path.startswith(SYSTEM):
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
    exposed = {unit: exposure(tmp_path, unit) for unit in units(files)}
    assert {unit: e for unit, e in exposed.items() if e > EXPOSURE}.keys() == OPERATOR


def exposure(root: Path, unit: str) -> float:
    """Return what `systemd-analyze security` says of a unit below `root`."""
    argv = ["systemd-analyze", "--no-pager", "security", "--offline=true", f"--root={root}", unit]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False)
    found = re.search(r"exposure level for .*: ([\d.]+)", done.stdout)
    assert found is not None, done.stderr
    return float(found[1])


def test_an_application_that_says_when_it_is_ready_has_half_an_hour_for_it() -> None:
    """On a busy host a start that took more than three minutes failed the installation of the
    secrets for which all these wait, and all of them were started anew. On one with four machines
    on two processors ten were not enough for any after kills, and each start was in vain.
    """
    files = rendered("development")
    late = {}
    for unit in units(files):
        found = in_force(files, unit)
        python = re.search("/usr/lib/rave/(sets|forge)", found["ExecStart"][-1])
        if python and found.get("Type") == ["notify"]:
            late[unit] = found.get("TimeoutStartSec")
    assert {"matrix-synapse.service", "canaille.service", "pagure.service"} <= late.keys()
    assert all(seconds == ["1800"] for seconds in late.values()), late


@pytest.mark.parametrize(("content", "stays"), [("", False), ("224\n/var/lib\n", True)])
def test_an_empty_lock_file_does_not_keep_postgresql_from_starting(
    tmp_path: Path, content: str, stays: bool
) -> None:
    """A QEMU that was killed left one: PostgreSQL takes it for a server that starts just now."""
    *_, line = in_force(rendered("demo"), "postgresql.service")["ExecStartPre"]
    shell, option, script = shlex.split(line)
    lock = tmp_path / "postmaster.pid"
    lock.write_text(content)
    words = [shell, option, script.replace("/var/lib/postgresql/15/main", str(tmp_path))]
    subprocess.run(words, check=True)
    assert lock.exists() == stays
    lock.unlink(missing_ok=True)
    subprocess.run(words, check=True)


def test_data_of_another_release_alone_are_told(tmp_path: Path) -> None:
    """What brings the machine back is said, and not that there is no such directory."""
    line, *_ = in_force(rendered("demo"), "postgresql.service")["ExecStartPre"]
    shell, option, script = shlex.split(line)
    words = [shell, option, script.replace("cd /var/lib/postgresql", f"cd {tmp_path}")]
    (tmp_path / "13/main").mkdir(parents=True)
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr + done.stdout == (
        "no data of PostgreSQL 15 but of 13/main and no dump of them: rave vm rollback brings the"
        " system of before back, rave vm update dumps them\n"
    )
    (tmp_path / "15/main").mkdir(parents=True)
    (tmp_path / "15/main/PG_VERSION").touch()
    subprocess.run(words, check=True)


def test_a_load_makes_a_cluster_as_the_image_does_and_is_waited_for_where_it_says_so() -> None:
    configure = (BASE / "services/postgresql/configure").read_text().replace("\\\n", " ")
    (line,) = [line for line in configure.splitlines() if "bin/initdb" in line]
    words = [word for word in shlex.split(line) if word.startswith("--")]
    assert {word for word in words if not word.startswith("--pgdata")} == set(load.INITDB)
    (folder,) = in_force(rendered("demo"), "postgresql-load.service")["RuntimeDirectory"]
    assert f"/run/{folder}" == ready.LOADING
