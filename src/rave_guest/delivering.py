"""From a sentence in the chat to what is merged: somebody has agents make a project, write code in
it, and merge it, as people do.

One journey, step by step; each step is a check of its own, and tells what can be looked up: ids,
commits, the trace. What is made for it is deleted afterwards: the project, which whoever reaches
the forge may read meanwhile, and the account. In Matrix stays what was said, in the room that is
the smoke suite's.
"""

from __future__ import annotations

import re
import time
from contextlib import suppress
from urllib.parse import quote, urlsplit

from rave_guest.chat import signed_in
from rave_guest.commanding import Deed, deeds, enter, said
from rave_guest.journey import Broken, expect
from rave_guest.refusal import Refused
from rave_guest.sandbox import submit
from rave_guest.verdict import Verdict, passed, skipped
from rave_guest.wire.forge import PagureError
from rave_guest.wire.matrix import MatrixError
from rave_guest.wire.pool import NoPool, NotNow, PoolPort, PoolRefused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from rave_guest.chat import Chat
    from rave_guest.system import System
    from rave_guest.wire.forge import PagureUser

# Who commands, in a group that may, and what is made.
USER, GROUP = "rave-smoke-lead", "leads"
PROJECT, AGENT = "rave-smoke-hello-world", "backend-architect"
ASKED = "Add an end point that says hello"
TEST = ("python3", "-B", "-m", "unittest", "discover", "-t", ".", "-s")
# What the agent says beside a merge request (rave_platform/application/agents/steps.py).
STATUS = "rave-tests"
ACCEPTED = re.compile(r"Task ([0-9a-f]{8}) is accepted")

# Seconds, on a host that is not busy. A guest under emulation takes most of them.
PROJECT_TAKES, WORK_TAKES, MERGE_TAKES, SANDBOX_TAKES = 180.0, 300.0, 180.0, 300.0
CANCEL_TAKES, TRACE_TAKES = 60.0, 15.0
# Seconds between two looks at what takes that long: each costs an emulated guest 0.2.
LOOK = 2.0


class HelloWorld:
    """What the steps know of each other."""

    def __init__(
        self, chat: Chat, forge: PagureUser, forge_site: str, *, system: System, folder: str,
        trace: Callable[[str], Mapping[str, Any]], pool: Callable[[], PoolPort] = PoolPort,
        busy: float = 1.0,
    ) -> None:  # fmt: skip
        """Begin.

        Args:
            chat: the chat, with nobody signed in.
            forge: rave's own way to the forge.
            forge_site: where the forge is, as people write it.
            system: the machine.
            folder: nobody's, for what is fetched; whoever made it deletes it.
            trace: returns a trace with its spans, by the task's name.
            pool: the way to the host's pool.
            busy: by which factor everything may take longer.
        """
        self.chat, self.forge, self.forge_site = chat, forge, forge_site
        self.system, self.folder, self.trace, self.pool = system, folder, trace, pool
        self.busy = busy
        # What was asked for, by its short name, and what is not known to have ended of it.
        self.task, self.asked_as, self.open = "", "", list[str]()
        self.first = self.commit = self.branch = self.package = ""
        self.request: Mapping[str, Any] = {}
        self.done: Deed | None = None

    def ask(self, text: str) -> tuple[str, str]:
        """Ask for a task; return the id of the message, and the task's short name."""
        event, answer = said(self.chat, self.chat.one, text)
        accepted = ACCEPTED.match(answer)
        if accepted is None:
            raise Broken(f"{text} is answered: {answer}")
        self.open.append(accepted[1])
        return event, accepted[1]

    def ended(self, task: str, seconds: float) -> Deed:
        """Return what is said of a task that was completed.

        Raises:
            Broken: it failed, or nothing is said for too long.
        """
        told = self.told(lambda deed: _ends(deed, task), seconds, f"of task {task}")
        self.open.remove(task)
        expect(":completed:" in told.key, f"it is told: {told.text}")
        return told

    def told(self, wanted: Callable[[Deed], bool], seconds: float, about: str) -> Deed:
        """Return what the bridge says in the room, once it does."""
        until = time.monotonic() + seconds * self.busy
        while True:
            for deed in deeds(self.chat):
                if wanted(deed):
                    return deed
            expect(time.monotonic() < until, f"nothing is told {about} for {seconds:g} s")
            time.sleep(LOOK)

    def found(self, path: str = "") -> Mapping[str, Any]:
        """Return what the forge shows of the project."""
        found = self.forge.look(f"/{PROJECT}{path}")
        if found is None:
            raise Broken(f"the forge has no {PROJECT}{path}")
        return found

    def branches(self) -> Mapping[str, str]:
        """Return the newest commits of its branches."""
        branches: Mapping[str, str] = self.found("/git/branches?with_commits=true")["branches"]
        return branches

    def git(self, *words: str) -> str:
        """Let git carry out something where the project was fetched to."""
        return self.forge.git(self.system, f"{self.folder}/project", *words)


def command(way: HelloWorld) -> Verdict:
    """Somebody of the leads asks for a project; it is accepted as a task."""
    chat = way.chat
    seconds = signed_in(chat, USER, chat.one)
    chat.accounts("groups", {"user": USER, "add": [GROUP], "remove": []})
    enter(chat, chat.one)
    began = time.monotonic()
    event, task = way.ask(f'!rave create project {PROJECT} "Says hello"')
    answered = round(time.monotonic() - began, 2)
    return passed(
        f"task {task}, accepted after {answered} s (signed in within {seconds:.1f} s)",
        seconds=answered, task=task, message=event,
    )  # fmt: skip


def project(way: HelloWorld) -> Verdict:
    """The forge has it, with a first commit."""
    began = time.monotonic()
    (task,) = way.open
    told = way.ended(task, PROJECT_TAKES)
    seconds = round(time.monotonic() - began, 1)
    expect("was there already" not in told.text, f"it is told: {told.text}")
    url = str(way.found()["full_url"])
    expect(url in told.text, f"it is told: {told.text}")
    way.first = way.branches().get("main", "")
    expect(bool(way.first), "it has no branch main")
    return passed(f"{url}, told after {seconds} s", seconds=seconds, url=url, commit=way.first)


def code(way: HelloWorld) -> Verdict:
    """An agent writes code, and commits it to a branch of its task's, on top of what is there."""
    began = time.monotonic()
    way.asked_as, way.task = way.ask(f"!rave run {AGENT} {PROJECT} {ASKED}")
    way.done = way.ended(way.task, WORK_TAKES)
    seconds = round(time.monotonic() - began, 1)
    way.branch = f"rave/{AGENT}-{way.done.key.split(':')[1].replace('-', '')}"
    way.commit = way.branches().get(way.branch, "")
    expect(bool(way.commit), f"there is no branch {way.branch}")
    address = way.forge.address(PROJECT)
    way.forge.git(way.system, way.folder, "clone", "--quiet", "-b", way.branch, address, "project")
    tree, parent, message = way.git("log", "-1", "--format=%T%n%P%n%B", way.commit).split("\n", 2)
    expect(parent == way.first, f"its commit stands on {parent}")
    expect(way.done.key.split(":")[1] in message, "its commit does not name its task")
    files = way.git("diff", "--name-only", way.first, way.commit).splitlines()
    packages = {name.partition("/")[0] for name in files}
    expect(len(packages) == 1 and len(files) > 1, f"it has written {', '.join(files) or 'nothing'}")
    (way.package,) = packages
    return passed(
        f"{len(files)} files, commit {way.commit[:12]}, after {seconds} s", seconds=seconds,
        task=way.done.key.split(":")[1], branch=way.branch, commit=way.commit, tree=tree,
        files=files,
    )  # fmt: skip


def request(way: HelloWorld) -> Verdict:
    """A merge request of that commit is open."""
    found = [
        one
        for one in way.found("/pull-requests?status=all")["requests"]
        if one["branch_from"] == way.branch
    ]
    expect(len(found) == 1, f"its branch has {len(found)} merge requests")
    way.request = found[0]
    state, about = way.request["status"], way.request["commit_stop"]
    expect(state == "Open" and about == way.commit, f"it is {state}, of commit {about}")
    url = str(way.request["full_url"])
    return passed(url, number=int(way.request["id"]), url=url, commit=about)


def tests(way: HelloWorld) -> Verdict:
    """What the tests came to stands beside it."""
    flags = way.found(f"/pull-request/{way.request['id']}/flag")["flags"]
    ours = [flag for flag in flags if flag["username"] == STATUS]
    expect(len(ours) == 1, f"{len(ours)} times {STATUS} stands beside the merge request")
    (flag,) = ours
    expect(flag["status"] == "success", f"{STATUS} is {flag['status']}: {flag['comment']}")
    return passed(f"{STATUS}: {flag['comment']}", check=STATUS, result=flag["status"])


def sandbox(way: HelloWorld) -> Verdict:
    """The tests pass in a sandbox, too, where the pool is lent to this machine."""
    pool = way.pool()
    try:
        terms = pool.ask("terms")
    except NoPool as error:
        return skipped(f"no sandbox is to be had: {error}")
    began = time.monotonic()
    way.git("archive", "--format=tar", f"--output={way.folder}/code.tar", way.commit)
    printed = {1: b"", 2: b""}

    def take(stream: int, data: bytes) -> None:
        printed[stream] += data

    with open(f"{way.folder}/code.tar", "rb") as archive:
        work = {"command": [*TEST, way.package], "timeout": min(120.0, terms["timeout"])}
        job = submit(pool, work, archive=archive, patience=SANDBOX_TAKES)
    over = False
    try:
        over = job.follow(take, time.monotonic() + SANDBOX_TAKES * way.busy)
        expect(over, f"job {job.name} is not over: {job.told['state']}")
    finally:
        # Nobody waits for it any more.
        if not over:
            with suppress(NoPool, NotNow, PoolRefused):
                job.cancel()
    last = printed[2].decode(errors="replace").strip().splitlines()[-1:] or ["nothing"]
    expect(job.status == 0, f"job {job.name} ends with {job.status}: {last[0]}")
    seconds = round(time.monotonic() - began, 1)
    return passed(f"job {job.name}, after {seconds} s: {last[0]}", seconds=seconds, job=job.name)


def notification(way: HelloWorld) -> Verdict:
    """It is told in the thread of the command, with a link that leads to the merge request."""
    if way.done is None:
        raise Broken("nothing is told")
    expect(way.done.thread == way.asked_as, "it is told elsewhere than where it was asked for")
    url = str(way.request["full_url"])
    expect(url in way.done.text, f"it is told: {way.done.text}")
    expect(url.startswith(f"{way.forge_site}/"), f"the link leads to {url}")
    page = way.chat.browser(way.forge_site).open(urlsplit(url).path)
    expect(page.status == 200 and ASKED in page.page, f"the link is answered with {page.status}")
    return passed(way.done.text, message=way.done.event, thread=way.done.thread)


def approval(way: HelloWorld) -> Verdict:
    """Whoever may approves; it is merged, which is told in the thread."""
    began = time.monotonic()
    event, answer = said(way.chat, way.chat.one, f"!rave approve {way.task} Well done")
    expect("is approved by" in answer, f"it is answered: {answer}")
    begins = f"Task {way.task}: "
    told = way.told(lambda deed: deed.text.startswith(begins), MERGE_TAKES, "of the approval")
    seconds = round(time.monotonic() - began, 1)
    expect(told.text.startswith(f"{begins}merged: "), f"it is told: {told.text}")
    state = way.found(f"/pull-request/{way.request['id']}")["status"]
    expect(state == "Merged", f"the merge request is {state}")
    merged = way.branches()["main"]
    way.git("fetch", "--quiet", "origin", "main")
    # Fails if it is not.
    way.git("merge-base", "--is-ancestor", way.commit, "FETCH_HEAD")
    return passed(
        f"merged as {merged[:12]}, told after {seconds} s", seconds=seconds, commit=merged,
        approval=event, message=told.event,
    )  # fmt: skip


# What has to be in the trace of a task, of which service: the beginning of its name.
SPANS = (
    ("command run", "chat-bridge"), ("say", "chat-bridge"), ("task work", "agent"),
    ("write", "agent"), ("test", "agent"), ("commit", "agent"), ("request", "agent"),
    ("command approve", "chat-bridge"), ("approve", "agent"),
)  # fmt: skip


def trace(way: HelloWorld) -> Verdict:
    """One trace leads from the message to the merge."""
    until = time.monotonic() + TRACE_TAKES * way.busy
    while True:
        found = way.trace(way.task)
        seen = {(one["name"], one["service_name"].partition(" ")[0]) for one in found["spans"]}
        lacking = [name for name, service in SPANS if (name, service) not in seen]
        if not lacking or time.monotonic() > until:
            break
        time.sleep(LOOK)
    expect(not lacking, f"trace {found['trace_id']} has no {', '.join(lacking)}")
    # A call of the forge that failed, and was made again.
    faults = sum(one["status"]["code"] == 2 for one in found["spans"])
    again = f", {faults} of them failed and were made again" if faults else ""
    return passed(
        f"{found['trace_id']}, {len(found['spans'])} parts{again}",
        trace=found["trace_id"], spans=len(found["spans"]), faults=faults,
    )  # fmt: skip


def clean(way: HelloWorld) -> Verdict:
    """Nothing of it is left: project and account are gone."""
    began = time.monotonic()
    _leave_off(way)
    forget(way.forge, way.chat.accounts)
    expect(way.forge.look(f"/{PROJECT}") is None, "the forge still has the project")
    page = way.chat.browser(way.forge_site).open(f"/{PROJECT}")
    expect(page.status == 404, f"the project's page is answered with {page.status}")
    with suppress(Refused):
        way.chat.accounts("show", {"user": USER})
        raise Broken("the account is still there")
    seconds = round(time.monotonic() - began, 1)
    return passed(f"project and account are gone, after {seconds} s", seconds=seconds)


def _leave_off(way: HelloWorld) -> None:
    """Have nobody go on with what was asked for, and leave the room."""
    client = way.chat.one
    if not client.token:
        return
    with suppress(Broken, MatrixError, OSError, ValueError):
        for task in list(way.open):
            said(way.chat, client, f"!rave cancel {task}")
            way.told(lambda deed, of=task: _ends(deed, of), CANCEL_TAKES, "")  # type: ignore[misc]
    with suppress(MatrixError, OSError, ValueError):
        for room in way.chat.rooms:
            client.ask("POST", f"/rooms/{quote(room)}/leave", {})
        client.ask("POST", "/logout/all", {})


def forget(forge: PagureUser, accounts: Callable[[str, Mapping[str, Any]], Any]) -> None:
    """Delete what a journey makes, if it is there: the project first, which others can see.

    Raises:
        PagureError, OSError: the forge does not delete it.
    """
    try:
        forge.delete(PROJECT)
    finally:
        with suppress(Refused):
            accounts("delete", {"user": USER})


def _ends(deed: Deed, task: str) -> bool:
    """Return whether it says that a task has ended (rave_platform/domain/chat/conversation.py)."""
    what, name, status = (*deed.key.split(":"), "", "", "")[:3]
    return what == "told" and name.startswith(task) and status in ("completed", "failed")


def refused(step: Callable[[HelloWorld], Verdict]) -> Callable[[HelloWorld], Verdict]:
    """Return a step that breaks where chat or forge refuses what it must not."""

    def carry_out(way: HelloWorld) -> Verdict:
        try:
            return step(way)
        except MatrixError as error:
            raise Broken(f"Matrix answers {error}") from error
        except PagureError as error:
            raise Broken(f"the forge: {error}") from error
        except (NoPool, NotNow, PoolRefused) as error:
            raise Broken(f"the pool: {error}") from error

    return carry_out


# In this order; the last is made whatever becomes of the others.
STEPS: Mapping[str, Callable[[HelloWorld], Verdict]] = {
    "command": command,
    "project": project,
    "code": code,
    "request": request,
    "tests": tests,
    "sandbox": sandbox,
    "notification": notification,
    "approval": approval,
    "trace": trace,
    "clean": clean,
}
LAST = "clean"
GROUND = ("command", "project", "code", "request", "approval")
