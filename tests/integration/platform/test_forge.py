"""What a forge promises, before each: whatever is asked for twice is there once.

With RAVE_PAGURE="URL USER TOKEN" the same is asked of a real Pagure.
"""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from rave_platform.adapters.forge import git
from rave_platform.application.forge import ForgeRefusedError, ForgeUnavailableError
from rave_platform.domain.forge import (
    CommitStatus,
    MergeState,
    NewCommit,
    NewMergeRequest,
    StatusState,
)
from tests.integration.platform.forges import (
    GitLabWorld,
    PagureWorld,
    real,
    served,
)
from tests.unit.platform.forges import gitlab, pagure
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path
    from typing import TypeVar

    from rave_platform.application.forge import Forge
    from tests.integration.platform.forges import ForgeWorld

    T = TypeVar("T")

MOMENT = datetime(2026, 11, 26, 12, tzinfo=UTC)
BRANCH = "rave/ai-engineer-1"
FORGES = ["gitlab", "pagure", *(["real-pagure"] if real() else [])]


@pytest.fixture(params=FORGES)
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ForgeWorld]:
    found: ForgeWorld
    match request.param:
        case "gitlab":
            stub = gitlab.GitLabStub()
            with served(stub) as url:
                found = GitLabWorld(url, stub)
                yield found
        case "pagure":
            repositories = pagure.PagureStub(tmp_path)
            with served(repositories) as url:
                repositories.url = url
                found = PagureWorld(url, pagure.USER, pagure.TOKEN, repositories)
                yield found
        case _:
            there = real()
            assert there
            found = PagureWorld(*there, None)
            yield found
    assert found.complaints() == []


def work(world: ForgeWorld, do: Callable[[Forge], Awaitable[T]]) -> T:
    """Do something with a client of its own, as after a kill."""

    async def one() -> T:
        forge = world.forge()
        try:
            return await do(forge)
        finally:
            await forge.close()

    return asyncio.run(one())


async def patiently(do: Callable[[], Awaitable[T]]) -> T:
    """Do something until the forge has time for it, as the application does."""
    async with asyncio.timeout(CEILING):
        while True:
            try:
                return await do()
            except ForgeUnavailableError:
                await asyncio.sleep(0.05)


def commit(path: str = "shop/hello.py", text: str = "print('hello')\n", **more: Any) -> NewCommit:
    values = {"branch": BRANCH, "message": f"Say hello\n\nTask: {text}", **more}
    return NewCommit(values["branch"], values["message"], {path: text.encode()}, MOMENT)


async def a_project(forge: Forge, world: ForgeWorld) -> str:
    found = await patiently(lambda: forge.create_project(world.name, "Sells things"))
    return found.path


async def a_request(forge: Forge, world: ForgeWorld, *wanted: NewCommit) -> tuple[str, Any]:
    project = await a_project(forge, world)
    await forge.create_branch(project, BRANCH, "main")
    for one in wanted or (commit(),):
        await forge.commit(project, one)
    new = NewMergeRequest(BRANCH, "main", "Say hello", "```text\n/close\n```")
    return project, await forge.open_merge_request(project, new)


def test_a_project_is_made_once_with_a_first_commit(world: ForgeWorld) -> None:
    async def first(forge: Forge) -> Any:
        assert await forge.project(world.name) is None
        return await patiently(lambda: forge.create_project(world.name, ""))

    async def again(forge: Forge) -> Any:
        assert await forge.project(world.name) == await forge.create_project(world.name, "x")
        return await forge.create_project(world.name, "y")

    made = work(world, first)
    assert work(world, again) == made
    assert made.path.endswith(world.name)
    assert made.url.endswith(world.name)
    assert made.default_branch == "main"
    assert abs(made.created_at - datetime.now(UTC)) < timedelta(minutes=30)
    assert list(work(world, lambda forge: forge.files(made.path, "main"))) == ["README.md"]


def test_a_branch_is_made_once_and_begins_where_it_is_told(world: ForgeWorld) -> None:
    async def do(forge: Forge) -> None:
        project = await a_project(forge, world)
        start = await forge.create_branch(project, BRANCH, "main")
        made = await forge.commit(project, commit())
        assert start != made
        assert await forge.create_branch(project, BRANCH, "main") == made
        with pytest.raises(ForgeRefusedError):
            await forge.create_branch(project, "another", "nowhere")

    work(world, do)


def test_in_a_project_that_was_deleted_nothing_is_waited_for(world: ForgeWorld) -> None:
    """An agent at work in one kept asking for its branches until its task's time was over."""

    async def do(forge: Forge) -> None:
        with pytest.raises(ForgeRefusedError):
            await forge.create_branch(world.name, BRANCH, "main")
        with pytest.raises(ForgeRefusedError):
            await forge.merge_request(world.name, BRANCH)

    work(world, do)


def test_a_commit_is_known_again_by_its_message_and_changes_only_what_it_names(
    world: ForgeWorld,
) -> None:
    async def first(forge: Forge) -> tuple[str, str]:
        project = await a_project(forge, world)
        await forge.create_branch(project, BRANCH, "main")
        return project, await forge.commit(project, commit())

    project, made = work(world, first)
    assert work(world, lambda forge: forge.commit(project, commit())) == made
    later = commit(text="print('later')\n")
    other = work(world, lambda forge: forge.commit(project, later))
    assert other != made
    # What came first is still found behind what came later.
    assert work(world, lambda forge: forge.commit(project, commit())) == made
    odd = commit("a dir/ü #?%.txt", "ü\n")
    work(world, lambda forge: forge.commit(project, odd))
    found = work(world, lambda forge: forge.files(project, BRANCH))
    assert found["shop/hello.py"] == b"print('later')\n"
    assert found["a dir/ü #?%.txt"] == "ü\n".encode()
    assert "README.md" in found


def test_a_push_that_was_given_up_and_comes_late_is_found(
    world: ForgeWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not isinstance(world, PagureWorld):
        return
    write = git._GitWork.write
    late: list[str] = []

    async def overtaken(work: git._GitWork, wanted: NewCommit) -> str:
        made = await write(work, wanted)
        if not late:
            late.append("")
            other = replace(wanted, at=MOMENT + timedelta(seconds=1))
            late[0] = await work.remote.commit(work.path, other)
        return made

    async def do(forge: Forge) -> None:
        project = await a_project(forge, world)
        await forge.create_branch(project, BRANCH, "main")
        assert await forge.commit(project, commit()) == late[0]

    monkeypatch.setattr(git._GitWork, "write", overtaken)
    work(world, do)


def test_a_branch_has_one_merge_request_whoever_opens_it_again(world: ForgeWorld) -> None:
    project, opened = work(world, lambda forge: a_request(forge, world))
    assert work(world, lambda forge: a_request(forge, world))[1] == opened
    assert (opened.state, opened.source, opened.target) == (MergeState.OPEN, BRANCH, "main")
    assert world.requests() == [(BRANCH, "open")]
    assert work(world, lambda forge: forge.merge_request(project, "another")) is None


def test_what_was_said_is_not_said_again_and_a_status_is_told_anew(world: ForgeWorld) -> None:
    status = CommitStatus("rave-tests", StatusState.PENDING, "running", "https://rave.test/1")
    done = CommitStatus("rave-tests", StatusState.SUCCESS, "3 passed", "https://rave.test/1")

    async def do(forge: Forge) -> int:
        project, request = await a_request(forge, world)
        for told in (status, done, done):
            await forge.set_status(project, request, told)
        for text in ("Approved by `alice`.", "Approved by `alice`.", "Rejected by `bob`."):
            await forge.comment(project, request.number, text)
        return int(request.number)

    number = work(world, do)
    assert world.comments(number) == ["Approved by `alice`.", "Rejected by `bob`."]
    assert world.statuses(number)[-1] == "success"
    assert world.statuses(number).count("success") == 1


def test_what_is_merged_is_on_its_target_and_merging_again_changes_nothing(
    world: ForgeWorld,
) -> None:
    project, request = work(world, lambda forge: a_request(forge, world))

    async def merge(forge: Forge) -> None:
        await patiently(lambda: forge.merge(project, request))

    for _ in range(2):
        work(world, merge)
    assert world.requests() == [(BRANCH, "merged")]
    found = work(world, lambda forge: forge.files(project, "main"))
    assert found["shop/hello.py"] == b"print('hello')\n"
    state = work(world, lambda forge: forge.merge_request(project, BRANCH))
    assert state is not None
    assert state.state is MergeState.MERGED


def test_what_cannot_be_merged_or_is_no_longer_the_same_is_refused(world: ForgeWorld) -> None:
    async def do(forge: Forge) -> None:
        project, request = await a_request(forge, world)
        await forge.commit(project, commit("other.py", "x\n"))
        with pytest.raises(ForgeRefusedError):
            await patiently(lambda: forge.merge(project, request))
        await forge.commit(project, commit(text="theirs\n", branch="main"))
        now = await forge.merge_request(project, BRANCH)
        assert now is not None
        with pytest.raises(ForgeRefusedError):
            await patiently(lambda: forge.merge(project, now))

    work(world, do)
    assert world.requests() == [(BRANCH, "open")]


def test_what_is_closed_is_not_merged(world: ForgeWorld) -> None:
    async def do(forge: Forge) -> None:
        project, request = await a_request(forge, world)
        for _ in range(2):
            await forge.close_merge_request(project, request.number)
        with pytest.raises(ForgeRefusedError):
            await patiently(lambda: forge.merge(project, request))
        assert "shop/hello.py" not in await forge.files(project, "main")

    work(world, do)
    assert world.requests() == [(BRANCH, "closed")]


def test_an_address_is_told_once_however_often_that_is_asked_for(world: ForgeWorld) -> None:
    async def do(forge: Forge) -> set[str]:
        project = await a_project(forge, world)
        urls = ["https://rave.test/webhooks/a", "https://rave.test/webhooks/b"]
        return {await forge.see_to_hook(project, url, "a-secret") for url in (*urls, *urls)}

    (secret,) = work(world, do)
    assert secret
    assert world.hooks() == ["https://rave.test/webhooks/a", "https://rave.test/webhooks/b"]


def test_a_forge_that_is_away_or_knows_us_not_is_asked_again_later(world: ForgeWorld) -> None:
    async def do(forge: Forge) -> None:
        for trouble, wait in ((429, 7.0), (503, 0.0), (401, 0.0)):
            stub.trouble = [(trouble, False)]
            with pytest.raises(ForgeUnavailableError) as caught:
                await forge.project(world.name)
            assert caught.value.retry_after == wait

    stub: Any = getattr(world, "stub", None)
    if stub is not None:
        work(world, do)


def test_what_was_done_without_an_answer_is_found_and_not_done_again(world: ForgeWorld) -> None:
    stub = getattr(world, "stub", None)
    if stub is None:
        return
    # Each request in turn is carried out and answered with a 502; where git is needed some are.
    name, stride = world.name, 2 if isinstance(world, GitLabWorld) else 8
    for number in range(0, 100, stride):
        world.name = f"{name}-{number}"
        stub.trouble = [(0, True)] * number + [(502, True)]
        try:
            work(world, lambda forge: a_request(forge, world))
        except ForgeUnavailableError:
            work(world, lambda forge: a_request(forge, world))
        beyond, stub.trouble = bool(stub.trouble), []
        assert world.requests() == [(BRANCH, "open")]
        if beyond:
            return
    pytest.fail("it asks without end")
