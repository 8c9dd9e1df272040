"""The document and its event log tell of one run: in every field of every check, or not at all."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.transcripts import (
    CHECKS,
    EVENTS,
    Run,
    begin,
    forge,
    make_check,
    make_key,
    make_record,
    make_run,
    make_subject,
    reason,
    refusal,
    tell,
)

from rave_cli.errors import ExitCode, RaveError
from rave_cli.transcript import CheckResult, EventLog, Reason, RunRecord, siblings, write
from rave_cli.transcript.check import MEMBERS, SEVERITIES, STATUSES, VIEWPOINTS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

# A file system that syncs takes longer than all the rest.
pytestmark = pytest.mark.usefixtures("unsynced")
examples = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@pytest.fixture(scope="module")
def unsynced() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        yield


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return make_run(tmp_path_factory.mktemp("run"))


@pytest.fixture
def run(good: Run, tmp_path: Path) -> Run:
    """Return a copy of a good transcript."""
    for path in good.paths:
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return replace(good, files=siblings(tmp_path / good.files.document.name))


# --- results at random

NUMBERS = st.integers() | st.just(10**400) | st.floats()
LEAVES = st.none() | st.booleans() | NUMBERS | st.text(st.characters(), max_size=20)
DATA = st.dictionaries(
    st.text(st.characters(), max_size=10),
    st.recursive(
        LEAVES,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=8,
    ),
    max_size=4,
)


@st.composite
def checks(draw: st.DrawFn) -> list[CheckResult]:
    ids = draw(st.lists(st.from_regex(r"[a-z][a-z0-9.-]{0,12}", fullmatch=True), unique=True))
    return [
        CheckResult(
            id=id_,
            phase=draw(st.sampled_from(["boot", "health", "sign-in"])),
            title=draw(st.text(st.characters(), max_size=20)),
            status=draw(st.sampled_from(STATUSES)),
            severity=draw(st.sampled_from(SEVERITIES)),
            viewpoint=draw(st.sampled_from(VIEWPOINTS)),
            seconds=draw(st.floats(0, 2)),
            attempts=draw(st.integers(0, 10_000)),
            detail=draw(st.text(st.characters(), max_size=40) | st.just("x" * 40_000)),
            data=draw(DATA),
        )
        for id_ in ids
    ]


@examples
@given(checks())
def test_whatever_was_found_stands_in_both_and_verifies(
    tmp_path_factory: pytest.TempPathFactory, found: list[CheckResult]
) -> None:
    run = make_run(tmp_path_factory.mktemp("any"), record=make_record(checks=tuple(found)))
    document = json.loads(run.files.document.read_bytes())
    log = [json.loads(line) for line in run.files.events.read_bytes().splitlines()]
    told = {
        event["data"]["id"]: event["data"] | {"phase": event["phase"]}
        for event in log
        if event["kind"] == "check"
    }
    assert {check["id"]: check for check in document["validation_results"]} == told
    assert [check["id"] for check in document["validation_results"]] == [c.id for c in found]
    for check, result in zip(found, document["validation_results"], strict=True):
        assert list(result) == list(MEMBERS)
        for name in ("phase", "status", "severity", "viewpoint", "attempts"):
            assert result[name] == getattr(check, name)
        assert result["seconds"] == round(check.seconds, 3)
        assert result["data"].keys() == {
            name.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            for name in check.data
        }
    if document["overall_status"] == "FAILED":
        assert reason(run) is Reason.FAILED
    else:
        assert run.verify().format == 3


def test_deep_and_long_data_are_the_same_in_both(tmp_path: Path) -> None:
    """The data lie deeper in the document than in an event, and are recorded more than once."""
    nested: Any = "bottom"
    for _ in range(40):
        nested = {"in": [nested]}
    odd = make_check("a", data={"deep": nested, "long": "y" * 50_000, "nan": math.nan})
    run = make_run(tmp_path, record=make_record(checks=(odd, *CHECKS)))
    assert run.verify().status == "SUCCESS"
    data = json.loads(run.files.document.read_bytes())["validation_results"][0]["data"]
    assert data["long"].count("more characters]") == 1
    assert "[nested too deeply]" in json.dumps(data["deep"])


# --- one field at a time

OTHERS: dict[str, list[Any]] = {
    "id": ["redis.pong", "", 7],
    "phase": ["boot", "Boot", None],
    "title": ["something else", ["a"]],
    "status": ["warn", "skip", "fine"],
    "severity": ["warning", "low"],
    "viewpoint": ["outside", "host", "moon"],
    "seconds": [0.4, 0, -1.0, 1e300, "0.5", True],
    "attempts": [1, 2.0, 0, -2, True, 10**300],
    "detail": ["PANG", "", None],
    "data": [{}, {"milliseconds": [1, 2.50001]}, {"milliseconds": [1.0, 2.5]}, [], None],
}


def test_every_field_of_a_check_is_tried() -> None:
    assert set(OTHERS) == set(MEMBERS)


CHANGES = [(name, value) for name, values in OTHERS.items() for value in values]


@pytest.mark.parametrize(("name", "value"), CHANGES)
def test_a_field_that_only_the_document_says_otherwise_is_refused(
    run: Run, name: str, value: Any
) -> None:
    def change(members: dict[str, Any]) -> None:
        members["validation_results"][1][name] = value
        if name == "status":
            members["test_summary"] |= {"passed": 1, f"{value}ed".replace("pp", "ppp"): 1}

    forge(run, document=change)
    error = refusal(run.verify)
    assert error.reason in (Reason.MISMATCH, Reason.MALFORMED)
    if error.reason is Reason.MISMATCH and name not in ("id", "status"):
        assert error.detail[0] == f"redis.ping: {name} differs"


def check_event(log: list[dict[str, Any]], id_: str = "redis.ping") -> dict[str, Any]:
    return next(e for e in log if e["kind"] == "check" and e["data"]["id"] == id_)


@pytest.mark.parametrize(("name", "value"), [*CHANGES, ("more", 1)])
def test_a_field_that_only_the_event_log_says_otherwise_is_refused(
    run: Run, name: str, value: Any
) -> None:
    def change(log: list[dict[str, Any]]) -> None:
        event = check_event(log)
        (event if name == "phase" else event["data"])[name] = value

    forge(run, events=change)
    assert reason(run) in (Reason.MISMATCH, Reason.EVENTS)


@examples
@given(st.data())
def test_any_single_change_of_any_check_is_refused(
    good: Run, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Once in the document, once in the log, at any depth of the data."""
    directory = tmp_path_factory.mktemp("change")
    for path in good.paths:
        (directory / path.name).write_bytes(path.read_bytes())
    run = replace(good, files=siblings(directory / good.files.document.name))
    name = data.draw(st.sampled_from(MEMBERS))
    number = data.draw(st.integers(0, len(CHECKS) - 1))
    was = CHECKS[number].document()[name]
    value = data.draw(
        (DATA | LEAVES).filter(lambda found: canonical_text(found) != canonical_text(was))
    )

    def in_document(members: dict[str, Any]) -> None:
        members["validation_results"][number][name] = json.loads(canonical_text(value))

    def in_log(log: list[dict[str, Any]]) -> None:
        event = check_event(log, CHECKS[number].id)
        (event if name == "phase" else event["data"])[name] = json.loads(canonical_text(value))

    if data.draw(st.booleans()):
        forge(run, document=in_document)
    else:
        forge(run, events=in_log)
    refusal(run.verify)


def canonical_text(value: Any) -> str:
    from rave_cli.transcript.canonical import line_bytes, to_json

    return line_bytes(to_json(value)).decode()


# --- checks that are missing, too many, or elsewhere


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (lambda log: log.remove(check_event(log)), "redis.ping: the event log does not have it"),
        (lambda log: log.insert(7, check_event(log)), "redis.ping: the event log has it twice"),
        (
            lambda log: log.insert(7, check_event(log) | {"data": {"id": "a.b"}}),
            "line 8: a check that the document does not have",
        ),
        (
            lambda log: log.insert(7, check_event(log) | {"data": {}}),
            "line 8: a check that the document does not have",
        ),
        (lambda log: check_event(log).update(phase="boot"), "redis.ping: phase differs"),
        (lambda log: log.insert(7, log[1]), "subject: the event log does not say once, and first"),
        (lambda log: log.pop(1), "subject: the event log does not say once, and first"),
        (lambda log: log.insert(7, log[2]), "image: another digest was read before the checks"),
        (lambda log: log.pop(-2), "image: another digest was read after the checks"),
        (
            lambda log: log[2]["data"].update(sha256="0" * 64),
            "image: another digest was read before the checks",
        ),
        (lambda log: log[5]["data"].update(boot_id=None), "guest_boot_id: the guest said"),
        (lambda log: log.pop(5), "guest_boot_id: the guest said"),
        (
            lambda log: log.insert(7, log[3] | {"kind": "abort"}),
            "abort: the event log says that the run was aborted",
        ),
        (lambda log: log[-1]["data"].update(status="WARNING"), "start, end or status"),
    ],
)
def test_what_the_event_log_leaves_out_or_adds_is_refused(
    run: Run, change: Callable[[list[dict[str, Any]]], None], line: str
) -> None:
    def with_end(log: list[dict[str, Any]]) -> None:
        change(log)
        log[-1]["data"]["count"] = len(log)

    forge(run, events=with_end)
    error = refusal(run.verify)
    assert error.reason is Reason.MISMATCH
    assert error.detail[0].startswith(line)


def test_a_check_that_only_the_event_log_has_is_refused(run: Run) -> None:
    def leave_out(members: dict[str, Any]) -> None:
        del members["validation_results"][2]
        members["test_summary"] |= {"total_tests": 2, "skipped": 0}

    forge(run, document=leave_out)
    assert refusal(run.verify).detail == (
        "checks: the event log names another",
        "line 7: a check that the document does not have",
    )


def test_the_checks_stand_in_the_order_of_the_suite(run: Run) -> None:
    forge(run, document=lambda members: members["validation_results"].reverse())
    assert refusal(run.verify).detail == ("checks: the event log names another",)


# --- what the run was about

SUBJECT_CHANGES: list[tuple[str, Any]] = [
    ("profile", "production"),
    ("base", "nixos"),
    ("mode", "full"),
    ("machine", {"name": "other", "instance": "0f" * 16, "network": "isolated"}),
    ("machine", {"name": "demo", "instance": "0e" * 16, "network": "isolated"}),
    ("machine", {"name": "demo", "instance": "0f" * 16, "network": "nat"}),
    ("packages", {"lock": "ce" * 32, "trusted": []}),
    ("packages", {"lock": None, "trusted": []}),
    ("packages", {"lock": "cd" * 32, "trusted": ["0F" * 20]}),
    ("tools", {"qemu": "7.2.0", "sops": "3.11.1"}),
    ("configuration", {"flake.lock": "cd" * 32}),
    ("configuration", {}),
    ("checks", ["image.integrity", "redis.ping"]),
    ("more", 1),
]


@pytest.mark.parametrize(("name", "value"), SUBJECT_CHANGES)
def test_a_log_about_something_else_is_refused(run: Run, name: str, value: Any) -> None:
    forge(run, events=lambda log: log[1]["data"].update({name: value}))
    error = refusal(run.verify)
    assert error.reason is Reason.MISMATCH
    assert error.detail == (
        f"{'subject' if name == 'more' else name}: the event log names another",
    )


@pytest.mark.parametrize(("name", "value"), SUBJECT_CHANGES[:-2])
def test_a_document_about_something_else_is_refused(run: Run, name: str, value: Any) -> None:
    forge(run, document=lambda members: members.update({name: value}))
    assert refusal(run.verify).detail == (f"{name}: the event log names another",)


@pytest.mark.parametrize("name", ["name", "sha256", "store_path", "nar_hash"])
def test_a_log_about_another_image_is_refused(run: Run, name: str) -> None:
    forge(run, events=lambda log: log[1]["data"]["image"].update({name: "0" * 64}))
    assert refusal(run.verify).detail == ("image: the event log names another",)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["machine"].update(name="\x1b[2J"),
        lambda m: m["machine"].update(more="x"),
        lambda m: m["machine"].pop("network"),
        lambda m: m.update(mode=""),
        lambda m: m["image"].pop("sha256_built"),
        lambda m: m["image"].update(sha256_built="x"),
        lambda m: m.update(redactions=-1),
        lambda m: m["test_summary"].update(passed=2.0),
    ],
)
def test_a_document_whose_subject_is_none_is_malformed(
    run: Run, change: Callable[[dict[str, Any]], None]
) -> None:
    forge(run, document=change)
    assert reason(run) is Reason.MALFORMED


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (
            lambda m: m["service_health"]["redis"].update(status="unhealthy"),
            "service_health of 'redis': it does not follow from the checks",
        ),
        (
            lambda m: m["service_health"]["redis"]["checks"].update({"oidc.login": "pass"}),
            "service_health of 'redis': it does not follow from the checks",
        ),
        (
            lambda m: m["service_health"]["redis"]["checks"].update({"a": "pass"}),
            "service_health of 'redis': it names a check that the document does not have",
        ),
        (
            lambda m: m["security_validation"].update(critical_findings=1),
            "security_validation: it does not follow from the checks",
        ),
        (
            lambda m: m["performance_metrics"].update(boot_seconds=9.5),
            "performance_metrics: 'boot_seconds' is not among the data of the checks",
        ),
        (
            lambda m: m["performance_metrics"].update({"redis.ping_ms": [1.0, 2.5]}),
            "performance_metrics: 'redis.ping_ms' is not among the data of the checks",
        ),
        (
            lambda m: m["system_info"].update(kernel="6.2"),
            "system_info: the guest said something else of 'kernel'",
        ),
        (
            lambda m: m.update(sandbox_tests={"status": "healthy", "checks": {}}),
            "sandbox_tests: it does not follow from the checks",
        ),
    ],
)
def test_parts_that_do_not_follow_from_the_checks_are_refused(
    run: Run, change: Callable[[dict[str, Any]], None], line: str
) -> None:
    forge(run, document=change)
    error = refusal(run.verify)
    assert (error.reason, error.detail) == (Reason.MISMATCH, (line,))


# --- times that cannot be


def at(number: int, **changes: Any) -> Callable[[list[dict[str, Any]]], None]:
    return lambda log: log[number - 1].update(changes)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        (at(4, time="2026-01-24T14:30:51Z"), "time: an event comes before"),
        (at(4, time="2020-01-01T00:00:00Z"), "time: an event comes before"),
        (at(4, time="2026-01-24T14:50:00Z"), "time: an event comes before"),
        (at(4, time="soon"), "a time cannot be read"),
        (at(4, time="2026-1-24T14:30:55Z"), "a time cannot be read"),
        (at(4, mono=-0.001), "line 4: no event comes then"),
        (at(4, mono=0.5), "mono: an event comes before"),
        (at(4, mono=10**299), "line 4: the time of day and the time since the start disagree"),
        (at(EVENTS, mono=11.5), "duration_seconds: the event log ends at another time"),
        (at(8, mono=7.5), None),
    ],
)
def test_an_event_at_a_time_that_cannot_be_is_refused(
    run: Run, change: Callable[[list[dict[str, Any]]], None], line: str | None
) -> None:
    forge(run, events=change)
    if line is None:  # the clocks may differ a little
        assert run.verify().status == "SUCCESS"
        return
    error = refusal(run.verify)
    assert error.reason is Reason.TIMES
    assert any(found.startswith(line) for found in error.detail)


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"duration_seconds": -1.0}, "duration_seconds: no run takes that long"),
        ({"duration_seconds": 1e300}, "duration_seconds: longer than from start_time"),
        ({"duration_seconds": 10**299}, "duration_seconds: longer than from start_time"),
        ({"duration_seconds": 9.5}, "duration_seconds: the event log ends at another time"),
        ({"duration_seconds": 11}, "duration_seconds: the event log ends at another time"),
        ({"performance_metrics": {"checks_seconds": -1}}, "'checks_seconds' is negative"),
        ({"performance_metrics": {"phase_seconds": [{"b": -0.1}]}}, "'phase_seconds' is negative"),
        ({"performance_metrics": {"checks_seconds": 12}}, "a part of the run took longer"),
        ({"performance_metrics": {"phase_seconds": {"boot": 60}}}, "a part of the run took longer"),
        ({"test_session_id": "spinup-20260124-143053"}, "the event log is of another run"),
    ],
)
def test_a_duration_that_cannot_be_is_refused(run: Run, change: dict[str, Any], line: str) -> None:
    forge(run, document=lambda members: members.update(change))
    error = refusal(run.verify)
    assert error.reason in (Reason.TIMES, Reason.MISMATCH)
    assert any(line in text for text in (error.message, *error.detail))


def test_a_session_named_after_another_time_is_refused(run: Run) -> None:
    name = "spinup-20200101-000000"
    forge(
        run,
        events=lambda log: log[0]["data"].update(session=name),
        document=lambda members: members.update(test_session_id=name),
    )
    error = refusal(run.verify)
    assert (error.reason, error.detail[0][:15]) == (Reason.TIMES, "test_session_id")


def test_a_check_that_took_longer_than_the_run_is_refused(run: Run) -> None:
    forge(
        run,
        events=lambda log: check_event(log)["data"].update(seconds=8.5),
        document=lambda members: members["validation_results"][1].update(seconds=8.5),
    )
    assert refusal(run.verify).detail == (
        "redis.ping: it took longer than the run had been going on",
    )


def test_a_run_from_the_future_is_refused_whatever_its_clock_said(tmp_path: Path) -> None:
    from datetime import timedelta

    from tests.transcripts import NOW

    assert reason(make_run(tmp_path, start=NOW + timedelta(days=400))) is Reason.FUTURE


# --- writing: what no verifier would believe is not signed


def writing(tmp_path: Path, events: EventLog, record: RunRecord) -> RaveError:
    with events, pytest.raises(RaveError, match="contradicts itself") as caught:
        write(tell(events, record), events, make_key(tmp_path / "keys"))
    assert caught.value.exit_code is ExitCode.CHECK_FAILED
    assert [path.suffix for path in (tmp_path / "artifacts").iterdir()] == [".ndjson"]
    return caught.value


def test_a_clock_that_was_set_during_the_run_is_said_at_once(tmp_path: Path) -> None:
    from datetime import timedelta

    events = begin(tmp_path / "artifacts")
    events._clock.next += timedelta(hours=1)  # type: ignore[attr-defined]
    error = writing(tmp_path, events, make_record())
    assert "timedatectl" in (error.hint or "")
    assert "the time of day and the time since the start disagree" in error.detail[0]


def test_a_record_that_differs_from_its_events_is_not_signed(tmp_path: Path) -> None:
    events = begin(tmp_path / "artifacts")
    tell(events, make_record())
    other = make_record(checks=(CHECKS[0], replace(CHECKS[1], viewpoint="host"), CHECKS[2]))
    with events, pytest.raises(RaveError, match="contradicts itself") as caught:
        write(other, events, make_key(tmp_path / "keys"))
    assert caught.value.detail == ("redis.ping: viewpoint differs",)


def test_many_faults_are_counted_rather_than_all_shown(tmp_path: Path) -> None:
    many = tuple(make_check(f"check.{n}") for n in range(50))
    run = make_run(tmp_path, record=make_record(checks=many))

    def change(members: dict[str, Any]) -> None:
        for result in members["validation_results"]:
            result["viewpoint"] = "host"

    forge(run, document=change)
    detail = refusal(run.verify).detail
    assert (len(detail), detail[-1]) == (21, "and 30 more")
    assert make_subject(many).checks[0] == "check.0"
