"""Configuration from the plan: golden files, and what must hold for any plan."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from tests.debian import BASE, generate, part, plan, rendered

GOLDEN = Path(__file__).parent / "golden"
PROFILES = ("demo", "development", "production")

GOLDEN_FILES = {
    "etc/nftables.conf": "nftables.conf",
    "etc/rave/prometheus/prometheus.yml": "prometheus.yml",
    "etc/rave/prometheus/rules.yml": "rules.yml",
    "etc/ssh/sshd_config": "sshd_config",
    "etc/systemd/system/prometheus.service.d/50-limits.conf": "limits-safe.conf",
    "usr/lib/rave/modes/full/prometheus.service.d/60-limits.conf": "limits-full.conf",
    "etc/fail2ban/jail.conf": "jail.conf",
}


@pytest.mark.parametrize(("path", "golden"), GOLDEN_FILES.items())
def test_golden_files(path: str, golden: str) -> None:
    assert rendered()[path] == (GOLDEN / golden).read_text()


def test_golden_statements() -> None:
    databases = [
        {"role": "prometheus", "name": None, "secret": "s", "unit": "set-prometheus.service"},
        {"role": "grafana", "name": "grafana", "secret": "s", "unit": "set-grafana.service"},
    ]
    statements = part("postgresql").sql({"databases": databases})
    assert statements == (GOLDEN / "databases.sql").read_text().splitlines()


@pytest.mark.parametrize("profile", PROFILES)
def test_every_unit_is_wanted_and_capped_in_both_modes(profile: str) -> None:
    files, links, _ = generate.configuration(plan(profile))
    for record in plan(profile)["services"].values():
        for unit in record["units"]:
            file = generate.template(unit)
            assert links[f"{generate.WANTS}/{unit}"] == f"/etc/systemd/system/{file}"
            # A socket has no processes: those are of the service that it starts.
            process = unit.replace(".socket", ".service")
            assert f"etc/systemd/system/{generate.template(process)}" in rendered(profile)
            safe = files[f"etc/systemd/system/{process}.d/50-limits.conf"]
            full = files[f"usr/lib/rave/modes/full/{process}.d/60-limits.conf"]
            assert f"MemoryMax={record['memory']['safe']}M\n" in safe
            assert f"OOMScoreAdjust={record['oomScore']}\n" in safe
            assert f"MemoryMax={record['memory']['full']}M\n" in full


@pytest.mark.parametrize("profile", PROFILES)
def test_every_unit_of_the_plan_is_a_file_of_ours(profile: str) -> None:
    files = rendered(profile)
    units = [unit for record in plan(profile)["services"].values() for unit in record["units"]]
    units += [database["unit"] for database in plan(profile)["databases"]]
    wanted = {f"etc/systemd/system/{generate.template(unit)}" for unit in units}
    assert wanted <= files.keys()


@pytest.mark.parametrize("profile", PROFILES)
def test_no_name_is_left_in_a_text(profile: str) -> None:
    # What stands between two @ in OpenSSH's names of algorithms is no name of ours.
    texts = [text for path, text in rendered(profile).items() if path != "etc/ssh/sshd_config"]
    assert not [found for text in texts for found in generate.NAME.findall(text)]


@pytest.mark.parametrize("name", ["nosuch", "nosuch.thing", "redis.nosuch", "ports.nosuch.web"])
def test_a_template_that_names_what_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(KeyError, match=re.escape(f"@{name}@ is no fact and no port")):
        generate.fill(f"x @{name}@ y", generate.values(plan()))


@pytest.mark.parametrize("name", ["redis", "redis.maxMemoryMiB", "sshd.AllowUsers"])
def test_a_name_that_leads_to_more_than_one_value_is_refused(name: str) -> None:
    with pytest.raises(KeyError, match=re.escape(f"@{name}@")):
        generate.fill(f"@{name}@", generate.values(plan()))


def test_two_parts_that_write_one_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "templates/etc/sudoers.d").mkdir(parents=True)
    (tmp_path / "templates/etc/sudoers.d/rave").write_text("mine")
    with pytest.raises(ValueError, match=r"etc/sudoers\.d/rave is written twice"):
        generate.configuration(plan(), tmp_path)


def test_a_service_that_is_not_in_the_plan_leaves_no_trace() -> None:
    smaller = deepcopy(plan())
    for name in ("prometheus", "redis", "redis-exporter"):
        del smaller["services"][name]
    paths = generate.configuration(smaller).files
    traces = ("etc/rave/prometheus", "etc/rave/redis", "etc/systemd/system/redis",
              "etc/systemd/system/prometheus.service")  # fmt: skip
    assert not [path for path in paths if path.startswith(traces)]


def test_a_moved_port_moves_in_every_text() -> None:
    moved = deepcopy(plan())
    moved["services"]["redis"]["ports"][0]["port"] = 6400
    files = generate.configuration(moved).files
    assert "port 6400\n" in files["etc/rave/redis.conf"]
    exporter = files["etc/systemd/system/prometheus-redis-exporter.service"]
    assert "redis://127.0.0.1:6400" in exporter
    assert "127.0.0.1:6400" in files["etc/ssh/sshd_config"]
    assert not [path for path, text in files.items() if "6379" in text]


def test_the_firewall_admits_exactly_the_exposed_ports() -> None:
    firewall = part("firewall")
    rules = firewall.rules(plan()["exposed"])
    assert [line.strip() for line in rules.splitlines() if "dport" in line] == [
        "tcp dport { 22, 3002 } accept"
    ]
    assert "dport" not in firewall.rules([])
    assert "policy drop" in firewall.rules([])


def test_no_role_gets_a_password_and_names_are_quoted() -> None:
    odd = {"databases": [{"role": 'a"b', "name": "x; drop", "secret": "s", "unit": "u"}]}
    text = "\n".join(part("postgresql").sql(odd))
    assert "PASSWORD" not in text
    assert '"a""b"' in text
    assert '"x; drop"' in text


def run(program: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a program of the build as `configure` does."""
    argv = [sys.executable, "-I", str(program), *words]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A root with a plan in it."""
    place = tmp_path / generate.PLAN
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps(plan()))
    return tmp_path


def test_the_program_writes_below_the_root(root: Path) -> None:
    for _ in range(2):  # a second run replaces the first
        assert run(BASE / "generate.py", str(root)).returncode == 0
    wants = root / generate.WANTS / "prometheus.service"
    assert wants.readlink() == Path("/etc/systemd/system/prometheus.service")
    assert (root / generate.WANTS / "postgres-set-prometheus-password.service").is_symlink()
    assert (root / "etc/nftables.conf").read_text() == (GOLDEN / "nftables.conf").read_text()
    names = {"usr/lib/rave/early": 0o755, "usr/lib/rave/nats-auth": 0o755, "etc/resolv.conf": 0o644}
    assert {name: (root / name).stat().st_mode & 0o777 for name in names} == names
    assert run(BASE / "generate.py").returncode == 2


def test_the_program_prints_the_statements(root: Path) -> None:
    done = run(BASE / "services/postgresql/generate.py", str(root / generate.PLAN))
    assert done.stdout.splitlines() == part("postgresql").sql(plan())


def test_the_guest_keeps_none_of_it() -> None:
    shipped = {path.name for path in (BASE.parents[1] / "src/rave_guest").rglob("*.py")}
    assert not shipped & {"generate.py", "refreshers.py", "pgcontrol.py"}
    assert "generate" not in (BASE.parent / "guest/rave-guest").read_text()


def facts(profile: str = "demo") -> dict[str, Any]:
    found: dict[str, Any] = plan(profile)["facts"]
    return found


def test_the_account_that_is_made_is_the_operators() -> None:
    text = (BASE / "configure").read_text()
    name = facts()["operator"]
    assert (
        f"useradd --uid 1000 --gid 1000 --create-home --shell /bin/bash --comment Operator {name}\n"
        in text
    )
    assert facts()["sshd"]["AllowUsers"] == [name]


def seconds(duration: str) -> int:
    assert duration.endswith("s")
    return int(duration.removesuffix("s"))


def test_what_the_guest_says_of_itself_is_an_alert_within_30_s() -> None:
    """It is asked just before, judged just before, and has to hold: each wait is its longest."""
    facts, scrape = plan()["facts"], plan()["services"]["node-exporter"]["scrape"]["often"]
    judged = seconds(facts["prometheus"]["global"]["evaluation_interval"])
    for rule in facts["alerts"]:
        held = -(-seconds(rule["for"]) // judged) * judged
        # One scrape that is missed is no alarm.
        if rule["alert"] == "InstanceDown":
            assert held > seconds(facts["prometheus"]["global"]["scrape_interval"])
            continue
        waits = seconds(scrape["interval"]) + judged + held
        waits += seconds(facts["alertmanager"]["route"]["group_wait"])
        assert waits <= 30, rule["alert"]
        assert held > seconds(scrape["interval"])


def test_webhooks_that_wait_are_an_alert_within_30_s() -> None:
    """They wait, are asked for, judged, routed: each at its longest. No metric is no alert."""
    carried = plan("development")
    facts, scrape = carried["facts"], carried["services"]["webhook-dispatcher"]["scrape"]
    (rule,) = (rule for rule in facts["alerts"] if rule["alert"] == "WebhooksWait")
    metric, above, waited = rule["expr"].split()
    assert (metric, above) == ("rave_dispatcher_oldest_waiting_seconds", ">")
    waits = int(waited) + seconds(scrape["interval"]) + seconds(rule["for"])
    waits += seconds(facts["prometheus"]["global"]["evaluation_interval"])
    waits += seconds(facts["alertmanager"]["route"]["group_wait"])
    assert waits <= 30


def test_commands_that_wait_are_an_alert_within_30_s() -> None:
    carried = plan("development")
    facts, scrape = carried["facts"], carried["services"]["chat-bridge"]["scrape"]
    (rule,) = (rule for rule in facts["alerts"] if rule["alert"] == "CommandsWait")
    (waited,) = re.findall(r"^rave_bridge_oldest_undecided_seconds > (\d+) or ", rule["expr"])
    waits = int(waited) + seconds(scrape["interval"]) + seconds(rule["for"])
    waits += seconds(facts["prometheus"]["global"]["evaluation_interval"])
    waits += seconds(facts["alertmanager"]["route"]["group_wait"])
    assert waits <= 30
