"""The figures for Prometheus are well formed, and they are those of the jobs."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from rave_cli.pool.jobs import ENDINGS, AttemptFacts, Began, Ended, Work
from rave_cli.pool.jobstore import JobStore
from rave_cli.pool.metrics import RESULTS, PoolMetrics
from rave_cli.pool.served import FREE, HoldUp, ServingRecord

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# The text format, of the lines that are no comments
# (https://prometheus.io/docs/instrumenting/exposition_formats/).
LINE = re.compile(r'[a-z_]+(\{[a-z_]+="[^"\\\n]*"(,[a-z_]+="[^"\\\n]*")*\})? [0-9.]+')


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path / "pool/jobs.sqlite") as found:
        yield found


def figures(metrics: PoolMetrics, store: JobStore, hold: HoldUp = FREE) -> dict[str, float]:
    record = ServingRecord(1, 1.0, "demo", "debian", "safe", 2048, 2, 3, 1, False, hold)
    text = metrics.text(store, record)
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert [line for line in lines if not LINE.fullmatch(line)] == []
    assert len(set(lines)) == len(lines)
    kinds = re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE)
    assert len({name for name, _ in kinds}) == len(kinds)
    for line in lines:
        name = re.sub(r"_(bucket|sum|count)?(\{.*)? .*|(\{.*)? .*", "", line)
        assert any(name.startswith(known) or known.startswith(name) for known, _ in kinds), line
    return {key: float(value) for key, _, value in (line.rpartition(" ") for line in lines)}


def test_they_are_well_formed_when_nothing_has_happened(store: JobStore) -> None:
    found = figures(PoolMetrics(), store)
    assert found['cicd_pipeline_run_active{cicd_pipeline_run_state="pending"}'] == 0
    assert found['cicd_worker_count{cicd_worker_state="available"}'] == 3


def test_they_are_those_of_the_jobs(store: JobStore) -> None:
    metrics = PoolMetrics()
    done, runs, _waits = store.accept([Work(("true",))] * 3)
    facts = AttemptFacts("1" * 64, "2" * 64, 0.75, 3.0)
    for changed in store.record([(done.name, Began(done.submitted + 2, 1, "a"))]):
        metrics.saw(changed)
    end = Ended(done.submitted + 7, 1, "success", 0, "", 0, 1, facts)
    for changed in store.record([(done.name, end), (runs.name, Began(1.0, 1, "b"))]):
        metrics.saw(changed)
    found = figures(metrics, store, HoldUp("memory", "none"))
    assert found['cicd_pipeline_run_active{cicd_pipeline_run_state="pending"}'] == 1
    assert found['cicd_pipeline_run_active{cicd_pipeline_run_state="executing"}'] == 1
    assert found['cicd_worker_count{cicd_worker_state="busy"}'] == 1
    name = "cicd_pipeline_run_duration_seconds"
    assert found[f'{name}_sum{{cicd_pipeline_result="success"}}'] == pytest.approx(7.0, abs=1e-3)
    assert found[f'{name}_bucket{{cicd_pipeline_result="success",le="5"}}'] == 0
    assert found[f'{name}_bucket{{cicd_pipeline_result="success",le="10"}}'] == 1
    assert found["rave_pool_start_seconds_sum"] == 0.75
    assert found["rave_pool_wait_seconds_count"] == 2
    assert found['rave_pool_hold{reason="memory"}'] == 1
    assert found['cicd_system_errors_total{cicd_system_component="agent"}'] == 1


def test_every_way_to_end_has_its_name() -> None:
    assert set(RESULTS) == set(ENDINGS)
    assert len(set(RESULTS.values())) == len(ENDINGS)
