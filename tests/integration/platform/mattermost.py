"""A strict stand-in for a Mattermost server: what its documented API v4 says, and nothing else.

https://api.mattermost.com/ . What is not documented, or is not as it is documented, is a 400.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, Any

from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

if TYPE_CHECKING:
    from starlette.requests import Request

TOKEN = "a-bot-s-token"
BOT = "b" * 26
# What may stand in a new post.
FIELDS = {"channel_id", "message", "root_id", "file_ids", "props", "metadata", "pending_post_id"}


def name() -> str:
    """Return an id as the server makes them: 26 letters and digits."""
    return secrets.token_hex(13)


class MattermostStub:
    """The server, with one channel of which the bot is a member."""

    def __init__(self) -> None:
        self.channel = name()
        self.users = {BOT: {"id": BOT, "username": "rave", "is_bot": True, "delete_at": 0}}
        self.posts: dict[str, dict[str, Any]] = {}
        self.pending: dict[str, str] = {}
        # Statuses to answer with before anything else.
        self.trouble: list[tuple[int, dict[str, str]]] = []
        self._clock = int(time.time() * 1000)

    def app(self) -> Starlette:
        api = "/api/v4"
        return Starlette(
            routes=[
                Route(f"{api}/users/{{user}}", self._user, methods=["GET"]),
                Route(f"{api}/channels/{{channel}}/posts", self._channel_posts, methods=["GET"]),
                Route(f"{api}/posts", self._create, methods=["POST"]),
                Route(f"{api}/posts/{{post}}/thread", self._thread, methods=["GET"]),
            ]
        )

    # --- what people do

    def person(self, username: str, **more: object) -> str:
        user = name()
        self.users[user] = {
            "id": user, "username": username, "is_bot": False, "delete_at": 0, **more,
        }  # fmt: skip
        return user

    def say(self, user: str, message: str, root: str = "", **more: object) -> str:
        now = self._now()
        post: dict[str, Any] = {
            "id": name(), "create_at": now, "update_at": now, "edit_at": 0, "delete_at": 0,
            "user_id": user, "channel_id": self.channel, "root_id": root, "message": message,
            "type": "", "props": {}, **more,
        }  # fmt: skip
        made = str(post["id"])
        self.posts[made] = post
        return made

    def edit(self, post: str, message: str) -> None:
        now = self._now()
        self.posts[post] |= {"message": message, "edit_at": now, "update_at": now}

    def _now(self) -> int:
        # No two at once, so that the order is known.
        self._clock = max(self._clock + 1, int(time.time() * 1000))
        return self._clock

    # --- what the bot asks

    def _refused(self, request: Request) -> JSONResponse | None:
        if self.trouble:
            status, headers = self.trouble.pop(0)
            return _error(status, "stub.trouble", headers)
        if request.headers.get("authorization") != f"Bearer {TOKEN}":
            return _error(401, "api.context.session_expired.app_error")
        return None

    async def _user(self, request: Request) -> JSONResponse:
        if refused := self._refused(request):
            return refused
        user = request.path_params["user"]
        found = self.users.get(BOT if user == "me" else user)
        return JSONResponse(found) if found else _error(404, "app.user.missing_account.const")

    async def _channel_posts(self, request: Request) -> JSONResponse:
        if refused := self._refused(request):
            return refused
        if request.path_params["channel"] != self.channel:
            return _error(403, "api.context.permissions.app_error")
        if set(request.query_params) != {"since"}:
            return _error(400, "api.context.invalid_url_param.app_error")
        since = int(request.query_params["since"])
        found = {name: p for name, p in self.posts.items() if p["update_at"] > since}
        return JSONResponse(_list(found))

    async def _create(self, request: Request) -> JSONResponse:
        if refused := self._refused(request):
            return refused
        asked = await request.json()
        if wrong := self._wrong(asked):
            return wrong
        pending = asked.get("pending_post_id", "")
        if pending in self.pending:
            return JSONResponse(self.posts[self.pending[pending]], 201)
        made = self.say(BOT, asked["message"], asked.get("root_id", ""), props=asked["props"])
        self.pending[pending] = made
        return JSONResponse(self.posts[made], 201)

    def _wrong(self, asked: dict[str, Any]) -> JSONResponse | None:
        root = self.posts.get(asked.get("root_id", ""))
        pending = asked.get("pending_post_id", "")
        if asked.get("channel_id") != self.channel:
            return _error(403, "api.context.permissions.app_error")
        if asked.get("root_id") and (root is None or root["root_id"]):
            return _error(400, "api.post.create_post.root_id.app_error")
        known = not set(asked) - FIELDS and isinstance(asked.get("message"), str)
        if not known or (pending and not pending.startswith(f"{BOT}:")):
            return _error(400, "api.context.invalid_body_param.app_error")
        return None

    async def _thread(self, request: Request) -> JSONResponse:
        if refused := self._refused(request):
            return refused
        root = request.path_params["post"]
        if root not in self.posts:
            return _error(404, "app.post.get.app_error")
        found = {n: p for n, p in self.posts.items() if root in {n, p["root_id"]}}
        return JSONResponse(_list(found))


def _list(posts: dict[str, dict[str, Any]]) -> dict[str, Any]:
    order = sorted(posts, key=lambda post: -int(posts[post]["create_at"]))
    return {"order": order, "posts": posts, "next_post_id": "", "prev_post_id": ""}


def _error(status: int, name: str, headers: dict[str, str] | None = None) -> JSONResponse:
    document = {"id": name, "message": name, "status_code": status}
    return JSONResponse(document, status, headers)
