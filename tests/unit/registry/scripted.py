"""A registry that does what a test says, as no real one will when asked to."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import httpx

from rave_cli.errors import RaveError
from rave_cli.registry.reference import parse
from rave_cli.registry.repository import Repository
from rave_cli.registry.session import RegistrySession

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from rave_cli.registry.credentials import Credentials

    Answer = Callable[[httpx.Request], httpx.Response]

REFERENCE = parse("oci://registry.example.org/team/app:1.0")
HOST = "registry.example.org"


def repository(
    answer: Answer, credentials: Credentials | None = None, *, chunk: int = 10, plain: bool = False
) -> tuple[Repository, list[float]]:
    """Return the repository of a registry that answers so, and what was waited for it."""
    waited: list[float] = []

    def streamed(request: httpx.Request) -> httpx.Response:
        found = answer(request)
        if found.is_stream_consumed:
            # As from a network, nothing of it is read yet.
            content = found.content
            return httpx.Response(found.status_code, headers=found.headers, content=iter([content]))
        return found

    http = httpx.Client(
        transport=httpx.MockTransport(streamed), base_url=f"http{'' if plain else 's'}://{HOST}"
    )
    session = RegistrySession(http, REFERENCE, lambda: credentials, True, waited.append)
    return Repository(session, chunk), waited


def answers(*given: httpx.Response | Exception) -> tuple[Answer, list[httpx.Request]]:
    """Return what gives these answers one after another, and then the last again; and what it is
    asked.
    """
    asked: list[httpx.Request] = []
    left: Iterator[httpx.Response | Exception] = iter(given)

    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        asked.append(request)
        found = next(left, given[-1])
        if isinstance(found, Exception):
            raise found
        return httpx.Response(found.status_code, headers=found.headers, content=found.content)

    return answer, asked


@dataclass
class Faithful:
    """A registry by the letter of the specification, which keeps what it got of an upload that is
    cut, and cuts where it is told to.

    Attributes:
        cuts: for each request in turn where it is cut: None nowhere, a number of bytes of its body
            that still arrive, or -1 after all of it was done.
        chunked: whether uploads can be asked how far they are.
        vague: whether it says so as Gitea does: without a place, and one byte more than there are.
    """

    cuts: Iterator[int | None]
    chunked: bool = True
    vague: bool = False
    blobs: dict[str, bytes] = field(default_factory=dict)
    uploads: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def __call__(self, request: httpx.Request) -> httpx.Response:
        cut = next(self.cuts, None)
        body = request.read()
        self.asked.append(request.method)
        if cut is not None and cut >= 0:
            self._receive(request, body[:cut], whole=False)
            raise httpx.WriteError("cut")
        found = self._receive(request, body, whole=True)
        if cut is not None:
            raise httpx.ReadError("cut")
        return found

    def _receive(self, request: httpx.Request, body: bytes, *, whole: bool) -> httpx.Response:
        place = request.url.path.removeprefix("/v2/team/app/blobs/")
        upload = place.removeprefix("uploads/")
        if request.method == "HEAD":
            return httpx.Response(200 if place in self.blobs else 404)
        if request.method == "POST" and whole:
            upload = str(len(self.uploads))
            self.uploads[upload] = b""
            return self._at(202, upload)
        if upload not in self.uploads or (request.method == "GET" and not self.chunked):
            return httpx.Response(404)
        if request.method == "PATCH":
            return self._at(self._add(request, upload, body, whole=whole), upload)
        if request.method == "GET":
            return self._told(upload)
        return self._end(request, upload, body)

    def _told(self, upload: str) -> httpx.Response:
        if self.vague:
            return httpx.Response(204, headers={"range": f"0-{len(self.uploads[upload])}"})
        return self._at(204, upload)

    def _add(self, request: httpx.Request, upload: str, body: bytes, *, whole: bool) -> int:
        start = int(request.headers["content-range"].partition("-")[0])
        if start != len(self.uploads[upload]):
            return 416
        if whole or self.chunked:
            self.uploads[upload] += body
        return 202

    def _end(self, request: httpx.Request, upload: str, body: bytes) -> httpx.Response:
        data = self.uploads[upload] + body
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        if digest != request.url.params["digest"]:
            return httpx.Response(400, json={"errors": [{"code": "DIGEST_INVALID"}]})
        self.blobs[digest] = data
        del self.uploads[upload]
        return httpx.Response(201, headers={"docker-content-digest": digest})

    def _at(self, status: int, upload: str) -> httpx.Response:
        last = max(0, len(self.uploads[upload]) - 1)
        where = {"location": f"/v2/team/app/blobs/uploads/{upload}", "range": f"0-{last}"}
        return httpx.Response(status, headers=where)


def fault_of(call: Callable[[], object]) -> RaveError | None:
    """Return the fault that a call ends with; None if it ends without."""
    try:
        call()
    except RaveError as fault:
        return fault
    return None
