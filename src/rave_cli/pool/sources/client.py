"""Asks a forge: no more often than it allows, no more than it must, and nobody else."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from rave_cli import __version__
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.sources import dialects
from rave_cli.pool.sources.ledger import KnownPage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rave_cli.pool.sources.dialects import CommitReport
    from rave_cli.pool.sources.revision import Revision, RevisionKind
    from rave_cli.pool.sources.source import ForgeSource

# Seconds for an answer, its bytes, and pages of a list: who has more branches asks for patterns.
ANSWERS = 30.0
MOST_ANSWER = 8 << 20
MOST_PAGES = 50

# Seconds to wait if a forge says that it is too often, and not for how long; and the most that it
# is believed.
PATIENCE, MOST_PATIENCE = 60.0, 3600.0


class ForgeError(RaveError):
    """A forge that cannot be asked, or gives no usable answer."""


class ForgeBusyError(ForgeError):
    """The forge wants to be asked later, after `wait` seconds."""

    def __init__(self, host: str, wait: float) -> None:
        super().__init__(
            f"{host} wants to be asked again after {wait:.0f} s",
            hint="rave pool source show NAME   (when the next poll is)",
            exit_code=ExitCode.NOT_READY,
        )
        self.wait = wait


class ForgeRefusesError(ForgeError):
    """The forge says no: what was asked is not there, or not for this token."""


@dataclass
class ForgeClient:
    """A forge that can be asked for one source. For one thread."""

    source: ForgeSource
    http: httpx.Client
    clock: Callable[[], float] = time.time
    _resume: float = field(default=0.0)

    @property
    def host(self) -> str:
        """Who is asked, for messages."""
        return urlsplit(self.source.url).netloc

    def heads(self, known: Mapping[str, KnownPage]) -> tuple[list[Revision], list[KnownPage]]:
        """Return what the forge has that a job could be made for, of pages that are others than
        before, and those pages.

        Raises:
            ForgeBusyError: it wants to be asked later.
            ForgeRefusesError: it says no.
            ForgeError: it cannot be reached or gives no usable answer.
        """
        found: list[Revision] = []
        pages: list[KnownPage] = []
        lists = dialects.of(self.source.forge).lists(self.source)
        for kind in self.source.on:
            self._list(kind, self._api + lists[kind], known, found, pages)
        return found, pages

    def tell(self, told: CommitReport) -> None:
        """Tell the forge of a commit.

        Raises:
            ForgeError: as `heads`.
        """
        dialect = dialects.of(self.source.forge)
        path, body = dialect.status(self.source, told)
        form: dict[str, Any] = {"data": body} if dialect.as_form else {"json": body}
        try:
            self._ask("POST", self._api + path, **form)
        except ForgeRefusesError as refused:
            # GitLab refuses to be told what it knows ("Cannot transition status via :enqueue").
            if "Cannot transition status" not in refused.message:
                raise

    def look(self) -> None:
        """Ask for the first page of what is listed first, to see whether that is possible.

        Raises:
            ForgeError: as `heads`.
        """
        lists = dialects.of(self.source.forge).lists(self.source)
        self._ask("GET", self._api + lists[self.source.on[0]])

    @property
    def _api(self) -> str:
        return dialects.of(self.source.forge).api(self.source.url)

    def _list(
        self,
        kind: RevisionKind,
        address: str,
        known: Mapping[str, KnownPage],
        found: list[Revision],
        pages: list[KnownPage],
    ) -> None:
        read = dialects.of(self.source.forge).read
        for _ in range(MOST_PAGES):
            before = known.get(address)
            etag = {"If-None-Match": before.etag} if before and before.etag else {}
            answer, content = self._ask("GET", address, headers=etag)
            if answer.status_code == 304 and before is not None:
                following = before.following
            else:
                page = self._json(content)
                found += [one for one in read(kind, page) if one is not None]
                following = self._following(answer, page)
                pages.append(KnownPage(address, answer.headers.get("etag", "")[:256], following))
            if not following:
                return
            address = following

    def _following(self, answer: httpx.Response, page: object) -> str:
        """Return the address of the next page; one of another host would get the token."""
        said = answer.links.get("next", {}).get("url", "")
        if not said and isinstance(page, dict) and isinstance(page.get("pagination"), dict):
            # Pagure.
            said = page["pagination"].get("next") or ""
        if not isinstance(said, str) or not said:
            return ""
        ours, theirs = urlsplit(self._api), urlsplit(said)
        same = (ours.scheme, ours.netloc) == (theirs.scheme, theirs.netloc)
        if not same or len(said) > 2048:
            raise self._unusable("its next page is elsewhere")
        return said

    def _ask(
        self,
        method: str,
        address: str,
        **more: Any,  # noqa: ANN401 - of httpx
    ) -> tuple[httpx.Response, bytes]:
        wait = self._resume - self.clock()
        # Beyond that it was noted by a clock that has been set back since.
        if 0 < wait <= MOST_PATIENCE:
            raise ForgeBusyError(self.host, wait)
        content = b""
        try:
            with self.http.stream(method, address, **more) as answer:
                for part in answer.iter_bytes():
                    content += part
                    if len(content) > MOST_ANSWER:
                        raise self._unusable(f"it is longer than {MOST_ANSWER >> 20} MiB")
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise ForgeError(
                f"{self.host} cannot be asked: {error or type(error).__name__}",
                hint=f"curl -sSI {self.source.url}",
                exit_code=ExitCode.NOT_READY,
            ) from error
        self._judge(answer, content)
        return answer, content

    def _judge(self, answer: httpx.Response, content: bytes) -> None:
        status = answer.status_code
        wait = allowed_after(answer.headers, self.clock())
        # GitHub refuses with 403 what is too often; so does whoever allows no more now.
        if status == 429 or (status in (403, 503) and wait > 0):
            wait = min(max(wait, 1.0) if wait else PATIENCE, MOST_PATIENCE)
            self._resume = self.clock() + wait
            raise ForgeBusyError(self.host, wait)
        if wait > 0:
            # This was the last that it allows for now.
            self._resume = self.clock() + min(wait, MOST_PATIENCE)
        if 200 <= status < 300 or status == 304:
            return
        said = _said(content)
        if 400 <= status < 500:
            raise ForgeRefusesError(
                f"{self.host} says {status} of {self.source.repository}{said}",
                hint=f"rave pool source test {self.source.name}",
                exit_code=ExitCode.USAGE,
            )
        raise self._unusable(f"status {status}{said}")

    def _json(self, content: bytes) -> object:
        try:
            return json.loads(content)
        except (ValueError, RecursionError) as error:
            raise self._unusable("it is no JSON") from error

    def _unusable(self, why: str) -> ForgeError:
        return ForgeError(
            f"the answer of {self.host} cannot be used: {why}",
            hint=f"rave pool source test {self.source.name}",
            exit_code=ExitCode.NOT_READY,
        )


@contextmanager
def asking(source: ForgeSource, token: str) -> Iterator[ForgeClient]:
    """Yield what asks the forge of a source, with a token or without one."""
    headers = {"Accept": "application/json", "User-Agent": f"rave/{__version__}"}
    if token:
        headers |= dialects.of(source.forge).shows_token(token)
    # A redirection would take the token elsewhere.
    with httpx.Client(headers=headers, timeout=ANSWERS, follow_redirects=False) as http:
        yield ForgeClient(source, http)


def allowed_after(headers: Mapping[str, str], now: float) -> float:
    """Return after how many seconds a forge wants to be asked again; 0 if it does not say.

    `Retry-After` (RFC 9110, 10.2.3), else a limit of which nothing is left: GitHub's and Gitea's
    `X-RateLimit-*`, GitLab's `RateLimit-*`, whose reset is in seconds since the epoch.
    """
    after = headers.get("retry-after", "")
    if after:
        return _after(after, now)
    for prefix in ("x-ratelimit", "ratelimit"):
        left, reset = headers.get(f"{prefix}-remaining", ""), headers.get(f"{prefix}-reset", "")
        if left == "0" and reset.isdecimal() and reset.isascii():
            return max(0.0, float(reset[:12]) - now)
    return 0.0


def _after(said: str, now: float) -> float:
    if said.isdecimal() and said.isascii():
        return float(said[:9])
    try:
        return max(0.0, parsedate_to_datetime(said).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0


def _said(content: bytes) -> str:
    """Return what a refusal says, in one line."""
    try:
        found = json.loads(content)
    except (ValueError, RecursionError):
        return ""
    message = found.get("message") or found.get("error") if isinstance(found, dict) else ""
    text = message if isinstance(message, str) else json.dumps(message)
    line = "".join(c if c.isprintable() else " " for c in text[:200]).strip()
    return f": {line}" if line else ""
