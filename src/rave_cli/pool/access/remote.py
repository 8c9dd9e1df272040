"""A pool that is asked over its API: on this host's socket, or on another host by TLS."""

from __future__ import annotations

import json
import os
import socket
import ssl
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

import httpx
from pydantic import ValidationError

from rave_cli import paths
from rave_cli.errors import ExitCode, RaveError
from rave_cli.pool.access.wire import (
    IDEMPOTENCY_KEY,
    MOST_LISTED,
    PREFIX,
    Explained,
    PieceTold,
    Problem,
    RetriedJob,
    Told,
    adapter,
    asked_of,
)
from rave_cli.pool.asking.standing import PoolStanding
from rave_cli.pool.files import artifacts, inputs
from rave_cli.pool.jobs.job import Artifact, Job
from rave_cli.pool.jobs.spans import JobTrace
from rave_cli.pool.jobs.store import Piece, Scale
from rave_cli.pool.jobs.work import JobInput

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rave_cli.pool.asking.explaining import JobReason
    from rave_cli.pool.jobs.work import Work

TOKEN = "RAVE_POOL_TOKEN"  # noqa: S105 - a variable's name
CA = "RAVE_POOL_CA"

# Seconds for an answer, and for a piece of an archive to be taken.
ANSWERS = 30.0

# Bytes of a message of a stream: a piece of output in base64, or a job with all that it asks for.
LONGEST_MESSAGE = 1 << 20

# Bytes of a proof; one that is larger is read so far, and refused by whoever verifies it.
LARGEST_PROOF = 8 << 20


@dataclass(frozen=True)
class PoolConnection:
    """How a pool is reached: its address for people, the client, and what a stream of events takes.

    Attributes:
        shown: the endpoint.
        http: asks it.
        socket: the path of its socket; None if it is on the network.
        context: how TLS is done there.
    """

    shown: str
    http: httpx.Client
    socket: str | None
    context: ssl.SSLContext | None


@contextmanager
def connection(endpoint: str) -> Iterator[PoolConnection]:
    """Yield what asks the pool at an endpoint; nothing is asked yet.

    Raises:
        RaveError: USAGE if it is no endpoint, or the certificates to trust are none.
    """
    found = urlsplit(endpoint)
    if found.scheme == "unix" and found.path:
        transport = httpx.HTTPTransport(uds=found.path)
        with httpx.Client(transport=transport, base_url="http://pool", timeout=ANSWERS) as http:
            yield PoolConnection(endpoint, http, found.path, None)
    elif found.scheme == "https" and found.hostname and not (found.username or found.query):
        context = _trusting()
        token = os.environ.get(TOKEN, "").strip()
        said = {"Authorization": f"Bearer {token}"} if token.isascii() and token else {}
        base = f"https://{found.netloc}"
        with httpx.Client(
            base_url=base, timeout=ANSWERS, verify=context, headers=said, trust_env=False
        ) as http:
            yield PoolConnection(endpoint, http, None, context)
    else:
        raise RaveError(
            "--endpoint names no pool",
            hint="--endpoint https://HOST:PORT; or --endpoint unix:PATH",
            exit_code=ExitCode.USAGE,
        )


def _trusting() -> ssl.SSLContext:
    file = os.environ.get(CA) or None
    try:
        return ssl.create_default_context(cafile=file)
    except (OSError, ssl.SSLError) as error:
        raise RaveError(
            f"{CA} names no file of certificates: {error}",
            hint=f"{CA}=FILE, in PEM; as ~/.local/share/rave/pool/tls/cert.pem",
            exit_code=ExitCode.USAGE,
        ) from error


@dataclass(frozen=True)
class RemotePool:
    """A PoolAccess over a connection."""

    connection: PoolConnection

    def submit(self, works: Sequence[Work], key: str = "") -> list[Job]:
        """As PoolAccess."""
        for work in works:
            if work.given is not None:
                self._give(work.given)
        jobs = [asked_of(work) for work in works]
        # A string of Structured Fields, in which these two are escaped (RFC 9651, 3.3.3).
        escaped = key.replace("\\", "\\\\").replace('"', '\\"')
        headers = {IDEMPOTENCY_KEY: f'"{escaped}"'} if key else {}
        found: list[Job] = self._ask("POST", "/jobs", list[Job], {"jobs": jobs}, headers=headers)
        return found

    def _give(self, given: JobInput) -> None:
        fd = inputs.open_kept(given)
        with os.fdopen(fd, "rb") as archive:
            self._ask("POST", "/inputs", JobInput, content=archive)

    def load(self, name: str) -> Job:
        """As PoolAccess."""
        found: Job = self._ask("GET", _of(name), Job)
        return found

    def newest(self, most: int, states: Sequence[str] = (), *, before: str = "") -> list[Job]:
        """As PoolAccess; MOST_LISTED at most."""
        asked: dict[str, Any] = {"most": min(most, MOST_LISTED), "state": list(states)}
        if before:
            asked["before"] = before
        found: list[Job] = self._ask("GET", "/jobs", list[Job], params=asked)
        return found

    def output(self, job: Job) -> Iterator[Piece]:
        """As PoolAccess."""
        after = 0
        while pieces := self.printed(job, after):
            yield from pieces
            after = pieces[-1].number

    def printed(self, job: Job, after: int) -> list[Piece]:
        """As PoolAccess."""
        asked = {"attempt": job.attempt, "after": after}
        found: list[PieceTold] = self._ask(
            "GET", f"{_of(job.name)}/output", list[PieceTold], params=asked
        )
        return [told.piece() for told in found]

    def proof(self, job: Job) -> bytes | None:
        """As PoolAccess."""
        try:
            return b"".join(self._content(f"{_of(job.name)}/proof", LARGEST_PROOF))
        except RaveError as error:
            if error.exit_code == ExitCode.VERIFICATION:
                return None
            raise

    def artifact(self, job: Job, one: Artifact) -> Iterator[bytes]:
        """As PoolAccess."""
        return self._content(f"{_of(job.name)}/artifacts/{quote(one.path, safe='/')}", one.size)

    def hand_out(self, job: Job, target: Path) -> None:
        """As PoolAccess."""
        artifacts.hand_out(job, target, self.artifact)

    @contextmanager
    def left(self, job: Job) -> Iterator[Path]:
        """As PoolAccess."""
        above = paths.private_dir(paths.cache_dir())
        with tempfile.TemporaryDirectory(prefix="artifacts-", dir=above) as folder:
            place = Path(folder, job.name)
            self.hand_out(job, place)
            yield place

    def _content(self, path: str, most: int) -> Iterator[bytes]:
        """Yield what is answered, `most` bytes of it and a piece."""
        try:
            with self.connection.http.stream("GET", f"{PREFIX}{path}") as answer:
                if answer.status_code >= 300:
                    answer.read()
                    raise self._refusal(answer)
                for piece in answer.iter_bytes():
                    yield piece
                    most -= len(piece)
                    if most < 0:
                        return
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._silent(str(error) or type(error).__name__) from error

    def follow(self, name: str) -> Iterator[Piece | Job]:
        """As PoolAccess."""
        over = False
        for message in self._messages(f"{_of(name)}/follow"):
            if message.piece is not None:
                yield message.piece.piece()
            if message.job is not None:
                over = message.job.over
                yield message.job
        if not over:
            raise self._silent("it ended the stream before the job was over")

    def changes(self) -> Iterator[Job]:
        """Yield each job that becomes another than before, until the pool ends that."""
        for message in self._messages("/events"):
            if message.job is not None:
                yield message.job

    def cancel(self, name: str) -> Job:
        """As PoolAccess."""
        found: Job = self._ask("POST", f"{_of(name)}/cancel", Job, {})
        return found

    def retry(self, names: Sequence[str] | None) -> list[tuple[Job, Job]]:
        """As PoolAccess."""
        asked = {"jobs": None if names is None else list(names)}
        found: list[RetriedJob] = self._ask("POST", "/retries", list[RetriedJob], asked)
        return [(one.job, one.again) for one in found]

    def dead(self) -> list[Job]:
        """As PoolAccess."""
        found: list[Job] = self._ask("GET", "/dead", list[Job])
        return found

    def drop(self, names: Sequence[str]) -> None:
        """As PoolAccess."""
        self._ask("POST", "/dead/drop", list[Job], {"jobs": list(names)})

    def explain(self, name: str) -> tuple[Job, tuple[JobReason, ...]]:
        """As PoolAccess."""
        found: Explained = self._ask("GET", f"{_of(name)}/reasons", Explained)
        return found.job, found.reasons

    def trace(self, name: str) -> JobTrace:
        """As PoolAccess."""
        found: JobTrace = self._ask("GET", f"{_of(name)}/trace", JobTrace)
        return found

    def standing(self) -> PoolStanding:
        """As PoolAccess."""
        found: PoolStanding = self._ask("GET", "/standing", PoolStanding)
        return found

    def scale(self, agents: int | None) -> Scale:
        """As PoolAccess."""
        found: Scale = self._ask("PUT", "/scale", Scale, {"agents": agents})
        return found

    def stand_by(self, machines: int) -> Scale:
        """As PoolAccess."""
        found: Scale = self._ask("PUT", "/standby", Scale, {"machines": machines})
        return found

    def drain(self, draining: bool) -> Scale:
        """As PoolAccess."""
        found: Scale = self._ask("PUT", "/drain", Scale, {"draining": draining})
        return found

    def served(self) -> bool:
        """As PoolAccess: whoever answers serves."""
        return True

    def _ask(
        self,
        method: str,
        path: str,
        kind: Any,  # noqa: ANN401 - types as values
        body: object = None,
        **more: Any,  # noqa: ANN401 - of httpx
    ) -> Any:  # noqa: ANN401 - an instance of it
        if body is not None:
            more["content"] = json.dumps(body)
        try:
            answer = self.connection.http.request(method, f"{PREFIX}{path}", **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._silent(str(error) or type(error).__name__) from error
        if answer.status_code >= 300:
            raise self._refusal(answer)
        try:
            return adapter(kind).validate_json(answer.content)
        except ValidationError as error:
            raise self._silent("it says what no pool says") from error

    def _messages(self, path: str) -> Iterator[Told]:
        from websockets.exceptions import InvalidStatus, WebSocketException
        from websockets.sync.client import connect

        said = self.connection.http.headers.get("Authorization")
        base = str(self.connection.http.base_url).replace("http", "ws", 1).rstrip("/")
        try:
            with (
                self._opened() as opened,
                connect(
                    f"{base}{PREFIX}{path}",
                    sock=opened,
                    ssl=self.connection.context,
                    additional_headers={"Authorization": said} if said else {},
                    compression=None,
                    max_size=LONGEST_MESSAGE,
                    open_timeout=ANSWERS,
                ) as stream,
            ):
                for message in stream:
                    yield adapter(Told).validate_json(message)
        except InvalidStatus as error:
            answer = httpx.Response(error.response.status_code, content=bytes(error.response.body))
            raise self._refusal(answer) from error
        except (WebSocketException, OSError, ValidationError) as error:
            raise self._silent(str(error) or type(error).__name__) from error

    def _opened(self) -> socket.socket:
        if self.connection.socket is None:
            url = self.connection.http.base_url
            return socket.create_connection((url.host, url.port or 443), timeout=ANSWERS)
        found = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            found.connect(self.connection.socket)
        except OSError:
            found.close()
            raise
        return found

    def _refusal(self, answer: httpx.Response) -> RaveError:
        """Return the error that an answer tells of."""
        try:
            problem = Problem.model_validate_json(answer.content)
            code = ExitCode(problem.exit_code)
        except ValueError:
            return self._silent(f"it answers {answer.status_code}")
        wait = problem.retry_after
        hint = problem.hint or (None if wait is None else f"try again in {wait} s")
        return RaveError(problem.title, hint=hint, exit_code=code)

    def _silent(self, why: str) -> RaveError:
        return RaveError(
            f"the pool at {self.connection.shown} cannot be asked: {why}",
            hint=f"rave pool status --endpoint {self.connection.shown}",
            exit_code=ExitCode.NOT_READY,
        )


def _of(name: str) -> str:
    # An empty one would ask for all of them.
    return f"/jobs/{quote(name, safe='') or '-'}"
