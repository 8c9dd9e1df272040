"""What the bridge asks of a chat: what is asked again, and what is refused for good."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from rave_platform.adapters.chat.http import ChatHttp
from rave_platform.adapters.chat.matrix import MatrixSettings
from rave_platform.adapters.chat.mattermost import MattermostChannel, MattermostSettings, fenced
from rave_platform.application.chat.ports import (
    ChatRefusedError,
    ChatUnavailableError,
)
from rave_platform.domain.chat.conversation import ChatDeed, DeedKind
from tests.unit.platform.chat.talk import ROOM, matrix

if TYPE_CHECKING:
    from collections.abc import Callable


SAY = ChatDeed("answer:1", DeedKind.SAY, ROOM, "$root", "$root", "hello")


def ask(channel: Callable[[httpx.MockTransport], Any], *script: httpx.Response | Exception) -> Any:
    """Carry out SAY with a channel whose server answers so; return what came, and the requests."""
    answers, requests = list(script), []

    def answer(request: httpx.Request) -> httpx.Response:
        requests.append(request)
        found = answers.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    async def work() -> Any:
        opened = channel(httpx.MockTransport(answer))
        try:
            return await opened.act(SAY)
        except (ChatRefusedError, ChatUnavailableError) as fault:
            return fault
        finally:
            await opened.close()

    return asyncio.run(work()), requests


@pytest.mark.parametrize(
    ("answer", "wait"),
    [
        (httpx.Response(429, json={"retry_after_ms": 2500}), 2.5),
        (httpx.Response(429, json={"retry_after_ms": 1e12}), 60.0),
        (httpx.Response(429, json={}, headers={"retry-after": "7"}), 7.0),
        (httpx.Response(429, json=[], headers={"retry-after": "soon"}), 0.0),
        (httpx.Response(500, json={}), 0.0),
        (httpx.Response(401, json={"errcode": "M_UNKNOWN_TOKEN"}), 0.0),
        (httpx.Response(200, content=b"<html>"), 0.0),
        (httpx.ConnectError("no"), 0.0),
        (httpx.ReadTimeout("no"), 0.0),
    ],
)
def test_what_may_be_answered_later_is_asked_again(
    answer: httpx.Response | Exception, wait: float
) -> None:
    fault, _ = ask(matrix, answer)
    assert isinstance(fault, ChatUnavailableError)
    assert fault.retry_after == wait


def test_what_is_refused_for_good_says_why() -> None:
    fault, (request,) = ask(matrix, httpx.Response(403, json={"errcode": "M_FORBIDDEN"}))
    assert isinstance(fault, ChatRefusedError)
    assert (str(fault), fault.code) == ("403 M_FORBIDDEN", "M_FORBIDDEN")
    assert request.headers["authorization"] == "Bearer as"
    # Whatever a room is called, it is one part of the path.
    raw = request.url.raw_path.decode()
    assert raw.startswith("/_matrix/client/v3/rooms/%21room%3Arave.test/send/m.room.message/")


def test_a_server_that_moves_us_elsewhere_is_not_followed() -> None:
    fault, _ = ask(matrix, httpx.Response(302, headers={"location": "http://elsewhere/"}))
    assert isinstance(fault, ChatRefusedError)


def test_a_token_of_mattermost_that_is_unknown_is_waited_for() -> None:
    def mattermost(transport: httpx.MockTransport) -> MattermostChannel:
        part = MattermostSettings("http://mm", (ROOM,), "token")
        return MattermostChannel(part, transport)

    fault, _ = ask(mattermost, httpx.Response(403, json={"id": "x"}))
    assert isinstance(fault, ChatUnavailableError)


def test_a_fence_is_longer_than_what_it_holds() -> None:
    assert fenced("a") == "```\na\n```"
    assert fenced("a ```` b") == "`````\na ```` b\n`````"


def test_nobody_sees_a_token() -> None:
    part = MatrixSettings("http://hs", "rave", "secret-as", "secret-hs")
    assert "secret" not in repr(part)
    assert "secret" not in repr(MattermostSettings("http://mm", (), "secret"))
    assert "secret" not in repr(ChatHttp("http://hs", "secret"))
