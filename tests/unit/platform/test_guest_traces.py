"""What services keep of traces, as the guest's verb reads it and the host takes it.

The platform and the guest's code know nothing of each other but this file's form, so they are put
together here.
"""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_cli.flows.traces import NAME, TracesAnswer
from rave_guest import door, registry, spans, traces
from rave_guest.refusal import Refused
from rave_platform.adapters.configuration import SPANS
from rave_platform.adapters.spans import SqliteSpans
from rave_platform.domain import tracing
from rave_platform.domain.tracing import Span, SpanKind

if TYPE_CHECKING:
    from collections.abc import Iterator

TRACE, OTHER = "a1" * 16, "b2" * 16
TASK = "3f2a91c4-6a51-5f0e-9d0a-0d7c1f6f2a11"
SECOND = 1_000_000_000


def span(name: str, start: int, end: int | None, trace: str = TRACE, **changes: Any) -> Span:
    parent = changes.pop("parent", "")
    context = tracing.named(trace, name)
    ended = None if end is None else end * SECOND
    return Span(context, parent, name, SpanKind.INTERNAL, start * SECOND, ended, **changes)


@pytest.fixture
def kept(tmp_path: Path) -> Iterator[list[str]]:
    """The spans of two services, both of which run."""
    asked = span("command run", 10, 11, attributes={"rave.task": TASK})
    with (
        SqliteSpans(tmp_path / SPANS, "chat-bridge", 7) as bridge,
        SqliteSpans(tmp_path / f"one.{SPANS}", "agent one", 7) as agent,
    ):
        bridge.keep([asked, span("command help", 20, 21, OTHER)])
        agent.keep(
            [
                span("task work", 11, None, parent=asked.context.span_id),
                span("project", 12, 13, error="there is no project"),
            ]
        )
        yield sorted(str(place) for place in tmp_path.glob(spans.FILES))


def ask(kept: list[str], action: str, **wanted: object) -> TracesAnswer:
    traces.check(action, wanted)
    said = json.loads(json.dumps(spans.traces(action, wanted, kept)))
    return TracesAnswer.model_validate(said)


def test_the_newest_traces_are_told_as_all_services_together_know_them(kept: list[str]) -> None:
    newest, oldest = ask(kept, "list", most=10).traces
    assert (newest.trace_id, newest.name, newest.going_on) == (OTHER, "command help", False)
    assert (oldest.trace_id, oldest.name, oldest.spans, oldest.errors) == (
        TRACE, "command run", 3, 1,
    )  # fmt: skip
    assert (oldest.start_time_unix_nano, oldest.end_time_unix_nano) == (10 * SECOND, 13 * SECOND)
    assert (oldest.going_on, oldest.services) == (True, ("agent one", "chat-bridge"))
    assert ask(kept, "list", most=1).traces == (newest,)
    assert ask([], "list", most=1).traces == ()


@pytest.mark.parametrize("name", ["a1a1", TRACE, "3f2a91c4", "3f2a91c4-6a51", TASK])
def test_a_trace_is_shown_by_its_id_or_its_task_s_or_how_that_begins(
    kept: list[str], name: str
) -> None:
    found = ask(kept, "show", trace=name).trace
    assert found is not None
    assert [one.name for one in found.spans] == ["command run", "task work", "project"]
    first, attempt, project = found.spans
    assert attempt.parent_span_id == first.span_id
    assert attempt.end_time_unix_nano is None
    assert (project.status.code, project.status.message) == (2, "there is no project")
    assert first.attributes == {"rave.task": TASK}
    assert project.service_name == "agent one"


def test_what_is_not_there_or_not_the_only_one_is_refused(kept: list[str], tmp_path: Path) -> None:
    with pytest.raises(Refused, match="there is no trace cccc") as caught:
        ask(kept, "show", trace="cccc")
    assert caught.value.stage == "absent"
    with SqliteSpans(tmp_path / "more-spans.db", "x", 7) as store:
        store.keep([span("another", 1, 2, "a1a1" + "0" * 28)])
        with pytest.raises(Refused, match="several traces are meant by a1a1") as caught:
            ask([*kept, str(tmp_path / "more-spans.db")], "show", trace="a1a1")
    assert caught.value.stage == "input"


def test_what_is_no_store_is_told(tmp_path: Path) -> None:
    (tmp_path / SPANS).write_text("something else")
    for place in (SPANS, "nothing-spans.db"):
        with pytest.raises(Refused, match="cannot be read") as caught:
            ask([str(tmp_path / place)], "list", most=1)
        assert caught.value.stage == "provider"


def test_root_looks_at_spans_as_their_service_s_user() -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become another user")
    with tempfile.TemporaryDirectory(prefix="rave-") as name:
        place = Path(name)
        place.chmod(0o711)
        state = place / "state"
        state.mkdir(mode=0o700)
        with SqliteSpans(state / SPANS, "chat-bridge", 7) as store:
            store.keep([span("command help", 1, 2)])
        # A file that the service puts there for root to read.
        (place / "secret").write_text("hunter2")
        (place / "secret").chmod(0o600)
        (state / "more-spans.db").symlink_to(place / "secret")
        for one in (state, *state.iterdir()):
            os.chown(one, 65534, 65534, follow_symlinks=False)
        (found,) = ask([str(state / SPANS)], "list", most=1).traces
        assert found.name == "command help"
        assert {one.lstat().st_uid for one in state.iterdir()} == {65534}
        with pytest.raises(Refused, match="cannot be read"):
            ask([str(state / "more-spans.db")], "list", most=1)


def test_every_service_that_keeps_spans_is_asked_whoever_fulfils_the_contract(
    kept: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    services = {
        "redis": {"provides": [], "state": None},
        "chat-bridge": {"provides": ["traces"], "state": {"path": str(Path(kept[0]).parent)}},
    }
    monkeypatch.setattr("rave_guest.plan.own", lambda: {"services": services})
    request = {"action": "list", "by": "alice@host", "arguments": {"most": 5}}
    found = door.VERBS["traces"](request)
    assert len(TracesAnswer.model_validate(found).traces) == 2
    for name in ("chat-bridge", "webhook-dispatcher"):
        assert registry.service(name).traces is spans.traces  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("action", "wanted", "stage"),
    [("list", {"most": 0}, "input"), ("list", {"most": 1001}, "input"),
     ("list", {"most": True}, "input"), ("list", {}, "request"), ("gone", {}, "request"),
     ("show", {"trace": "abc"}, "input"), ("show", {"trace": 1}, "input"),
     ("show", {"trace": "%%%%"}, "input"), ("show", {"trace": TRACE, "most": 1}, "request")],
)  # fmt: skip
def test_a_request_that_is_none_is_refused(
    action: str, wanted: dict[str, object], stage: str
) -> None:
    with pytest.raises(Refused) as caught:
        traces.check(action, wanted)
    assert caught.value.stage == stage


@given(st.text(max_size=40) | st.text("0123456789abcdef-%", max_size=40))
def test_host_and_guest_take_the_same_names_which_hold_nothing_but_digits(name: str) -> None:
    try:
        traces.check("show", {"trace": name})
    except Refused:
        assert not NAME.fullmatch(name)
    else:
        assert NAME.fullmatch(name)
        assert set(name) <= set("0123456789abcdef-")
