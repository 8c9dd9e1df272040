"""What both stand-ins for forges share: routes that are strict, and requests as they came."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, unquote

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.types import Receive, Scope, Send

    Handler = Callable[["Asked"], Awaitable[Response]]


class RefusedError(Exception):
    """What the forge refuses: the status, and its words."""

    def __init__(self, status: int, **words: object) -> None:
        super().__init__(status)
        self.status, self.words = status, words


@dataclass
class Asked:
    """A request: the parts of its path that vary, its query, and its fields."""

    parts: dict[str, str]
    query: dict[str, str]
    fields: dict[str, Any]
    request: Request


class StrictForge:
    """Answers what is documented. What is not is refused and kept in `complaints`."""

    def __init__(self) -> None:
        self.complaints: list[str] = []
        self.asked: list[str] = []
        # What each request said of its trace.
        self.headers: list[str] = []
        # What to answer with before anything else: a status, and whether it was done all the same.
        self.trouble: list[tuple[int, bool]] = []
        self._routes: list[tuple[str, re.Pattern[str], set[str], set[str], set[str], Handler]] = []

    def route(
        self, method: str, path: str, handler: Handler, *, query: str = "", may: str = "",
        must: str = "",
    ) -> None:  # fmt: skip
        """Have something answered: `{name}` stands for one part of a path, whatever is in it."""
        pattern = re.compile(re.sub(r"\{(\w+)\}", r"(?P<\1>[^/]+)", path))
        names = (set(query.split()), set(may.split()), set(must.split()))
        self._routes.append((method, pattern, *names, handler))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        assert scope["type"] == "http"
        request = Request(scope, receive)
        trouble, done = self.trouble.pop(0) if self.trouble else (0, True)
        response: Response = JSONResponse({"message": "trouble"}, trouble or 500)
        if done:
            answer = await self._answer(request)
            response = response if trouble else answer
        if trouble == 429:
            response.headers["retry-after"] = "7"
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        path = request.scope["raw_path"].decode().partition("?")[0]
        self.asked.append(f"{request.method} {path}")
        self.headers.append(request.headers.get("traceparent", ""))
        for method, pattern, query, may, must, handler in self._routes:
            found = pattern.fullmatch(path)
            if found and method == request.method:
                try:
                    self.authenticate(request)
                    asked = await self._asked(request, found, query, may | must, must)
                    return await handler(asked)
                except RefusedError as fault:
                    return JSONResponse(fault.words, fault.status)
        self.complaints.append(f"{request.method} {path} is not documented")
        return JSONResponse({"error": "404 Not Found"}, 404)

    def authenticate(self, request: Request) -> None:
        """Refuse who does not prove to be us."""
        raise NotImplementedError

    async def _asked(
        self, request: Request, found: re.Match[str], query: set[str], may: set[str], must: set[str]
    ) -> Asked:
        body = await request.body()
        said = dict(parse_qsl(request.scope["query_string"].decode(), keep_blank_values=True))
        fields: dict[str, Any] = {}
        if body and request.headers["content-type"] == "application/json":
            fields = json.loads(body)
        elif body and "/api/" in found[0]:
            assert request.headers["content-type"] == "application/x-www-form-urlencoded"
            fields = dict(parse_qsl(body.decode(), keep_blank_values=True))
        if wrong := (set(said) - query) | (set(fields) - may) | (must - set(fields)):
            self.complaints.append(f"{request.method} {found[0]}: {sorted(wrong)}")
            raise RefusedError(400, error=f"{sorted(wrong)}")
        parts = {name: unquote(value) for name, value in found.groupdict().items()}
        return Asked(parts, said, fields, request)
