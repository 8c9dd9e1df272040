"""Carries out one step of a task; done twice, each comes to the same."""

from __future__ import annotations

import base64
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from rave_platform.application.agents.ports import TaskFailedError
from rave_platform.application.forge import ForgeRefusedError, ForgeUnavailableError
from rave_platform.domain import forge as forges
from rave_platform.domain.agents import limits, wording
from rave_platform.domain.agents.progress import StepName
from rave_platform.domain.forge import CommitStatus, NewCommit, NewMergeRequest, StatusState

if TYPE_CHECKING:
    from collections.abc import Mapping

    from rave_platform.application.agents.ports import Runner
    from rave_platform.application.forge import Forge
    from rave_platform.domain.agents.limits import TaskLimits
    from rave_platform.domain.agents.progress import StepOutcome, TaskProgress
    from rave_platform.domain.forge import MergeRequest

CHECK = "rave-tests"
# How much earlier than its task a project may have been made, by a clock that is not ours.
CLOCKS = timedelta(minutes=5)


class Steps:
    """The steps, before one forge and with one runner.

    `hook` is who hears from the forge of what happens in a project that was made, if anybody.
    """

    def __init__(
        self, forge: Forge, runner: Runner, allowed: TaskLimits, *, hook: str = ""
    ) -> None:
        self._forge = forge
        self._runner = runner
        self._allowed = allowed
        self._hook = hook

    async def carry_out(self, progress: TaskProgress) -> StepOutcome:
        """Carry out the next step, which has begun; return what it came to.

        Raises:
            TaskFailedError: if it cannot be done.
            UnavailableError: if something is not there now.
        """
        assert progress.step is not None  # noqa: S101 - it has begun
        try:
            return await self._carry_out(progress.step, progress)
        except ForgeRefusedError as fault:
            raise TaskFailedError(str(fault)) from fault

    async def _carry_out(self, step: StepName, progress: TaskProgress) -> StepOutcome:
        deeds = {
            StepName.CREATE: self._create,
            StepName.PROJECT: self._project,
            StepName.WRITE: self._write,
            StepName.TEST: self._test,
            StepName.BRANCH: self._branch,
            StepName.COMMIT: self._commit,
            StepName.REQUEST: self._request,
            StepName.STATUS: self._status,
        }
        return await deeds[step](progress)

    async def _create(self, progress: TaskProgress) -> StepOutcome:
        task = progress.task
        found = await self._forge.create_project(task.project, wording.title(task))
        if self._hook:
            # It signs with a key that the dispatcher works out itself.
            await self._forge.see_to_hook(found.path, self._hook, "")
        old = found.created_at < task.created_at - CLOCKS
        return {"path": found.path, "url": f"{found.url}{' was there already' if old else ''}"}

    async def _project(self, progress: TaskProgress) -> StepOutcome:
        name = progress.task.project
        found = await self._forge.project(name)
        if found is None:
            raise TaskFailedError(f"there is no project {name}; !rave create project makes one")
        return {"path": found.path, "branch": found.default_branch, "url": found.url}

    async def _write(self, progress: TaskProgress) -> StepOutcome:
        allowed = limits.budget(self._allowed, progress.begun[StepName.WRITE])
        base = await self._base(progress)
        written = await self._runner.write(progress.task, base, allowed)
        if why := limits.too_dear(written.cost, allowed):
            raise TaskFailedError(why)
        try:
            forges.require_files(written.files)
        except ValueError as fault:
            raise TaskFailedError(f"what was written cannot be committed: {fault}") from fault
        return {
            "summary": written.summary, "cost": written.cost,
            "files": {n: base64.b64encode(data).decode() for n, data in written.files.items()},
        }  # fmt: skip

    async def _test(self, progress: TaskProgress) -> StepOutcome:
        base = await self._base(progress)
        return {"said": await self._runner.test(progress.task, {**base, **_files(progress)})}

    async def _base(self, progress: TaskProgress) -> Mapping[str, bytes]:
        if not self._runner.reads:
            return {}
        start = progress.outcomes[StepName.PROJECT]["branch"]
        return await self._forge.files(_path(progress), start)

    async def _branch(self, progress: TaskProgress) -> StepOutcome:
        start = progress.outcomes[StepName.PROJECT]["branch"]
        branch = wording.branch(progress.task)
        return {"start": await self._forge.create_branch(_path(progress), branch, start)}

    async def _commit(self, progress: TaskProgress) -> StepOutcome:
        task = progress.task
        wanted = NewCommit(
            wording.branch(task), wording.message(task), _files(progress), task.created_at
        )
        return {"commit": await self._forge.commit(_path(progress), wanted)}

    async def _request(self, progress: TaskProgress) -> StepOutcome:
        task, outcomes = progress.task, progress.outcomes
        wanted = NewMergeRequest(
            wording.branch(task), outcomes[StepName.PROJECT]["branch"], wording.title(task),
            wording.description(
                task, outcomes[StepName.WRITE]["summary"], outcomes[StepName.TEST]["said"]
            ),
        )  # fmt: skip
        found = await self._forge.open_merge_request(_path(progress), wanted)
        return {"number": found.number, "url": found.url}

    async def _status(self, progress: TaskProgress) -> StepOutcome:
        request = await self._forge.merge_request(_path(progress), wording.branch(progress.task))
        if request is None:
            raise TaskFailedError("its merge request is gone")
        said = str(progress.outcomes[StepName.TEST]["said"])
        status = CommitStatus(CHECK, StatusState.SUCCESS, said, request.url)
        await self._forge.set_status(_path(progress), _settled(request), status)
        return {}


def _settled(request: MergeRequest) -> MergeRequest:
    """Return a merge request whose commit the forge knows: it may find it after opening."""
    if not request.commit:
        raise ForgeUnavailableError("the forge: the merge request has no commit yet", 1.0)
    return request


def _path(progress: TaskProgress) -> str:
    return str(progress.outcomes[StepName.PROJECT]["path"])


def _files(progress: TaskProgress) -> dict[str, bytes]:
    files: Mapping[str, Any] = progress.outcomes[StepName.WRITE]["files"]
    return {name: base64.b64decode(data) for name, data in files.items()}
