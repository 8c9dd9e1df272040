"""What writes files: templates whose tests pass whatever is asked for, and a coding agent."""

from __future__ import annotations

import ast
import asyncio
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_platform.adapters import commands
from rave_platform.adapters.agents import workspace
from rave_platform.adapters.agents.llm import LlmCommand, LlmRunner, UnconfiguredRunner
from rave_platform.adapters.agents.template import TemplateRunner, scaffold
from rave_platform.application.agents.ports import TaskFailedError
from rave_platform.domain.agents.limits import TaskLimits
from rave_platform.domain.forge import MOST_BYTES
from rave_platform.domain.tasks import AgentKind
from tests.unit.platform.agents.world import task
from tests.waiting import NEVER, until

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_platform.application.agents.ports import Written

ALLOWED = TaskLimits(seconds=240)

texts = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=100).filter(
    lambda text: text.strip()
)
HOSTILE = '''Say "hello" </p><script>alert(1)</script> ${x} $y \\' \\n """ \u2028 😀
and a line'''


# --- templates


@pytest.mark.parametrize("agent", list(AgentKind))
def test_the_tests_of_a_template_pass_whatever_is_asked_for(agent: AgentKind) -> None:
    runner, found = TemplateRunner(ALLOWED), task(agent=agent, instruction=HOSTILE)

    async def work() -> str:
        written = await runner.write(found, {}, 0.0)
        assert written.cost == 0.0
        assert not runner.reads
        return await runner.test(found, written.files)

    assert asyncio.run(work()).endswith(" passed")


@settings(max_examples=40, deadline=None)
@given(texts, st.sampled_from(AgentKind))
def test_what_people_write_is_a_literal_in_what_is_written(text: str, agent: AgentKind) -> None:
    found = task(agent=agent, instruction=text)
    files = scaffold(found)
    assert files == scaffold(found)
    literals = []
    for path, data in files.items():
        if path.endswith(".py"):
            tree = ast.parse(data)
            literals += [n.value for n in ast.walk(tree) if isinstance(n, ast.Constant)]
        if path.endswith(".html"):
            assert b"<script" not in data
    assert text in literals


def test_tests_that_fail_or_are_none_are_said_to_have_failed() -> None:
    found = task()
    runner = TemplateRunner(ALLOWED)
    files = dict(scaffold(found))
    (path,) = [path for path in files if "test_" in path]
    for body in (b"import unittest\nclass T(unittest.TestCase):\n  def test_x(self): 1/0\n", b""):
        with pytest.raises(TaskFailedError, match="its tests fail"):
            asyncio.run(runner.test(found, {**files, path: body}))


# --- programs


def test_a_program_sees_nothing_of_ours_and_no_more_memory_than_it_may(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", "/run/credentials")
    shown = "import os, json; print(json.dumps(dict(os.environ)))"
    end = asyncio.run(workspace.run([sys.executable, "-c", shown], tmp_path, ALLOWED, KEY="k"))
    seen = json.loads(end.out)
    assert "CREDENTIALS_DIRECTORY" not in seen
    assert seen["KEY"] == "k"
    greedy = "x = bytearray(600 * 1024 * 1024)"
    end = asyncio.run(workspace.run([sys.executable, "-c", greedy], tmp_path, ALLOWED))
    assert end.code != 0
    assert b"MemoryError" in end.err


def test_nothing_of_a_program_is_left_when_it_is_no_longer_wanted(tmp_path: Path) -> None:
    # A child of the child, which does not die with it.
    script = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(1e6)'])\n"
        "open('pid', 'w').write(str(child.pid))\n"
        "time.sleep(1e6)\n"
    )

    async def work() -> None:
        running = asyncio.create_task(
            workspace.run([sys.executable, "-c", script], tmp_path, TaskLimits(seconds=NEVER))
        )
        while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
            await asyncio.sleep(0.01)
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)

    asyncio.run(work())
    pid = int((tmp_path / "pid").read_text())
    until(lambda: not alive(pid))


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
        # One that nobody waits for yet is no longer there either.
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][0] != "Z"
    except (ProcessLookupError, FileNotFoundError):
        return False


def test_of_what_a_program_says_the_end_is_kept(tmp_path: Path) -> None:
    talk = f"print('x' * {commands.MOST_KEPT * 3} + 'end')"
    end = asyncio.run(workspace.run([sys.executable, "-c", talk], tmp_path, ALLOWED))
    assert len(end.out) == commands.MOST_KEPT
    assert workspace.last_lines(end.out).startswith("…")
    assert end.out.endswith(b"end\n")


def test_a_program_that_is_not_there_and_one_that_reads_nothing(tmp_path: Path) -> None:
    with pytest.raises(commands.CommandError, match="/nowhere"):
        asyncio.run(commands.run(["/nowhere"], cwd=tmp_path, env={}))
    with pytest.raises(TaskFailedError, match="cannot be started"):
        asyncio.run(workspace.run(["true"], tmp_path / "nowhere", ALLOWED))
    end = asyncio.run(workspace.run(["true"], tmp_path, ALLOWED, given=b"x" * 10_000_000))
    assert end.code == 0


def test_what_changed_is_read_without_following_links(tmp_path: Path) -> None:
    with workspace.workspace({"a/b.txt": b"same", "c.txt": b"old"}) as place:
        (place / "c.txt").write_bytes(b"new")
        (place / "link").symlink_to("/etc/passwd")
        (place / "folder").symlink_to("/etc")
        os.mkfifo(place / "pipe")
        (place / "__pycache__").mkdir()
        (place / "__pycache__/x.pyc").write_bytes(b"x")
        assert workspace.changed(place, {"a/b.txt": b"same", "c.txt": b"old"}) == {"c.txt": b"new"}
        (place / "large").write_bytes(b"x" * (MOST_BYTES + 1))
        with pytest.raises(TaskFailedError, match="bytes"):
            workspace.changed(place, {})
    assert not place.exists()


# --- a coding agent

AGENT = """
import json, os, sys
said = sys.stdin.read()
open("notes.md", "w").write(said.rpartition("\\n\\n")[2] + open("README.md").read())
print(json.dumps({"result": "wrote notes", "total_cost_usd": float(sys.argv[1]) / 2,
                  "key": os.environ["ROUTER_KEY"], "url": os.environ["ROUTER"]}))
"""


def llm(script: str = AGENT, *tests: str) -> LlmRunner:
    argv = (sys.executable, "-c", script, "{budget}")
    test_argv = (sys.executable, "-c", *(tests or ("",)))
    command = LlmCommand(
        argv, test_argv, {"ROUTER": "http://127.0.0.1:3456"}, "ROUTER_KEY", "secret"
    )
    return LlmRunner(command, ALLOWED)


def written(runner: Any, budget: float = 0.4, base: Mapping[str, bytes] | None = None) -> Written:
    files = {"README.md": b"# shop\n"} if base is None else base
    found: Written = asyncio.run(runner.write(task(), files, budget))
    return found


def test_a_coding_agent_is_given_the_project_and_what_it_changed_is_taken() -> None:
    found = written(llm())
    assert found.files == {"notes.md": b"Say hello# shop\n"}
    assert (found.summary, found.cost) == ("wrote notes", 0.2)
    assert llm().reads


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("import sys; sys.exit('no key')", "ended with 1: no key"),
        ("print('nothing to do')", "changed nothing: nothing to do"),
    ],
)
def test_a_coding_agent_that_fails_or_does_nothing_is_said_to(script: str, why: str) -> None:
    with pytest.raises(TaskFailedError, match=why):
        written(llm(script))


@pytest.mark.parametrize("said", ["[1]", "no JSON", '{"total_cost_usd": "much"}'])
def test_what_a_coding_agent_says_need_not_be_a_report(said: str) -> None:
    found = written(llm(f"open('x', 'w').write('x'); print('''{said}''')"))
    assert (found.summary, found.cost) == (said, 0.0)


def test_a_coding_agent_without_money_or_without_settings_refuses() -> None:
    with pytest.raises(TaskFailedError, match="nothing is left"):
        written(llm(), 0.0)
    none = UnconfiguredRunner()
    assert not none.reads
    with pytest.raises(TaskFailedError, match="llm is not configured"):
        written(none)
    with pytest.raises(TaskFailedError, match="nothing was written"):
        asyncio.run(none.test(task(), {}))


def test_what_a_coding_agent_wrote_is_tested_as_the_settings_say() -> None:
    said = asyncio.run(llm().test(task(), {"x": b""}))
    assert said.endswith(" passed")
    with pytest.raises(TaskFailedError, match="its tests fail: broken"):
        asyncio.run(llm(AGENT, "import sys; sys.exit('broken')").test(task(), {"x": b""}))
