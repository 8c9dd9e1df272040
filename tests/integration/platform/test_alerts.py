"""The alerts of the platform's services: the rules of a guest, judged by Prometheus.

The whole takes three minutes, for alerts are told within 30 s and have to end between two causes:
RAVE_ALERTS=1 runs it, before a real Prometheus, dispatcher, bridge and NATS.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from tests.debian import part, plan
from tests.integration.platform.agents import AgentPlatform
from tests.integration.platform.mattermost import _error
from tests.integration.platform.services import Killable, free_port, nats_server, with_server
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.platform.services import Platform

pytestmark = pytest.mark.integration
REAL = "RAVE_ALERTS"
WITHIN = 30.0  # seconds from a cause to its alert
CAUSE = 60  # seconds from the beginning to a cause, in series that are made up
OURS = ("webhook-dispatcher", "chat-bridge")
NAMES = {
    "WebhooksWait", "CommandsWait", "PlatformDown", "WebhooksNotStored", "WebhooksDead",
    "AnswersWait", "AnswersDead", "TasksWait",
}  # fmt: skip


def rules() -> list[dict[str, Any]]:
    """Return the rules of ours, as a guest has them."""
    document = json.loads(
        part("prometheus").files(plan("development"))["etc/rave/prometheus/rules.yml"]
    )
    (group,) = document["groups"]
    found = [rule for rule in group["rules"] if rule["alert"] in NAMES]
    assert {rule["alert"] for rule in found} == NAMES
    return found


# --- the rules


UP = 'up{{job="{0}",service="{0}",instance="x"}}'
WELL = {
    UP.format("webhook-dispatcher"): "1",
    UP.format("chat-bridge"): "1",
    'rave_dispatcher_refused_total{source="gitlab",reason="not-stored"}': "0",
    'rave_dispatcher_events{state="dead"}': "0",
    "rave_dispatcher_oldest_waiting_seconds": "0",
    'rave_bridge_connected{to="chat"}': "1",
    'rave_bridge_connected{to="stream"}': "1",
    "rave_bridge_oldest_undecided_seconds": "0",
    'rave_bridge_oldest_waiting_seconds{what="answer"}': "0",
    'rave_bridge_dead{what="answer"}': "0",
    'rave_bridge_consumer_messages{consumer="agents-ai-engineer",state="pending"}': "0",
    'rave_bridge_consumer_messages{consumer="chat-bridge",state="pending"}': "0",
}
# What one series is from a minute on, and the alert that is to come of it: when at the latest, and
# when not yet.
CAUSES = {
    UP.format("webhook-dispatcher"): ("0", "PlatformDown", WITHIN, 0),
    'rave_dispatcher_refused_total{source="gitlab",reason="not-stored"}': (
        "1", "WebhooksNotStored", WITHIN, 0,
    ),
    'rave_dispatcher_events{state="dead"}': ("1", "WebhooksDead", WITHIN, 0),
    'rave_bridge_oldest_waiting_seconds{what="answer"}': ("0+10", "AnswersWait", WITHIN, 10),
    'rave_bridge_dead{what="answer"}': ("1", "AnswersDead", WITHIN, 0),
    'rave_bridge_consumer_messages{consumer="agents-ai-engineer",state="pending"}': (
        "1", "TasksWait", 620, 590,
    ),
    # What the bridge itself has to read is told otherwise: it is not connected.
    'rave_bridge_consumer_messages{consumer="chat-bridge",state="pending"}': ("1", "", 620, 0),
}  # fmt: skip


def case(cause: str) -> dict[str, Any]:
    after, alert, latest, early = CAUSES[cause]
    series = []
    for name, well in WELL.items():
        then = after if name == cause else well
        values = f"{well}+0x5 {then if '+' in then else f'{then}+0'}x80"
        series.append({"series": name, "values": values})
    firing = 'count by (alertname) (ALERTS{alertstate="firing"})'
    expected = [{"labels": f'{{alertname="{alert}"}}', "value": 1}] if alert else []
    return {
        "interval": "10s", "name": cause, "input_series": series,
        "promql_expr_test": [
            {"expr": firing, "eval_time": f"{CAUSE - 10 + int(early)}s", "exp_samples": []},
            {"expr": firing, "eval_time": f"{CAUSE + int(latest)}s", "exp_samples": expected},
        ],
    }  # fmt: skip


@pytest.mark.skipif(not shutil.which("promtool"), reason="no promtool on this host")
def test_each_cause_is_an_alert_and_no_other(tmp_path: Path) -> None:
    (tmp_path / "rules.yml").write_text(json.dumps({"groups": [{"name": "x", "rules": rules()}]}))
    cases = [case(cause) for cause in CAUSES]
    document = {"rule_files": ["rules.yml"], "evaluation_interval": "10s", "tests": cases}
    (tmp_path / "test.yml").write_text(json.dumps(document))
    done = subprocess.run(
        ["promtool", "test", "rules", "test.yml"],
        cwd=tmp_path, capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr


# --- what is real


class Watched:
    """A platform, and Prometheus, which watches it as in a guest."""

    def __init__(self, place: Path) -> None:
        self.place = place
        self.found = AgentPlatform(place)
        # It takes nothing large, so that a webhook can be too large for it.
        self.found.nats = nats_server(place, self.found.nats.port, max_payload=65536)
        (place / "hooks").mkdir()
        self.hooks: Platform = with_server(place / "hooks", self.found.nats, stream="max_mib = 128")
        port = free_port()
        argv = [
            "prometheus", f"--config.file={place / 'prometheus.yml'}",
            f"--storage.tsdb.path={place / 'data'}", f"--web.listen-address=127.0.0.1:{port}",
        ]  # fmt: skip
        self.prometheus = Killable(argv, port, place / "prometheus.log")
        self.sent = 0

    def configure(self) -> None:
        """Write what a guest has, with the ports of here, for what is here."""
        document = part("prometheus").configuration(plan("development"))
        ports = dict(zip(OURS, (self.hooks.dispatcher.port, self.found.bridge.port), strict=True))
        jobs = [job for job in document["scrape_configs"] if job["job_name"] in ports]
        for job in jobs:
            job["static_configs"][0]["targets"] = [f"127.0.0.1:{ports[job['job_name']]}"]
        (self.place / "rules.yml").write_text(
            json.dumps({"groups": [{"name": "x", "rules": rules()}]})
        )
        own = {"global": document["global"], "scrape_configs": jobs, "rule_files": ["rules.yml"]}
        (self.place / "prometheus.yml").write_text(json.dumps(own))

    def firing(self) -> set[tuple[str, str]]:
        """Return the alerts that fire, each with its service if it is of one."""
        found = httpx.get(f"http://127.0.0.1:{self.prometheus.port}/api/v1/alerts", timeout=60)
        return {
            (one["labels"]["alertname"], one["labels"].get("service", ""))
            for one in found.json()["data"]["alerts"] if one["state"] == "firing"
        }  # fmt: skip

    def post(self, padding: int = 0) -> int:
        self.sent += 1
        with httpx.Client(timeout=60) as client:
            return self.hooks.post(client, self.sent, padding=padding).status_code

    def after(self, what: str, cause: Callable[[], object], *names: tuple[str, str]) -> None:
        """See to it that something causes these alerts in time."""
        began = time.monotonic()
        cause()
        until(lambda: set(names) <= self.firing(), pause=0.1)
        took = time.monotonic() - began
        sys.stdout.write(f"\n{what}: {', '.join(sorted(n for n, _ in names))} after {took:.1f} s")
        # What is between Prometheus and whoever is told waits one second.
        assert took + 1 <= WITHIN, what

    def well(self) -> None:
        until(lambda: not self.firing(), pause=0.2)


@pytest.fixture
def watched(tmp_path: Path) -> Iterator[Watched]:
    made = Watched(tmp_path)
    made.configure()
    with made.found:
        try:
            for process in (made.found.nats, made.hooks.dispatcher, made.found.bridge):
                process.start()
            made.prometheus.start()
            yield made
        finally:
            for process in (made.prometheus, made.hooks.dispatcher):
                if process.process is not None and process.process.poll() is None:
                    process.end()


@contextmanager
def stopped(process: Killable) -> Iterator[None]:
    """Have a process hang: it neither answers nor is gone."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


@pytest.mark.skipif(REAL not in os.environ, reason=f"it takes three minutes: {REAL}=1 runs it")
def test_whatever_is_killed_filled_or_delayed_is_an_alert_within_30_s(
    watched: Watched, capsys: pytest.CaptureFixture[str]
) -> None:
    found, hooks = watched.found, watched.hooks
    wait, commands = ("WebhooksWait", "webhook-dispatcher"), ("CommandsWait", "chat-bridge")
    answers = ("AnswersWait", "chat-bridge")
    with capsys.disabled():
        until(lambda: hooks.health()["stream"] == "connected", pause=0.1)
        watched.well()

        def ask() -> None:
            assert watched.post() == 202
            found.hear(found.say("!rave run ai-engineer shop Never done"), "accepted")

        def killed() -> None:
            found.nats.end()
            ask()

        watched.after("NATS is killed", killed, wait, commands, answers)
        found.nats.start()
        watched.well()
        with stopped(found.nats):
            watched.after("NATS hangs", ask, wait, answers)
        watched.well()

        def late() -> None:
            found.chat.trouble = [(503, {})] * 100_000

        watched.after("the chat does not answer", late, commands)
        found.chat.trouble = []
        watched.well()

        def full() -> None:
            assert watched.post(padding=200_000) == 202
            # From here on no file of the dispatcher grows, as on a disk that is full.
            resource.prlimit(hooks.dispatcher.pid, resource.RLIMIT_FSIZE, (1, 1))
            until(lambda: watched.post() == 503)

        def refuse() -> None:
            found.chat._wrong = lambda _asked: _error(400, "stub.no")  # type: ignore[method-assign, assignment]
            found.say("!rave help")

        def both() -> None:
            full()
            refuse()

        watched.after(
            "one is too large for NATS, the disk is full, the chat refuses", both,
            ("WebhooksDead", "webhook-dispatcher"), ("WebhooksNotStored", "webhook-dispatcher"),
            ("AnswersDead", "chat-bridge"),
        )  # fmt: skip

        def gone() -> None:
            hooks.dispatcher.end()
            found.bridge.end()

        down = [("PlatformDown", name) for name in OURS]
        watched.after("dispatcher and bridge are killed", gone, *down)
