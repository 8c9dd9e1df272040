"""The figures for Prometheus are well formed, they are those of the jobs, and cost no more the more
jobs there are.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

import pytest
from prometheus_client.parser import text_string_to_metric_families

from rave_cli.pool.jobs.job import ENDINGS, RESULTS, AttemptFacts, Began, Ended, Postponed
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.served import FREE, HoldUp, ServingRecord
from rave_cli.pool.serving import families
from rave_cli.pool.serving.families import FAMILIES, KNOWN, MetricFamily, spelled
from rave_cli.pool.serving.metrics import PoolMetrics

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from rave_cli.pool.jobs.job import Happening

ACTIVE = 'cicd_pipeline_run_active{cicd_pipeline_name="demo",cicd_pipeline_run_state="%s"}'
RAN = (
    "cicd_pipeline_run_duration_seconds_%s"
    '{cicd_pipeline_name="demo",cicd_pipeline_run_state="%s"%s}'
)
SUCCESS = ',cicd_pipeline_result="success"'
RUN_ERRORS = 'cicd_pipeline_run_errors_total{cicd_pipeline_name="demo",error_type="%s"}'
SYSTEM = 'cicd_system_errors_total{cicd_system_component="%s",error_type="%s"}'

# Found in what jobs may not have a label of.
SECRET = "hunter2"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path / "pool/jobs.sqlite") as found:
        yield found


def record(hold: HoldUp = FREE, *, agents: int = 3, draining: bool = False) -> ServingRecord:
    return ServingRecord(1, 1.0, "demo", "debian", "safe", 2048, 2, agents, 1, draining, hold)


class Told:
    """A store whose jobs are told of to figures."""

    def __init__(self, store: JobStore) -> None:
        self.store, self.metrics = store, PoolMetrics("demo")
        self.metrics.stands(record())

    def tell(self, name: str, *happenings: Happening) -> None:
        for happening in happenings:
            for changed in self.store.record([(name, happening)]):
                self.metrics.saw(changed)

    def figures(self) -> dict[str, float]:
        """Return the value of each line, once all are well formed."""
        text = self.metrics.text(self.store)
        known = {one.name: one for one in FAMILIES}
        for family in text_string_to_metric_families(text):
            name = f"{family.name}_total" if family.type == "counter" else family.name
            assert (family.type, family.documentation) == (
                known[name].instrument, known[name].about,
            )  # fmt: skip
            for sample in family.samples:
                said = {spelled(label): KNOWN[label] for label in known[name].labels}
                for label, value in sample.labels.items():
                    if label == "le":
                        continue
                    expected = ("demo",) if label == "cicd_pipeline_name" else said[label]
                    assert value in expected, sample
        lines = [line for line in text.splitlines() if not line.startswith("#")]
        assert len(set(lines)) == len(lines)
        return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines)}


@pytest.fixture
def told(store: JobStore) -> Told:
    return Told(store)


def test_names_are_translated_as_opentelemetry_says() -> None:
    # The examples of its specification (Prometheus and OpenMetrics Compatibility), and ours.
    def name(otel: str, instrument: families.Instrument, unit: str) -> str:
        return MetricFamily(otel, instrument, unit, "").name

    assert name("a.b-c", "gauge", "") == "a_b_c"
    assert name("a..b", "gauge", "{packet}") == "a_b"
    assert name("request.seconds", "gauge", "s") == "request_seconds"
    assert name("request", "counter", "s") == "request_seconds_total"
    assert [one.name for one in FAMILIES if one.otel.startswith("cicd.")] == [
        "cicd_pipeline_run_active",
        "cicd_pipeline_run_duration_seconds",
        "cicd_pipeline_run_errors_total",
        "cicd_system_errors_total",
        "cicd_worker_count",
    ]


def test_all_are_there_when_nothing_has_happened(told: Told) -> None:
    found = told.figures()
    names = {re.sub(r"\{.*", "", key) for key in found}
    for one in FAMILIES:
        assert {one.name, f"{one.name}_bucket"} & names, one.name
    assert found[ACTIVE % "pending"] == 0
    assert found['cicd_worker_count{cicd_worker_state="available"}'] == 3
    assert abs(found["rave_pool_told_timestamp_seconds"] - time.time()) < 600
    # A rate needs the zero before the first.
    assert {found[SYSTEM % pair] for pair in families.SYSTEM} == {0}


def test_before_anybody_has_said_how_it_stands_there_are_figures(store: JobStore) -> None:
    assert "cicd_worker_count" in PoolMetrics("demo").text(store)


def test_they_are_those_of_the_jobs(told: Told) -> None:
    done, runs, _waits = told.store.accept([Work(("true",))] * 3)
    facts = AttemptFacts("1" * 64, "2" * 64, 0.75, 3.0, came="success")
    told.tell(done.name, Began(done.submitted + 2, 1, "a"))
    told.tell(done.name, Ended(done.submitted + 9, 1, "success", 0, "", 0, 0, facts))
    told.tell(runs.name, Began(1.0, 1, "b"))
    told.metrics.stands(record(HoldUp("memory", "none")))
    found = told.figures()
    assert found[ACTIVE % "pending"] == found[ACTIVE % "executing"] == 1
    assert found['cicd_worker_count{cicd_worker_state="busy"}'] == 1
    assert found['cicd_worker_count{cicd_worker_state="available"}'] == 0
    assert found['cicd_worker_count{cicd_worker_state="offline"}'] == 2
    assert found[RAN % ("sum", "executing", SUCCESS)] == pytest.approx(7.0, abs=1e-3)
    assert found[RAN % ("bucket", "executing", SUCCESS + ',le="5"')] == 0
    assert found[RAN % ("bucket", "executing", SUCCESS + ',le="10"')] == 1
    assert found[RAN % ("count", "pending", "")] == 2
    assert found["rave_pool_start_seconds_sum"] == 0.75
    assert found['rave_pool_hold{reason="memory"}'] == 1
    assert found['rave_pool_hold{reason="queue"}'] == 0


@pytest.mark.parametrize(
    ("came", "starting", "counted"),
    [
        ("error", None, SYSTEM % ("agent", "restore")),
        ("error", 1.0, SYSTEM % ("agent", "machine")),
        ("failure", 1.0, RUN_ERRORS % "failure"),
        ("timeout", 1.0, RUN_ERRORS % "timeout"),
        ("released", 1.0, None),
    ],
)  # fmt: skip
def test_an_attempt_that_comes_to_nothing_is_counted_by_its_reason_once(
    told: Told, came: str, starting: float | None, counted: str | None
) -> None:
    (job,) = told.store.accept([Work((SECRET,))])
    facts = AttemptFacts(starting=starting, came=came)
    before = told.figures()
    again = Postponed(2.0, 1, 3.0, SECRET, 0, 0, facts)
    told.tell(job.name, Began(1.0, 1, SECRET), again, again)
    found = told.figures()
    errors = {key for key in found if "errors" in key and found[key] != before[key]}
    assert errors == ({counted} if counted else set())
    # It begins again and succeeds, which counts nothing more.
    told.tell(job.name, Began(4.0, 2, "a"), Ended(5.0, 2, "success", 0, "", 0, 0))
    assert SECRET not in told.metrics.text(told.store)


def test_an_agent_that_was_lost_is_counted_once(told: Told) -> None:
    one, given_up = told.store.accept([Work(("true",))] * 2)
    facts = AttemptFacts(came="success")
    told.tell(one.name, Began(1.0, 1, "a"), Began(31.0, 2, "b"))
    told.tell(one.name, Ended(32.0, 2, "success", 0, "", 0, 1, facts))
    assert told.figures()[SYSTEM % ("agent", "lost")] == 1
    told.tell(given_up.name, Began(1.0, 1, "a"), Ended(31, 1, "error", None, "lost", 0, 4))
    assert told.figures()[SYSTEM % ("agent", "lost")] == 2
    assert told.figures()["rave_pool_dead"] == 1
    told.store.drop([given_up.name])
    assert told.figures()["rave_pool_dead"] == 0


def test_a_template_that_cannot_be_made_and_a_silent_queue_are_counted_once(told: Told) -> None:
    for _ in range(3):
        told.metrics.stands(record(HoldUp("template", SECRET)))
    told.metrics.stands(record(HoldUp("queue", SECRET)))
    found = told.figures()
    assert found[SYSTEM % ("controller", "template")] == 1
    assert found[SYSTEM % ("scheduler", "queue")] == 1
    assert SECRET not in told.metrics.text(told.store)


def test_whoever_serves_and_hangs_is_seen_to(told: Told, monkeypatch: pytest.MonkeyPatch) -> None:
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 30)
    assert told.figures()["rave_pool_stalled_seconds"] == pytest.approx(30, abs=5)
    told.metrics.stands(record())
    assert told.figures()["rave_pool_stalled_seconds"] == 0


def test_what_ended_before_it_began_was_pending_only(told: Told) -> None:
    (job,) = told.store.accept([Work(("true",))])
    told.tell(job.name, Ended(job.submitted + 5, 0, "skipped", None, "late", 0, 0))
    found = told.figures()
    assert found[RAN % ("sum", "pending", ',cicd_pipeline_result="skip"')] == pytest.approx(5.0)


def test_a_job_waits_since_its_time_came(told: Told) -> None:
    (job,) = told.store.accept([Work(("true",))])
    now = time.time()
    told.store._db.execute("UPDATE jobs SET submitted = ?", (now - 3600,))
    assert told.figures()["rave_pool_oldest_waiting_seconds"] == pytest.approx(3600, abs=60)
    told.tell(job.name, Began(now - 1800, 1, "a"))
    assert told.figures()["rave_pool_oldest_waiting_seconds"] == 0
    told.tell(job.name, Postponed(now, 1, now + 500, "", 1, 0))
    assert told.figures()["rave_pool_oldest_waiting_seconds"] == 0
    told.store._db.execute("UPDATE jobs SET until = ?", (now - 100,))
    assert told.figures()["rave_pool_oldest_waiting_seconds"] == pytest.approx(100, abs=60)


def test_every_way_to_end_has_its_name() -> None:
    assert set(RESULTS) == set(ENDINGS)
    assert len(set(RESULTS.values())) == len(ENDINGS)


def steps(store: JobStore, metrics: PoolMetrics) -> int:
    """Return the steps of SQLite's machine that the figures take."""
    taken = 0

    def step() -> None:
        nonlocal taken
        taken += 1

    store._db.set_progress_handler(step, 1)
    metrics.text(store)
    store._db.set_progress_handler(None, 1)
    return taken


def test_they_cost_no_more_with_a_hundred_times_the_jobs(told: Told) -> None:
    def wait(many: int) -> None:
        jobs = told.store.accept([Work(("true",))] * many)
        told.store._db.execute("UPDATE jobs SET until = 5e9, attempt = 1 WHERE number % 3 = 0")
        gone = [(job.name, Ended(1, 1, "error", None, "", 0, 4)) for job in jobs[::5]]
        told.store.record(gone)

    wait(30)
    few = steps(told.store, told.metrics)
    wait(3000)
    assert told.figures()["rave_pool_dead"] == 606
    assert steps(told.store, told.metrics) <= few + 20


def test_the_tally_is_what_counting_finds_whatever_happens(store: JobStore) -> None:
    jobs = store.accept([Work(("true",))] * 12)
    for number, job in enumerate(jobs):
        ending = ENDINGS[number % len(ENDINGS)]
        store.record([(job.name, Began(1, 1, "a"))])
        if number % 4:
            store.record([(job.name, Ended(2.0 if number < 9 else 9e9, 1, ending, 0, "", 0, 0))])
    store.drop([job.name for job in jobs[::2]])
    assert store.prune(5e9) > 0
    counted = store._rows("SELECT state, count(*) FROM jobs GROUP BY state")
    assert store.counts() == dict(counted)
    assert store.dead_count() == len(store.dead(100))
