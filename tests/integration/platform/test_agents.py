"""Real agents before real NATS: from a sentence in a chat to what is merged, whatever is killed."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Any

import pytest

from rave_guest import spans
from tests.integration.platform.agents import AgentPlatform, memory
from tests.waiting import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PROJECT = "rave/shop"
# MiB of an agent that waits for a task.
IDLE = 45


@pytest.fixture
def found(tmp_path: Path) -> Iterator[AgentPlatform]:
    with AgentPlatform(tmp_path) as made:
        made.nats.start()
        yield made
    assert made.gitlab.complaints == []


def test_from_a_sentence_to_what_is_merged(found: AgentPlatform) -> None:
    found.bridge.start()
    agent = found.agent("backend-architect")
    agent.start()
    listing = ""

    def listed() -> bool:
        nonlocal listing
        root = found.say("!rave agents")
        listing = found.hear(root, "")
        return "backend-architect one" in listing

    until(listed)
    assert listing == "backend-architect one: waits for a task"
    assert memory(agent, "VmRSS") <= IDLE
    made = found.say('!rave create project shop "Sells things"')
    assert found.hear(made, "accepted") == found.answers(made)[0]
    assert found.hear(made, "completed").endswith("completed. https://gitlab.test/rave/shop")
    # What it writes, and how its tests run, is real.
    asked = found.say("!rave run backend-architect shop Add an end point that says hello")
    short = found.hear(asked, "accepted").split()[1]
    assert "waits for one" not in found.answers(asked)[0]
    url = found.hear(asked, "completed").split()[-1]
    assert url == "https://gitlab.test/rave/shop/-/merge_requests/1"
    (request,) = found.gitlab.projects[PROJECT].requests
    assert "Tests: 4 passed" in request["description"]
    status = found.say(f"!rave status {short}")
    assert "completed" in found.hear(status, short)
    approval = found.say(f"!rave approve {short} looks good")
    assert "approved by alice" in found.hear(approval, short)
    assert found.hear(asked, "merged") == f"Task {short}: merged: {url}."
    assert request["state"] == "merged"
    # Each service writes down its spans a moment after they have ended.
    until(lambda: "approve" in {one["name"] for one in whole(traced(found, short))}, pause=0.1)
    require_one_tree(traced(found, short), found.gitlab.headers)
    # The other ways that it may end.
    other = found.say("!rave run backend-architect nowhere Say hello")
    assert "there is no project nowhere" in found.hear(other, "failed")
    unwanted = found.say("!rave run backend-architect shop Say something else")
    short = found.hear(unwanted, "accepted").split()[1]
    found.hear(unwanted, "completed")
    found.say(f"!rave reject {short} no")
    assert "closed without being merged" in found.hear(unwanted, "closed")
    waiting = found.say("!rave run ai-engineer shop Never done")
    assert "No ai-engineer is there now" in found.hear(waiting, "accepted")
    short = found.hear(waiting, "accepted").split()[1]
    found.hear(found.say(f"!rave cancel {short} too late"), "cancelled by alice")
    found.agent("ai-engineer").start()
    assert "cancelled by alice: too late" in found.hear(waiting, "failed")
    assert agent.end(signal.SIGTERM) == 0


def traced(found: AgentPlatform, short: str) -> list[dict[str, Any]]:
    """Return the spans of a task's trace, as the guest's verb reads what its services keep."""
    files = [str(place) for place in sorted(found.place.rglob(spans.FILES))]
    found_: list[dict[str, Any]] = spans.traces("show", {"trace": short}, files)["trace"]["spans"]
    return found_


def whole(found: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return spans if those that they come of are there, too; else none."""
    known = {one["span_id"] for one in found} | {""}
    return found if {one["parent_span_id"] for one in found} <= known else []


def require_one_tree(found: list[dict[str, Any]], headers: Sequence[str]) -> None:
    """See to it that one trace goes from the sentence to the merge, of one piece."""
    assert len({one["trace_id"] for one in found}) == 1
    known = {one["span_id"]: one for one in found}
    roots = [one["name"] for one in found if not one["parent_span_id"]]
    assert roots == ["command run", "command approve"]
    assert {one["parent_span_id"] for one in found} - {""} <= set(known)
    assert all(one["status"]["code"] == 0 for one in found), found

    def above(one: dict[str, Any]) -> list[str]:
        names = []
        while one["parent_span_id"]:
            one = known[one["parent_span_id"]]
            names.append(f"{one['service_name'].split()[0]}: {one['name']}")
        return names

    (request,) = [one for one in found if one["name"] == "request"]
    assert above(request) == [
        "agent: task work", "chat-bridge: hand over", "chat-bridge: command run",
    ]  # fmt: skip
    merge = [one for one in found if one["attributes"].get("url.path", "").endswith("/merge")]
    assert above(merge[-1]) == [
        "agent: approve", "chat-bridge: hand over", "chat-bridge: command approve",
    ]  # fmt: skip
    said = [above(one)[0] for one in found if one["name"] == "say"]
    assert sorted(set(said)) == [
        "agent: hand over", "chat-bridge: command approve", "chat-bridge: command run",
    ]  # fmt: skip
    # The forge was told of each call.
    calls = {one["span_id"] for one in found if one["kind"] == 3 and one["name"] != "say"}
    assert calls <= {header.split("-")[2] for header in headers if header}
