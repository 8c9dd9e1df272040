"""The alerts of a pool, judged by Prometheus' own tool: each fires within 30 s of its cause, none
before, and none where all is well. Prometheus itself reads a pool's figures as the how-to says.
"""

from __future__ import annotations

import re
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import yaml

from rave_cli.pool import watching
from rave_cli.pool.api import certificate
from rave_cli.pool.api.events import JobFeed
from rave_cli.pool.api.listening import Listen, listening
from rave_cli.pool.api.tokens import Tokens
from rave_cli.pool.jobs.job import Ended
from rave_cli.pool.jobs.store import JobStore, open_store
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.serving.metrics import PoolMetrics
from rave_cli.pool.watching.dashboard import PANELS
from tests.waiting import CEILING, until

if TYPE_CHECKING:
    from collections.abc import Iterator

HOW_TO = Path(__file__).resolve().parents[3] / "docs/how-to/watch-a-pool-from-outside.md"

pytestmark = pytest.mark.integration

# Seconds: of a scrape, of the cause, and from then until an alert must fire.
SCRAPE, CAUSE, WITHIN = 5, 60, 30

MINE = 'instance="pool:8443",job="rave-pool"'
LABELS = {"instance": "pool:8443", "job": "rave-pool"}

# All is well: the value of each series at each scrape, until the cause and after it.
WELL = {
    f"up{{{MINE}}}": ("1", "1"),
    f"rave_pool_told_timestamp_seconds{{{MINE}}}": (f"0+{SCRAPE}", f"{CAUSE}+{SCRAPE}"),
    f"rave_pool_oldest_waiting_seconds{{{MINE}}}": ("0", "0"),
    f"rave_pool_draining{{{MINE}}}": ("0", "0"),
    f"rave_pool_dead{{{MINE}}}": ("0", "0"),
    f"rave_pool_capacity{{{MINE}}}": ("100000", "100000"),
    f'rave_pool_hold{{reason="queue",{MINE}}}': ("0", "0"),
    f"rave_pool_stalled_seconds{{{MINE}}}": ("0.1", "0.1"),
    f'rave_pool_traces_total{{outcome="dropped",{MINE}}}': ("0", "0"),
    **{
        f'cicd_system_errors_total{{cicd_system_component="{component}",error_type="{kind}",{MINE}}}':
            ("0", "0")
        for component, kind in (("agent", "restore"), ("agent", "lost"), ("controller", "template"))
    },
    **{
        f'cicd_pipeline_run_active{{cicd_pipeline_name="demo",cicd_pipeline_run_state="{state}",{MINE}}}':
            ("2", "2")
        for state in ("pending", "executing")
    },
}  # fmt: skip


def name(beginning: str, *parts: str) -> str:
    (found,) = (one for one in WELL if one.startswith(beginning) and all(p in one for p in parts))
    return found


# What happens, as the values from then on by series, and the alerts that it is to cause.
CAUSES: dict[str, tuple[dict[str, str], dict[str, dict[str, str]]]] = {
    "it is killed, and scrapes are refused": (
        dict.fromkeys(WELL, "stale") | {name("up"): "0"},
        {"RavePoolNotServed": {**LABELS, "severity": "critical"}},
    ),
    "it is gone, and nothing scrapes it": (
        dict.fromkeys(WELL, "stale"),
        {"RavePoolNotServed": {"severity": "critical"}},
    ),
    "its file is not written any more": (
        {name("up"): "stale", name("rave_pool_told"): str(CAUSE - SCRAPE)},
        {"RavePoolNotServed": {**LABELS, "severity": "critical"}},
    ),
    "a job waits for longer than five minutes": (
        {name("rave_pool_oldest"): f"301+{SCRAPE}"},
        {"RavePoolJobWaits": {**LABELS, "severity": "warning"}},
    ),
    "one waits because somebody drains it": (
        {name("rave_pool_oldest"): f"301+{SCRAPE}", name("rave_pool_draining"): "1"},
        {},
    ),
    "a job is given up": (
        {name("rave_pool_dead"): "1"},
        {"RavePoolDeadLetters": {**LABELS, "severity": "warning"}},
    ),
    "a machine does not come up": (
        {name("cicd_system", '"restore"'): "1"},
        {"RavePoolRestoreFailures": {**LABELS, "severity": "warning"}},
    ),
    "no template can be made": (
        {name("cicd_system", '"template"'): "1"},
        {"RavePoolRestoreFailures": {**LABELS, "severity": "warning"}},
    ),
    "an agent is lost, which is no machine that does not come up": (
        {name("cicd_system", '"lost"'): "1"},
        {},
    ),
    "the queue is nearly full": (
        {name("cicd_pipeline", '"pending"'): "89998"},
        {"RavePoolQueueFull": {**LABELS, "severity": "critical"}},
    ),
    "the queue is long": ({name("cicd_pipeline", '"pending"'): "89997"}, {}),
    "the Redis server does not answer": (
        {name("rave_pool_hold"): "1"},
        {"RavePoolQueueSilent": {**LABELS, "severity": "critical"}},
    ),
    "it neither answers nor refuses": (
        {name("rave_pool_stalled"): f"0.1+{SCRAPE}"},
        {"RavePoolQueueSilent": {**LABELS, "severity": "critical"}},
    ),
    "the collector refuses traces": (
        {name("rave_pool_traces"): "64"},
        {"RavePoolTracesDropped": {**LABELS, "severity": "info"}},
    ),
    "nothing": ({}, {}),
}


def promtool(*words: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["promtool", *words], capture_output=True, text=True, check=False, input=given
    )


def values(before: str, after: str) -> str:
    """Return what a series has at each scrape, as promtool writes it."""
    count = CAUSE // SCRAPE
    more = (
        "stale _x99" if after == "stale" else f"{after}x100" if "+" in after else f"{after}+0x100"
    )
    return f"{before if '+' in before else before + '+0'}x{count - 1} {more}"


def case(what: str) -> dict[str, Any]:
    causes, fires = CAUSES[what]
    series = [
        {"series": one, "values": values(before, causes.get(one, after))}
        for one, (before, after) in WELL.items()
    ]
    firing = [
        {"labels": f"{{{_matchers({'alertname': alert, **labels})}}}", "value": 1}
        for alert, labels in fires.items()
    ]
    # Without its name and state a series of ALERTS is its labels.
    expr = 'max without (alertstate) (ALERTS{alertstate="firing"})'
    return {
        "interval": f"{SCRAPE}s",
        "input_series": series,
        "promql_expr_test": [
            {"expr": expr, "eval_time": f"{CAUSE - 1}s", "exp_samples": []},
            {"expr": expr, "eval_time": f"{CAUSE - SCRAPE + WITHIN}s", "exp_samples": firing},
            {"expr": expr, "eval_time": f"{CAUSE + 4 * WITHIN}s", "exp_samples": firing},
        ],
    }


def _matchers(labels: dict[str, str]) -> str:
    return ", ".join(f'{label}="{value}"' for label, value in labels.items())


def test_each_alert_has_a_cause() -> None:
    rules = yaml.safe_load(watching.alerts())["groups"][0]["rules"]
    assert {rule["alert"] for rule in rules} == {
        alert for _, fires in CAUSES.values() for alert in fires
    }


@pytest.mark.parametrize("what", CAUSES)
def test_an_alert_fires_within_half_a_minute_of_its_cause(what: str, tmp_path: Path) -> None:
    (tmp_path / "alerts.yml").write_text(watching.alerts())
    tests = {"rule_files": ["alerts.yml"], "evaluation_interval": "5s", "tests": [case(what)]}
    (tmp_path / "test.yml").write_text(yaml.safe_dump(tests))
    done = promtool("test", "rules", str(tmp_path / "test.yml"))
    assert done.returncode == 0, done.stdout + done.stderr


def test_promtool_takes_rules_and_every_question_of_the_dashboard(tmp_path: Path) -> None:
    rules = yaml.safe_load(watching.alerts())
    asked = [query.expr for panel in PANELS for query in panel.queries]
    rules["groups"].append(
        {
            "name": "dashboard",
            "rules": [{"record": f"asked:{n}", "expr": expr} for n, expr in enumerate(asked)],
        }
    )
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump(rules))
    done = promtool("check", "rules", "--lint-fatal", str(file))
    assert done.returncode == 0, done.stdout + done.stderr
    file.write_text(watching.alerts())
    assert promtool("check", "rules", "--lint-fatal", str(file)).returncode == 0


def test_promtool_finds_the_figures_well_made(home: Path) -> None:
    with JobStore(home / "pool/jobs.sqlite") as store:
        done = promtool("check", "metrics", given=PoolMetrics("demo").text(store))
    # OpenTelemetry's name, with which we have to live.
    assert (done.stdout + done.stderr).splitlines() == [
        'cicd_worker_count non-histogram and non-summary metrics should not have "_count" suffix'
    ]


@contextmanager
def prometheus(place: Path, configuration: str) -> Iterator[httpx.Client]:
    """Run a Prometheus meanwhile; yields what asks it."""
    (place / "prometheus.yml").write_text(configuration)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with (place / "prometheus.log").open("wb") as log:
        child = subprocess.Popen(
            [
                "prometheus", f"--config.file={place}/prometheus.yml",
                f"--storage.tsdb.path={place}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log, stderr=log,
        )  # fmt: skip
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}/api/v1", timeout=CEILING) as client:
            yield client
    finally:
        child.kill()
        child.wait()


def answered(client: httpx.Client, asked: str) -> list[dict[str, Any]]:
    """Return what Prometheus answers; nothing while it begins."""
    try:
        answer = client.get("/query", params={"query": asked})
    except httpx.TransportError:
        return []
    found: list[dict[str, Any]] = answer.json()["data"]["result"] if answer.is_success else []
    return found


def test_prometheus_reads_a_pool_as_the_how_to_says_and_raises_its_alerts(
    home: Path, tmp_path: Path
) -> None:
    (configured,) = re.findall(r"```yaml\n(.*?)```", HOW_TO.read_text(), re.DOTALL)
    (tmp_path / "token").write_text(Tokens().create("prometheus", "viewer", 1, time.time())[1])
    # At this test's pace.
    (tmp_path / "rules.yml").write_text(watching.alerts().replace("interval: 5s", "interval: 1s"))
    own = certificate.own("127.0.0.1")
    with open_store() as store:
        (job,) = store.accept([Work(("true",))])
        store.record([(job.name, Ended(1, 4, "error", None, "", 0, 4))])
    with listening(JobFeed(), PoolMetrics("demo"), Listen("127.0.0.1", 0, own)) as (_, https):
        for before, after in (
            ("/etc/prometheus/rave.token", str(tmp_path / "token")),
            ("/etc/prometheus/rave.pem", str(own.certificate)),
            ("127.0.0.1:8443", https.removeprefix("https://")),
            ("scrape_interval: 5s", "scrape_interval: 1s"),
        ):
            assert before in configured
            configured = configured.replace(before, after)
        configured += "rule_files: [rules.yml]\n"
        with prometheus(tmp_path, configured) as client:
            until(lambda: answered(client, 'up{job="rave-pool"} == 1'))
            ((_, value),) = [one["value"] for one in answered(client, "rave_pool_dead")]
            assert value == "1"
            until(lambda: answered(client, 'ALERTS{alertstate="firing"}'))
            firing = answered(client, 'ALERTS{alertstate="firing"}')
            assert [one["metric"]["alertname"] for one in firing] == ["RavePoolDeadLetters"]
            for panel in PANELS:
                for query in panel.queries:
                    asked = query.expr.replace("$instance", ".*")
                    assert client.get("/query", params={"query": asked}).is_success, asked
