"""Asks a forge over HTTP; tells what may be asked again from what never will be answered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar
from urllib.parse import quote

import httpx

from rave_platform.application import tracing
from rave_platform.application.forge import ForgeRefusedError, ForgeUnavailableError
from rave_platform.domain.tracing import HEADER, SpanKind

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

# Seconds for an answer: Pagure merges within its request, and takes its time under emulation.
ANSWERED = 120.0
# Seconds that a forge can have us wait at most, whatever it says.
LONGEST_WAIT = 60.0
# Bytes of an answer, an archive of a project among them.
LARGEST = 64 * 1024 * 1024

T = TypeVar("T")

# What a forge said: each adapter knows the form of its own.
Json: TypeAlias = Any


@dataclass(frozen=True)
class _Question:
    """What is sent: a query, and JSON or the fields of a form."""

    params: Mapping[str, str] | None = None
    json: object = None
    data: Mapping[str, str] | None = None


class ForgeHttp:
    """The client of one forge, which knows us by a header."""

    def __init__(
        self,
        url: str,
        headers: Mapping[str, str],
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._client = httpx.AsyncClient(
            base_url=url, headers=headers, timeout=ANSWERED, transport=transport, trust_env=False,
            # On loopback no certificate is looked at: the list of those that sign takes 3 MiB.
            verify=not url.startswith("http:"),
        )  # fmt: skip

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, str] | None = None,
        json: object = None,
        data: Mapping[str, str] | None = None,
    ) -> Json:
        """Return the JSON with which the forge answers to JSON, or to the fields of a form.

        Raises:
            ForgeUnavailableError: if there is no answer now, or it wants us to wait.
            ForgeRefusedError: if it refuses this.
        """
        answer = await self._answer(method, path, _Question(params, json, data))
        try:
            return answer.json() if answer.content else {}
        except ValueError as fault:
            raise ForgeUnavailableError("the forge: no JSON") from fault

    async def find(self, path: str, params: Mapping[str, str] | None = None) -> Json:
        """Return what is at a path, or None if there is nothing; as `ask` otherwise."""
        try:
            return await self.ask("GET", path, params=params)
        except ForgeRefusedError as fault:
            if fault.status == 404:
                return None
            raise

    async def load(self, path: str, params: Mapping[str, str]) -> bytes:
        """Return the bytes at a path; as `ask` otherwise."""
        return (await self._answer("GET", path, _Question(params))).content

    async def _answer(self, method: str, path: str, question: _Question) -> httpx.Response:
        with tracing.part(method, SpanKind.CLIENT) as span:
            headers = {HEADER: span.context.header} if span else {}
            if span:
                span.say(http_request_method=method, url_path=path)
            answer = await self._sent(method, path, question, headers)
            if span and not answer.is_success and answer.status_code != 404:
                span.fail(str(answer.status_code))
        # A token that is refused may be put right.
        if answer.status_code in {401, 429} or answer.status_code >= 500:
            raise ForgeUnavailableError(f"the forge: {answer.status_code}", _wait(answer))
        if not answer.is_success:
            raise ForgeRefusedError(f"the forge: {_said(answer)}", answer.status_code)
        return answer

    async def _sent(
        self, method: str, path: str, question: _Question, headers: Mapping[str, str]
    ) -> httpx.Response:
        sent = self._client.stream(
            method, path, params=question.params, json=question.json, data=question.data,
            headers=headers,
        )  # fmt: skip
        try:
            async with sent as answer:
                if int(answer.headers.get("content-length", 0)) > LARGEST:
                    raise ForgeRefusedError("the forge: too large an answer")
                await answer.aread()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
            raise ForgeUnavailableError(f"the forge: {type(fault).__name__}") from fault
        return answer


def part(text: str) -> str:
    """Return one part of a path, whatever is in it."""
    return quote(text, safe="")


async def once(look: Callable[[], Awaitable[T | None]], make: Callable[[], Awaitable[Any]]) -> T:
    """Return what there is, made first if there is nothing.

    Who is refused looks again: it may have been made by a request of ours to which no answer came.

    Raises:
        ForgeUnavailableError: if it is not known to be there.
        ForgeRefusedError: if it is refused, and there is nothing.
    """
    found = await look()
    if found is not None:
        return found
    refused: ForgeRefusedError | None = None
    try:
        await make()
    except ForgeRefusedError as fault:
        refused = fault
    found = await look()
    if found is not None:
        return found
    raise refused or ForgeUnavailableError("the forge: not there yet", 1.0)


def _wait(answer: httpx.Response) -> float:
    said = answer.headers.get("retry-after", "")
    return min(LONGEST_WAIT, float(said)) if said.isdecimal() else 0.0


def _said(answer: httpx.Response) -> str:
    """Return what the forge says, shortly."""
    try:
        found = answer.json()
    except ValueError:
        found = {}
    words = found.get("message") or found.get("error") if isinstance(found, dict) else ""
    errors = found.get("errors") if isinstance(found, dict) else ""
    return f"{answer.status_code} {words or ''} {errors or ''}".strip()[:500]
