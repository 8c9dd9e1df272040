"""The way from a sentence to a merge, before stand-ins for chat and forge: what counts as done,
what is told when it is not, and that nothing is left.
"""

from __future__ import annotations

import subprocess
import threading
from base64 import b64encode
from binascii import a2b_base64
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import pytest

from rave_guest import delivering, workflow
from rave_guest.refusal import Refused
from rave_guest.verdict import Verdict, passed
from rave_guest.wire.forge import PagureError
from rave_guest.wire.pool import NoPool, NotNow, PoolPort, PoolRefused

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TASKS = {"create": "11111111-0000-4000-8000-000000000000",
         "run": "22222222-0000-4000-8000-000000000000"}  # fmt: skip
SITE = "https://forge.rave.localhost:1"
URL = f"{SITE}/rave-smoke-hello-world/pull-request/1"
BRANCH = f"rave/backend-architect-{TASKS['run'].replace('-', '')}"


class Platform:
    """Chat, bridge, agents and forge in one: what is commanded is done at once, unless `odd` says
    what goes wrong.
    """

    def __init__(self, odd: str = "") -> None:
        self.odd = odd
        self.user = "@rave-smoke-lead:rave.localhost"
        self.token = ""
        self.said: list[dict[str, Any]] = []
        self.accounts_there: set[str] = set()
        self.project = False
        self.merged = False
        self.left: list[str] = []
        self.commands: list[str] = []

    # The chat's client.

    def ask(self, method: str, path: str, _document: Any = None) -> dict[str, Any]:
        if path.startswith("/join/"):
            return {"room_id": "!room"}
        if path.endswith("/leave"):
            self.left.append(unquote(path))
        return {"chunk": self.said[::-1]}

    def news(self, _wait_ms: int = 0) -> dict[str, Any]:
        return {"rooms": {"join": {"!room": {"timeline": {"events": self.said}}}}}

    def send(self, _room: str, text: str) -> str:
        self.commands.append(text)
        event = f"${len(self.commands)}"
        self._say(f"answer:{event}", event, self._obey(text, event))
        return event

    def close(self) -> None:
        """Nothing is open."""

    def _obey(self, text: str, event: str) -> str:
        verb = text.split()[1]
        if self.odd == "denied":
            return "You may not command create project. Who is in leads may."
        if verb in TASKS:
            task = TASKS[verb]
            self._do(verb, task, event)
            return f"Task {task[:8]} is accepted for somebody."
        if verb == "cancel":
            task = next(one for one in TASKS.values() if one.startswith(text.split()[2]))
            self._say(f"told:{task}:failed:1", event, f"Task {task[:8]}: failed: cancelled")
            return f"Task {task[:8]} is cancelled by rave-smoke-lead."
        self.merged = self.odd != "conflict"
        said = f"merged: {URL}." if self.merged else "it was not done: 405 (conflict)."
        self._say("told:33333333-0000-4000-8000-000000000000", "$2", f"Task 22222222: {said}")
        return "Task 22222222 is approved by rave-smoke-lead."

    def _do(self, verb: str, task: str, event: str) -> None:
        if verb == "create":
            self.project = True
        if self.odd == f"never {verb}":
            return
        failed = self.odd == f"failed {verb}"
        what = (
            "failed: its tests fail"
            if failed
            else "completed. " + (URL if verb == "run" else f"{SITE}/rave-smoke-hello-world")
        )
        self._say(f"told:{task}:running:1", event, f"Task {task[:8]} (a, p): running")
        key = f"told:{task}:{'failed' if failed else 'completed'}:1"
        self._say(key, "$9" if self.odd == "elsewhere" else event, f"Task {task[:8]}: {what}")

    def _say(self, key: str, thread: str, text: str) -> None:
        content = {"rave.deed": key, "body": text, "m.relates_to": {"event_id": thread}}
        event = f"!{len(self.said)}"
        self.said.append({"sender": "@rave:rave.localhost", "event_id": event, "content": content})

    # The accounts.

    def accounts(self, action: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        user = arguments["user"]
        if action == "add":
            self.accounts_there.add(user)
        elif user not in self.accounts_there:
            raise Refused("absent", f"there is no account {user}")
        elif action == "delete" and self.odd != "account stays":
            self.accounts_there.discard(user)
        return {"password": "once"}

    # The forge.

    def look(self, path: str) -> dict[str, Any] | None:
        if not self.project:
            return None
        status = "failure" if self.odd == "red" else "success"
        commit = "f" * 40 if self.odd == "other commit" else "c" * 40
        state = "Merged" if self.merged else "Open"
        about = {"id": 1, "branch_from": BRANCH, "status": state, "commit_stop": commit,
                 "full_url": URL}  # fmt: skip
        _, _, rest = path.removeprefix("/").partition("/")
        shown: dict[str, dict[str, Any]] = {
            "": {"full_url": f"{SITE}/rave-smoke-hello-world"},
            "git/branches?with_commits=true": {"branches": {"main": ("d" if self.merged else "a")
                                                            * 40, BRANCH: "c" * 40}},
            "pull-requests?status=all": {"requests": [about]},
            "pull-request/1": about,
            "pull-request/1/flag": {
                "flags": [{"username": "rave-tests", "status": status, "comment": "2 passed"}]
            },
        }  # fmt: skip
        return shown[rest]

    def address(self, project: str) -> str:
        return f"http://127.0.0.1/{project}.git"

    def git(self, _system: object, _folder: str, *words: str) -> str:
        if words[0] == "log":
            return f"{'e' * 40}\n{'a' * 40}\nSay hello\n\nTask: {TASKS['run']}"
        if words[0] == "diff":
            return "say_hello_2/__init__.py\nsay_hello_2/test_service.py"
        return ""

    def delete(self, _project: str) -> None:
        if self.odd == "kept":
            raise PagureError("500 without a reason")
        self.project = False

    # The pages.

    @property
    def status(self) -> int:
        return 200 if self.project else 404

    @property
    def page(self) -> str:
        return delivering.ASKED if self.project else "not found"

    def open(self, _path: str) -> Platform:
        return self

    def trace(self, _task: str) -> dict[str, Any]:
        lost = "commit" if self.odd == "no commit in the trace" else ""
        return {
            "trace_id": "ab" * 16,
            "spans": [
                {"name": name, "service_name": f"{service} one", "status": {"code": 0}}
                for name, service in delivering.SPANS
                if name != lost
            ],
        }


class Chat:
    """What the steps know of the chat."""

    def __init__(self, platform: Platform) -> None:
        self.one = self.two = platform
        self.accounts = platform.accounts
        self.command_room = ""
        self.rooms: list[str] = []

    def browser(self, site: str) -> Platform:
        assert site == SITE
        return self.one


class NobodysPool(PoolPort):
    """A pool that is lent to nobody."""

    def __init__(self) -> None:
        """There is no device."""

    def ask(self, ask: str, **_members: Any) -> dict[str, Any]:
        raise NoPool("nobody answers: the pool is not lent to this machine, or not served")


class LentPool(PoolPort):
    """A pool that runs nothing: it tells this of the one job, or is away at these questions."""

    def __init__(self, *, state: str = "success", status: int = 0, fault: Exception | None = None,
                 at: str = "submit") -> None:  # fmt: skip
        self.state, self.status, self.fault, self.at = state, status, fault, at
        self.asked: list[str] = []
        self.given = b""
        self.work: dict[str, Any] = {}

    def ask(self, ask: str, **members: Any) -> dict[str, Any]:
        self.asked.append(ask)
        if self.fault and ask == self.at:
            raise self.fault
        if ask == "terms":
            return {"memory_mib": None, "cpus": None, "timeout": 600.0, "jobs": 2}
        if ask == "give":
            self.given += a2b_base64(members["data"])
            return {}
        if ask == "output":
            said = b64encode(b"Ran 2 tests\n\nOK\n").decode()
            pieces = [{"number": 1, "stream": 2, "data": said}] if not members["after"] else []
            return {"pieces": pieces}
        if ask == "submit":
            self.work = members["work"]
        over = ask == "show" and self.state != "running"
        return {"job": "3f2a", "state": self.state, "over": over, "why": "", "attempt": 1,
                "exit_status": self.status if over else None}  # fmt: skip


def in_pool(pool: PoolPort, tmp_path: Path) -> Verdict:
    (tmp_path / "code.tar").write_bytes(b"an archive")
    return made(Platform(), tmp_path, lambda: pool)["sandbox"]


def test_the_tests_pass_in_a_sandbox_where_the_pool_is_lent(tmp_path: Path) -> None:
    pool = LentPool()
    verdict = in_pool(pool, tmp_path)
    assert verdict.status == "pass", verdict
    assert verdict.detail.endswith(": OK")
    assert verdict.data["job"] == "3f2a"
    assert pool.given == b"an archive"
    assert pool.work["command"][-1] == "say_hello_2"
    assert "cancel" not in pool.asked


def test_tests_that_fail_in_a_sandbox_fail_the_step(tmp_path: Path) -> None:
    verdict = in_pool(LentPool(state="failure", status=1), tmp_path)
    assert verdict.status == "fail"
    assert "ends with 1: OK" in verdict.detail


def test_a_job_that_does_not_end_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(delivering, "SANDBOX_TAKES", 0.1)
    pool = LentPool(state="running")
    verdict = in_pool(pool, tmp_path)
    assert (verdict.status, verdict.detail) == ("fail", "job 3f2a is not over: running")
    assert pool.asked[-1] == "cancel"


@pytest.mark.parametrize(
    ("fault", "at"),
    [
        (PoolRefused("more than 60 jobs in an hour"), "submit"),
        (PoolRefused("there is no such job"), "output"),
        (NoPool("the pool does not answer"), "give"),
        (NotNow("it is full"), "terms"),
    ],
)
def test_a_pool_that_refuses_or_goes_away_fails_its_step_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Exception, at: str
) -> None:
    monkeypatch.setattr(delivering, "SANDBOX_TAKES", 0.0)
    (tmp_path / "code.tar").write_bytes(b"an archive")
    pool = LentPool(fault=fault, at=at)
    platform = Platform()
    told = made(platform, tmp_path, lambda: pool)
    assert told["sandbox"] == Verdict("fail", f"the pool: {fault}", {})
    others = {name for name, verdict in told.items() if verdict.status != "pass"}
    assert others == {"sandbox"}
    assert not platform.project


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    def signed_in(chat: Any, user: str, client: Platform) -> float:
        client.accounts("add", {"user": user})
        client.token = "syt"
        return 1.0

    monkeypatch.setattr(delivering, "signed_in", signed_in)
    for name in ("PROJECT_TAKES", "WORK_TAKES", "MERGE_TAKES", "CANCEL_TAKES", "TRACE_TAKES"):
        monkeypatch.setattr(delivering, name, 0.2)
    monkeypatch.setattr(delivering, "LOOK", 0.01)


def made(
    platform: Platform, tmp_path: Path, pool: Callable[[], PoolPort] = NobodysPool
) -> dict[str, Verdict]:
    told: dict[str, Verdict] = {}
    way = delivering.HelloWorld(
        Chat(platform), platform, SITE, system=None, folder=str(tmp_path),  # type: ignore[arg-type]
        trace=platform.trace, pool=pool,
    )  # fmt: skip
    workflow.deliver(way, told.__setitem__)
    return told


def test_each_step_tells_what_can_be_looked_up_and_nothing_is_left(tmp_path: Path) -> None:
    platform = Platform()
    told = made(platform, tmp_path)
    assert list(told) == list(delivering.STEPS)
    assert {name for name, verdict in told.items() if verdict.status != "pass"} == {"sandbox"}
    assert told["sandbox"].status == "skip"
    assert "not lent to this machine" in told["sandbox"].detail
    assert told["code"].data["commit"] == told["request"].data["commit"] == "c" * 40
    assert told["code"].data["task"] == TASKS["run"]
    assert told["approval"].data["commit"] == "d" * 40
    assert told["trace"].data["trace"] == "ab" * 16
    assert not platform.project
    assert not platform.accounts_there
    assert platform.left == ["/rooms/!room/leave"]


@pytest.mark.parametrize(
    ("odd", "step", "detail"),
    [
        ("denied", "command", "You may not command"),
        ("never create", "project", "nothing is told of task 11111111"),
        ("failed create", "project", "failed: its tests fail"),
        ("failed run", "code", "failed: its tests fail"),
        ("other commit", "request", "of commit ffff"),
        ("red", "tests", "rave-tests is failure"),
        ("elsewhere", "notification", "it is told elsewhere"),
        ("conflict", "approval", "405 (conflict)"),
        ("no commit in the trace", "trace", "has no commit"),
        ("kept", "clean", "500 without a reason"),
        ("account stays", "clean", "the account is still there"),
    ],
)
def test_what_is_not_as_it_must_be_fails_the_step_that_is_about_it(
    tmp_path: Path, odd: str, step: str, detail: str
) -> None:
    platform = Platform(odd)
    told = made(platform, tmp_path)
    failed = [name for name, verdict in told.items() if verdict.status in ("fail", "error")]
    assert failed == [step], told
    assert detail in told[step].detail
    assert platform.project == (odd == "kept")
    assert bool(platform.accounts_there) == (odd == "account stays")


def test_a_task_that_goes_on_is_cancelled_before_its_project_is_deleted(tmp_path: Path) -> None:
    platform = Platform("never run")
    told = made(platform, tmp_path)
    assert told["code"].status == "fail"
    assert told["approval"].status == "skip"
    assert told["clean"].status == "pass"
    assert platform.commands[-1] == "!rave cancel 22222222"


def test_whoever_asks_first_has_it_made_once_and_each_is_told_as_soon_as_it_is_known() -> None:
    told, gate, made = workflow.ToldSteps(), threading.Event(), []

    def travel() -> None:
        made.append(1)
        told.tell("one", passed("well"))
        gate.wait(30)
        raise ValueError("and then it broke")

    told.once(travel)
    told.once(travel)
    assert told.of("one").status == "pass"
    gate.set()
    assert told.of("two") == Verdict("error", "ValueError: and then it broke", {})
    assert made == [1]


class Units:
    """A machine whose PID 1 is asked for units."""

    def __init__(self, returncode: int = 0) -> None:
        self.returncode = returncode
        self.asked: list[tuple[str, ...]] = []

    def run(self, argv: list[str], _timeout: float) -> Any:
        self.asked.append(tuple(argv[:2]))
        fails = argv[0] == "systemd-run" and self.returncode
        return SimpleNamespace(returncode=fails, stderr="Failed to start transient unit\n")


def test_somebody_waits_for_the_end_of_whoever_makes_it_and_leaves_when_it_is_made() -> None:
    units: Any = Units()
    with workflow.kept(units):
        assert units.asked == [("systemctl", "stop"), ("systemd-run", "--quiet")]
    assert units.asked[-1] == ("systemctl", "stop")


def test_nothing_is_made_where_nobody_would_clean_up() -> None:
    units: Any = Units(1)
    with pytest.raises(OSError, match="nobody would clean up"), workflow.kept(units):
        raise AssertionError("it is made")


def test_what_a_killed_run_has_left_is_deleted_once_it_has_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as run:
        deleted: list[bool] = []
        monkeypatch.setattr(workflow, "AGAIN", 0.0)
        monkeypatch.setattr(workflow, "_forget", lambda: deleted.append(not alive(run.pid)))
        threading.Timer(0.2, run.kill).start()
        assert workflow.main([str(run.pid)]) == 0
        assert deleted == [True, True]
    assert workflow.main([str(run.pid)]) == 0
    assert len(deleted) == 4


def alive(pid: int) -> bool:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def test_one_journey_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workflow, "LOCK", str(tmp_path / "lock"))
    with workflow.only(), pytest.raises(BlockingIOError, match="another run"), workflow.only():
        raise AssertionError("twice at a time")
    with workflow.only():
        pass
