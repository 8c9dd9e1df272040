"""Traces reach a collector as OTLP says, each until it is taken; one that is dead costs nobody."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from rave_cli import __version__
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.api import certificate
from rave_cli.pool.jobs.job import AttemptFacts, AttemptPhase, Began, Ended
from rave_cli.pool.jobs.store import JobStore
from rave_cli.pool.jobs.work import Work
from rave_cli.pool.serving import exporting, otlp
from rave_cli.pool.serving.exporting import TraceExporter
from rave_cli.pool.serving.metrics import PoolMetrics
from tests.waiting import NEVER, until

from .collectors import StrictCollector, collecting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ASKED = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
SECRET = "hunter2"


@pytest.fixture
def store(tmp_path: Path) -> Iterator[JobStore]:
    with JobStore(tmp_path / "pool/jobs.sqlite") as found:
        yield found


@pytest.fixture
def collector() -> Iterator[StrictCollector]:
    with collecting() as found:
        yield found


def exporter(store: JobStore, url: str) -> TraceExporter:
    return TraceExporter(otlp.collector(url), store.place, PoolMetrics("demo"), "demo")


def ends(store: JobStore, traceparent: str = "") -> str:
    """Let a job come to its end; return its name."""
    work = Work((SECRET,), environment=(("A", SECRET),), secrets=(SECRET,), traceparent=traceparent)
    (job,) = store.accept([work])
    facts = AttemptFacts(
        came="failure", phases=(AttemptPhase("restore", 0, 0.5), AttemptPhase("command", 0.5, 1))
    )
    at = job.submitted
    store.record(
        [(job.name, Began(at + 1, 1, "host-1")),
         (job.name, Ended(at + 2, 1, "failure", 3, SECRET, 1, 0, facts))],
        exports=True,
    )  # fmt: skip
    return job.name


def test_a_job_reaches_the_collector_as_it_went(
    store: JobStore, collector: StrictCollector
) -> None:
    name = ends(store, ASKED)
    mine = exporter(store, collector.url)
    assert mine.turn(store) == 0
    assert mine.turn(store) == exporting.LOOK
    assert (collector.faults, len(collector.requests), store.due_count()) == ([], 1, 0)
    (resource,) = collector.requests[0].resource_spans
    said = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert said == {
        "service.name": "rave-pool", "service.version": __version__, "cicd.pipeline.name": "demo",
    }  # fmt: skip
    whole, *parts = collector.spans
    assert (whole.name, whole.kind, whole.status.code) == ("RUN", 2, 2)
    assert (whole.trace_id.hex(), whole.parent_span_id.hex()) == (ASKED[3:35], ASKED[36:52])
    assert whole.flags == 0x301
    attributes = {one.key: one.value.string_value for one in whole.attributes}
    assert attributes == {
        "cicd.pipeline.action.name": "RUN", "cicd.pipeline.run.id": name,
        "cicd.pipeline.result": "failure", "error.type": "failure",
    }  # fmt: skip
    assert {span.name for span in parts} == {"submit", "attempt", "restore", "command", "result"}
    ids = {span.span_id for span in collector.spans}
    for span in parts:
        assert span.trace_id == whole.trace_id
        assert span.parent_span_id in ids
        assert whole.start_time_unix_nano <= span.start_time_unix_nano <= span.end_time_unix_nano
    assert abs(whole.start_time_unix_nano / 1e9 - store.load(name).submitted) < 1e-5
    assert SECRET not in str(collector.requests)


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_it_cannot_take_now_it_is_told_later(
    store: JobStore, collector: StrictCollector, status: int
) -> None:
    ends(store)
    collector.answers = [(status, {"Retry-After": "7"}, b""), (status, {}, b"")]
    mine = exporter(store, collector.url)
    assert mine.turn(store) == 7
    assert 0 <= mine.turn(store) <= exporting.FIRST_WAIT * 4
    assert store.due_count() == 1
    assert mine.turn(store) == 0
    assert (store.due_count(), len(collector.requests)) == (0, 1)


def test_what_it_refuses_is_dropped_and_counted(
    store: JobStore, collector: StrictCollector, caplog: pytest.LogCaptureFixture
) -> None:
    ends(store)
    collector.answers = [(400, {}, b"no"), (200, {}, b'{"partialSuccess": {"rejectedSpans": "2"}}')]
    mine = exporter(store, collector.url)
    assert mine.turn(store) == 0
    ends(store)
    assert mine.turn(store) == 0
    assert store.due_count() == 0
    figures = mine._metrics.text(store)
    assert 'rave_pool_traces_total{outcome="dropped"} 1\n' in figures
    assert 'rave_pool_traces_total{outcome="exported"} 1\n' in figures
    assert [record.message for record in caplog.records] == [
        "the collector of traces: it answers 400", "the collector of traces: it rejected 2 spans",
    ]  # fmt: skip


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{", b"\xff", b'{"partialSuccess": null}', b"0" * 999]
)
def test_whatever_it_answers_with_success_it_took(
    store: JobStore, collector: StrictCollector, answer: bytes
) -> None:
    ends(store)
    collector.answers = [(200, {}, answer)]
    assert exporter(store, collector.url).turn(store) == 0


def test_jobs_end_and_serving_ends_whatever_the_collector_does(
    store: JobStore, collector: StrictCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Whoever waited for its answer would wait for ever.
    monkeypatch.setattr(otlp, "ANSWERS", NEVER)
    monkeypatch.setattr(exporting, "ENDS", 0.1)
    collector.goes_on.clear()
    mine = exporter(store, collector.url)
    with mine.working():
        ends(store)
        # It has the first one, and says nothing.
        names = [ends(store) for _ in range(20)]
        assert all(store.load(name).over for name in names)
    assert store.due_count() == 21
    # It comes to itself, and the next one who serves tells it all.
    collector.goes_on.set()
    with exporter(store, collector.url).working():
        until(lambda: store.due_count() == 0)
    assert len({span.trace_id for span in collector.spans}) == 21
    assert collector.faults == []


def test_one_that_is_not_there_costs_the_oldest_traces_alone(
    store: JobStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rave_cli.pool.jobs.history.MOST_DUE", 2)
    names = [ends(store) for _ in range(5)]
    mine = exporter(store, "http://127.0.0.1:9")
    assert mine.turn(store) <= exporting.FIRST_WAIT * 2
    assert [name for _, name in store.due(9)] == names[3:]
    assert 'rave_pool_traces_total{outcome="dropped"} 3\n' in mine._metrics.text(store)
    assert "rave_pool_traces_due 2\n" in mine._metrics.text(store)


def test_headers_go_along_and_never_over_a_network_as_they_are(
    store: JobStore, collector: StrictCollector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(otlp.HEADERS, f"Authorization=Bearer%20{SECRET}, x-scope=a")
    ends(store)
    assert exporter(store, collector.url).turn(store) == 0
    assert collector.headers[0]["Authorization"] == f"Bearer {SECRET}"
    assert collector.headers[0]["x-scope"] == "a"
    assert (
        otlp.collector("https://collector.example/x/").url
        == "https://collector.example/x/v1/traces"
    )
    with pytest.raises(RaveError) as refused:
        otlp.collector("http://collector.example:4318")
    assert refused.value.exit_code == ExitCode.USAGE
    assert SECRET not in f"{refused.value.message} {refused.value.hint}"


@pytest.mark.parametrize(
    "endpoint", ["collector:4318", "ftp://x", "http://", "http://u:p@x", "http://x?a"]
)
def test_what_names_no_collector_is_refused(endpoint: str) -> None:
    with pytest.raises(RaveError, match="names no collector"):
        otlp.collector(endpoint)


@pytest.mark.parametrize("text", ["a", "a b=c", f"a=%0a{SECRET}", f"a=\xe4{SECRET}"])
def test_what_is_no_header_is_refused_and_not_shown(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(otlp.HEADERS, text)
    with pytest.raises(RaveError) as refused:
        otlp.collector("https://x")
    assert SECRET not in refused.value.message


def test_over_tls_it_is_believed_by_its_certificate_alone(
    store: JobStore, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert home.exists()
    name = ends(store)
    made = certificate.own("127.0.0.1")
    with collecting(tls=(made.certificate, made.key)) as collector:
        assert exporter(store, collector.url).turn(store) > 0
        assert (collector.spans, store.due_count()) == ([], 1)
        monkeypatch.setenv("SSL_CERT_FILE", str(made.certificate))
        assert exporter(store, collector.url).turn(store) == 0
    assert collector.spans[0].trace_id.hex() == store.load(name).trace
    assert store.due_count() == 0


@pytest.mark.parametrize("port", ["0", "x", "65536"])
def test_a_port_that_is_none_names_no_collector(port: str) -> None:
    with pytest.raises(RaveError, match="names no collector"):
        otlp.collector(f"http://localhost:{port}")
