"""Asks a chat server over HTTP; tells what may be asked again from what never will be answered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx

from rave_platform.application.chat.ports import ChatRefusedError, ChatUnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping

# Seconds for an answer: a server under emulation takes a while.
ANSWERED = 30.0
# Seconds for which a connection is kept for the next question: longer than between two signs of
# life (matrix.PINGED), and shorter than servers keep it, a minute as a rule.
KEPT = 45.0
# Seconds that a server can have us wait at most, whatever it says.
LONGEST_WAIT = 60.0


class ChatHttp:
    """The client of one server, with a token of its own."""

    def __init__(
        self, url: str, token: str, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        self.connected = False
        self._client = httpx.AsyncClient(
            base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=ANSWERED,
            transport=transport, trust_env=False,
            limits=httpx.Limits(keepalive_expiry=KEPT),
        )  # fmt: skip

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        params: Mapping[str, str | int] | None = None,
    ) -> dict[str, Any]:
        """Return the JSON object with which the server answers.

        Raises:
            ChatUnavailableError: if there is no answer now, or it wants us to wait.
            ChatRefusedError: if it refuses this.
        """  # fmt: skip
        try:
            answer = await self._client.request(method, path, json=body, params=params)
            document = answer.json() if answer.content else {}
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as fault:
            self.connected = False
            raise ChatUnavailableError(f"the chat: {type(fault).__name__}") from fault
        found = document if isinstance(document, dict) else {"answer": document}
        # A token that is refused may be put right; what was decided waits for that.
        if answer.status_code in {401, 429} or answer.status_code >= 500:
            self.connected = False
            raise ChatUnavailableError(f"the chat: {answer.status_code}", _wait(answer, found))
        self.connected = True
        if answer.is_success:
            return found
        code = str(found.get("errcode") or found.get("id") or "")
        raise ChatRefusedError(f"{answer.status_code} {code}".strip(), code)


def path(*parts: str) -> str:
    """Return a path of parts, of which each is one whatever it holds."""
    return "/" + "/".join(quote(part, safe="") for part in parts)


def _wait(answer: httpx.Response, found: Mapping[str, Any]) -> float:
    """Return the seconds that the server wants us to wait."""
    said = (
        answer.headers.get("retry-after") or answer.headers.get("x-ratelimit-reset")
        if answer.status_code == 429
        else None
    )
    milliseconds = found.get("retry_after_ms")
    if isinstance(milliseconds, int | float):
        return min(LONGEST_WAIT, max(0.0, milliseconds / 1000))
    return min(LONGEST_WAIT, float(said)) if said and said.isdecimal() else 0.0
