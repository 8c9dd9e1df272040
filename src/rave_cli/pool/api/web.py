"""The API as an ASGI application: what is asked is bounded and checked before anything is done."""

from __future__ import annotations

import asyncio
import json
import logging
import re
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route, WebSocketRoute
from starlette.websockets import WebSocket, WebSocketDisconnect

from rave_cli import audit, shapes
from rave_cli.audit import AuditedCommand
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.access.wire import (
    IDEMPOTENCY_KEY,
    MEDIA_TYPE,
    MOST_BODY,
    PREFIX,
    PROBLEM,
    PieceTold,
    SubmitAsked,
)
from rave_cli.pool.api import downloads, openapi
from rave_cli.pool.api.callers import RefusedCallerError, require
from rave_cli.pool.api.endpoints import ENDPOINTS
from rave_cli.pool.api.uploads import keep_body
from rave_cli.pool.asking.following import FollowedJob
from rave_cli.pool.jobs import tracecontext
from rave_cli.pool.jobs.job import Job
from rave_cli.pool.jobs.store import Piece, UnknownJobError
from rave_cli.pool.jobs.submission import KEY, Submission
from rave_cli.pool.serving import metrics
from rave_cli.records import faults

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rave_cli.pool.access.local import LocalPool
    from rave_cli.pool.access.wire import PoolQuestion
    from rave_cli.pool.api.callers import Caller, Callers
    from rave_cli.pool.api.endpoints import ApiEndpoint
    from rave_cli.pool.api.events import JobFeed
    from rave_cli.pool.api.hookdoor import HookDoor
    from rave_cli.pool.api.storethread import Acceptance, StoreThread
    from rave_cli.pool.jobs.work import Work
    from rave_cli.pool.serving.metrics import PoolMetrics

log = logging.getLogger("rave.pool.api")

T = TypeVar("T", bound="PoolQuestion")

# Seconds for a body to be there, after which it is worth asking a full pool again, and between two
# looks at whether whoever listens still may.
BODY_WITHIN = 10.0
FULL_FOR = 5
STILL_MAY = 5.0

# Seconds between two looks at a job that is followed.
LOOK = 0.05

# Of streams: RFC 6455, 7.4.1 (1008 policy, 1013 try again later), and 4401 as HTTP's 401.
POLICY, LATER, NO_MORE = 1008, 1013, 4401

# RFC 9651, 3.3.3; parameters say nothing to us.
_STRING = re.compile(r'"((?:[\x20-\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"(?:;.*)?')


class UnfitQuestionError(RaveError):
    """What is asked is none; `status` is that of HTTP."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message, hint=f"GET {PREFIX}/openapi.json", exit_code=ExitCode.USAGE)
        self.status = status


@dataclass(frozen=True)
class PoolWeb:
    """What answers; `callers` knows who asks through the door that this is behind."""

    callers: Callers
    reads: StoreThread
    acceptance: Acceptance
    feed: JobFeed
    metrics: PoolMetrics
    hooks: HookDoor

    def app(self) -> Starlette:
        """Return the ASGI application."""
        handlers: dict[int | type[Exception], Any] = {HTTPException: _http_fault, Exception: _fault}
        return Starlette(
            routes=[
                *(
                    Route(PREFIX + one.path, self._answered(partial(self._ask, one)),
                          methods=[one.method])
                    for one in ENDPOINTS
                ),
                Route(f"{PREFIX}/jobs", self._answered(self._submit), methods=["POST"]),
                Route(f"{PREFIX}/jobs/{{job}}/proof", self._answered(self._proof)),
                Route(f"{PREFIX}/jobs/{{job}}/artifacts/{{path:path}}",
                      self._answered(self._artifact)),
                Route(f"{PREFIX}/inputs", self._answered(self._give), methods=["POST"]),
                Route(f"{PREFIX}/openapi.json", _openapi, methods=["GET"]),
                Route("/metrics", self._answered(self._figures), methods=["GET"]),
                Route(f"{PREFIX}/health", _health, methods=["GET"]),
                Route(f"{PREFIX}/hooks/{{source}}", self._answered(self.hooks.answer),
                      methods=["POST"]),
                WebSocketRoute(f"{PREFIX}/jobs/{{job}}/follow", self._follow),
                WebSocketRoute(f"{PREFIX}/events", self._events),
            ],
            exception_handlers=handlers,
        )  # fmt: skip

    def _answered(
        self, answer: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        async def told(request: Request) -> Response:
            try:
                return await answer(request)
            except RaveError as error:
                return _problem(error)

        return told

    async def _ask(self, endpoint: ApiEndpoint, request: Request) -> Response:
        caller = self.callers.of(request)
        require(caller, endpoint.own or endpoint.role)
        asked = await _asked(endpoint, request)
        found = await self.reads.do(partial(_carried_out, endpoint, asked, caller))
        return _json(200, found)

    async def _figures(self, request: Request) -> Response:
        require(self.callers.of(request), "viewer")
        text = await self.reads.do(lambda pool: self.metrics.text(pool.store))
        return Response(text, media_type=metrics.MEDIA_TYPE)

    async def _submit(self, request: Request) -> Response:
        caller = self.callers.of(request)
        require(caller, "submitter")
        asked = _model(SubmitAsked, await _json_body(request))
        works = _traced([one.work() for one in asked.jobs], request.headers.get("traceparent", ""))
        if any(work.secrets for work in works):
            # Whoever runs a command with a secret can read it.
            require(caller, "operator")
        asked_for = Submission(tuple(works), caller.owner, _key(request))
        jobs = await self.acceptance.accept(asked_for, caller.name)
        return _json(201, jobs)

    async def _give(self, request: Request) -> Response:
        caller = self.callers.of(request)
        require(caller, "submitter")
        return _json(201, await keep_body(request.stream()))

    async def _proof(self, request: Request) -> Response:
        require(self.callers.of(request), "viewer")
        name = str(request.path_params["job"])
        return await self.reads.do(lambda pool: downloads.proof(pool, name))

    async def _artifact(self, request: Request) -> Response:
        require(self.callers.of(request), "viewer")
        name, path = str(request.path_params["job"]), str(request.path_params["path"])
        return await self.reads.do(lambda pool: downloads.artifact(pool, name, path))

    async def _follow(self, stream: WebSocket) -> None:
        caller = await self._let_in(stream)
        if caller is None:
            return
        try:
            name = str(stream.path_params["job"])
            job = await self.reads.do(lambda pool: pool.load(name))
        except RaveError as error:
            await _deny(stream, error)
            return
        following = FollowedJob(job.name)

        async def tell() -> None:
            while not following.over:
                told = await self.reads.do(lambda pool: following.look(pool.store))
                for one in told:
                    await stream.send_text(_message(one))
                if not told:
                    await asyncio.sleep(LOOK)

        await self._streamed(stream, caller, tell)

    async def _events(self, stream: WebSocket) -> None:
        caller = await self._let_in(stream)
        if caller is None:
            return
        with self.feed.listening() as jobs:

            async def tell() -> None:
                while (job := await jobs.get()) is not None:
                    await stream.send_text(_message(job))

            await self._streamed(stream, caller, tell)

    async def _let_in(self, stream: WebSocket) -> Caller | None:
        """Return who listens; None if they were told that they may not."""
        try:
            caller = self.callers.of(stream)
            require(caller, "viewer")
            if self.feed.full:
                message, hint = "too many listen", "try again later"
                raise RefusedCallerError(503, message, hint=hint, wait=FULL_FOR)
        except RaveError as error:
            await _deny(stream, error)
            return None
        return caller

    async def _streamed(
        self, stream: WebSocket, caller: Caller, tell: Callable[[], Awaitable[None]]
    ) -> None:
        """Tell somebody, as long as they listen and may."""
        await stream.accept()
        telling = asyncio.ensure_future(tell())
        hearing = asyncio.ensure_future(_gone(stream))
        code, why = LATER, "ask again what there is"
        try:
            while not (telling.done() or hearing.done()):
                await asyncio.wait(
                    (telling, hearing), timeout=STILL_MAY, return_when=asyncio.FIRST_COMPLETED
                )
                if not telling.done() and not self.callers.still(caller):
                    code, why = NO_MORE, "the token may not be used any more"
                    break
            if telling.done():
                with suppress(WebSocketDisconnect, RaveError):
                    telling.result()
                    code, why = 1000, ""
        finally:
            telling.cancel()
            hearing.cancel()
            with suppress(RuntimeError):
                await stream.close(code, why)


def _carried_out(
    endpoint: ApiEndpoint, asked: PoolQuestion, caller: Caller, pool: LocalPool
) -> Any:  # noqa: ANN401 - any answer
    if endpoint.own and pool.load(str(getattr(asked, "job", ""))).owner != caller.owner:
        require(caller, endpoint.role)
    if not endpoint.acts:
        return endpoint.answer(pool, asked)
    subjects = [str(name) for name in asked.model_dump().values() if isinstance(name, str)]
    told = AuditedCommand.of(f"pool {endpoint.verb}", [*subjects, f"by {caller.name}"], ["api"])
    with audit.attempt(told, log.warning) as attempt:
        try:
            return endpoint.answer(replace(pool, owner=caller.owner), asked)
        except RaveError as error:
            attempt.exit_code = int(error.exit_code)
            raise


# --- what is asked -------------------------------------------------------------------------------


async def _asked(endpoint: ApiEndpoint, request: Request) -> PoolQuestion:
    below = {name: str(value) for name, value in request.path_params.items()}
    if endpoint.acts:
        said = await _json_body(request)
        if not isinstance(said, dict) or below.keys() & said.keys():
            raise UnfitQuestionError(422, "the body must be an object, of what is not in the path")
        return _model(endpoint.asked, said | below)
    query: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name == "state":
            query.setdefault(name, []).append(value)
        elif name in query or name in below:
            raise UnfitQuestionError(422, f"{name[:64]!r} is asked twice")
        else:
            query[name] = int(value) if re.fullmatch("[0-9]{1,18}", value) else value
    return _model(endpoint.asked, query | below)


def _model(kind: type[T], said: object) -> T:
    try:
        return kind.model_validate_json(json.dumps(said))
    except ValidationError as error:
        raise UnfitQuestionError(422, "; ".join(faults(error)[:4])) from error


def _key(request: Request) -> str:
    """Return what tells a submission from any other of whoever asks; empty if nothing does."""
    said = request.headers.getlist(IDEMPOTENCY_KEY)
    if not said:
        return ""
    found = _STRING.fullmatch(said[0].strip())
    key = re.sub(r"\\(.)", r"\1", found[1]) if found else ""
    if len(said) > 1 or not KEY.fullmatch(key):
        raise UnfitQuestionError(400, f"{IDEMPOTENCY_KEY} is one string, as in RFC 9651")
    return key


def _traced(works: list[Work], header: str) -> list[Work]:
    """Return jobs as parts of the span of whoever asks, unless they say of which themselves. A
    header that is none is as if there were none (W3C Trace Context, 4.3).
    """
    if tracecontext.parse(header) is None:
        return works
    return [work if work.traceparent else replace(work, traceparent=header) for work in works]


async def _json_body(request: Request) -> object:
    body = await _body(request)
    try:
        return json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise UnfitQuestionError(400, "the body is no JSON in UTF-8") from error


async def _body(request: Request) -> bytes:
    said = request.headers.get("content-length", "")
    if said.isdecimal() and int(said[:20]) > MOST_BODY:
        raise UnfitQuestionError(413, f"the body is larger than {MOST_BODY >> 10} KiB")
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_WITHIN):
            async for part in request.stream():
                size += len(part)
                if size > MOST_BODY:
                    raise UnfitQuestionError(413, f"the body is larger than {MOST_BODY >> 10} KiB")
                parts.append(part)
    except (TimeoutError, ClientDisconnect) as error:
        raise UnfitQuestionError(408, f"the body is not there after {BODY_WITHIN:g} s") from error
    return b"".join(parts)


async def _gone(stream: WebSocket) -> None:
    """Return when whoever listens has gone; what they say is nothing to us."""
    with suppress(WebSocketDisconnect, RuntimeError):
        while (await stream.receive())["type"] != "websocket.disconnect":
            pass


# --- what is answered ----------------------------------------------------------------------------


def _message(told: Job | Piece) -> str:
    known = {"job": shapes.plain(told)} if isinstance(told, Job) else {"piece": PieceTold.of(told)}
    return json.dumps(known)


def _json(status: int, document: object) -> Response:
    return Response(json.dumps(shapes.plain(document)), status, media_type=MEDIA_TYPE)


def _problem(error: RaveError) -> Response:
    status, wait = _status(error)
    title, hint = error.message, error.hint
    if status >= 500 and error.exit_code is not ExitCode.NOT_READY:
        # Paths of the pool's host are of no use to whoever asks.
        log.error("%s", error.message)
        title, hint = "the pool's host cannot do that now", "on the pool's host: rave pool status"
    document: dict[str, Any] = {
        "title": title, "status": status, "exit_code": int(error.exit_code), "hint": hint,
    }  # fmt: skip
    headers = {}
    if wait:
        document["retry_after"] = wait
        headers["Retry-After"] = str(wait)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    return Response(json.dumps(document), status, headers=headers, media_type=PROBLEM)


def _status(error: RaveError) -> tuple[int, int]:
    """Return the status of an error, and after how many seconds it is worth asking again."""
    status = int(getattr(error, "status", 0))
    if status:
        return status, int(getattr(error, "wait", 0))
    if error.exit_code is ExitCode.USAGE:
        return (404 if isinstance(error, UnknownJobError) else 422), 0
    if error.exit_code in (ExitCode.CHECK_FAILED, ExitCode.VERIFICATION):
        return 422, 0
    return 503, FULL_FOR


async def _http_fault(_request: Request, fault: Exception) -> Response:
    status = fault.status_code if isinstance(fault, HTTPException) else 404
    detail = fault.detail if isinstance(fault, HTTPException) else ""
    return _problem(UnfitQuestionError(status, str(detail)))


async def _fault(_request: Request, fault: Exception) -> Response:
    log.error("the pool's API has a fault", exc_info=fault)
    document = {"title": "rave has a fault", "status": 500, "exit_code": int(ExitCode.CHECK_FAILED)}
    return Response(json.dumps(document), 500, media_type=PROBLEM)


async def _deny(stream: WebSocket, error: RaveError) -> None:
    await stream.send_denial_response(_problem(error))


async def _openapi(_request: Request) -> Response:
    return _json(200, openapi.document())


async def _health(_request: Request) -> Response:
    return _json(200, {"status": "ok"})
