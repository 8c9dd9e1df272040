"""Asks a registry: shows it what it wants to see, waits when it says so, and follows it elsewhere
without what was meant for it alone.

Source: OCI distribution spec 1.1; distribution's token specification (docs/spec/auth/token.md);
RFC 9110, 10.2.3 (Retry-After); RFC 6585, 4 (429).
"""

from __future__ import annotations

import random
import ssl
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING
from urllib.parse import urlencode

import httpx

from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry import answers, faults
from rave_cli.registry import challenge as challenges
from rave_cli.registry.manifest import LARGEST, parse_json

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from rave_cli.registry.credentials import Credentials
    from rave_cli.registry.reference import Reference

    Body = Callable[[], Iterator[bytes]]

# Seconds: to be heard, and until the next bytes.
CONNECTS, ANSWERS = 10.0, 60.0
# How often something is asked that comes to nothing, and how long is waited in between, at most.
TRIES = 5
LONGEST_WAIT = 60.0
REDIRECTS = 5
# Answers that another time may be others.
PASSING = {408, 425, 429, 500, 502, 503, 504}
_MOVED = {301, 302, 303, 307, 308}


class CutError(Exception):
    """A connection that ended too early, or an answer that another time may be another.

    Args:
        fault: what it is in the end, if it comes to nothing again and again.
        wait: seconds that the registry asks for; None if it does not say.
        lost: whether an upload cannot go on where it was.
    """

    def __init__(self, fault: RaveError, wait: float | None = None, *, lost: bool = False) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.wait = wait
        self.lost = lost


@dataclass
class RegistrySession:
    """What asks a registry about one repository.

    Attributes:
        http: the client; it follows nothing by itself.
        reference: the repository.
        credentials: says what to show, when the registry asks for something.
        writes: whether something is to be pushed.
        sleep: waits, in seconds.
    """

    http: httpx.Client
    reference: Reference
    credentials: Callable[[], Credentials | None]
    writes: bool = False
    sleep: Callable[[float], object] = time.sleep
    _shown: str | None = field(default=None, repr=False)

    @property
    def base(self) -> httpx.URL:
        """Address of the repository in the API."""
        return self.http.base_url.join(f"/v2/{self.reference.repository}/")

    @contextmanager
    def once(
        self,
        method: str,
        url: httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
    ) -> Iterator[httpx.Response]:
        """Yield the answer to a question that is asked once, and again if it wants credentials.

        Args:
            method: of HTTP.
            url: whole; of another host it gets no credentials.
            headers: more of them.
            body: makes what is sent, each time that it is.

        Raises:
            CutError: nobody answers, or not now.
            RaveError: SECRETS if it wants others; VERIFICATION if its certificate is not trusted,
                or it leads where it must not.
        """
        given = dict(headers or {})
        with self._sent(method, url, given, body) as answer:
            if answer.status_code != 401 or not self._own(answer.url):
                yield self._fit(answer)
                return
            self._introduce(answer)
        with self._sent(method, url, given, body) as answer:
            yield self._fit(answer)

    def ask(
        self,
        method: str,
        path: str | httpx.URL,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        most: int = LARGEST,
    ) -> httpx.Response:
        """Return an answer with its content, asked again while that helps.

        Args:
            method: of HTTP; what it does must be the same when it is done twice.
            path: below the repository, or whole.
            headers: more of them.
            body: makes what is sent.
            most: bytes of the answer.

        Raises:
            RaveError: as `once`; NOT_READY if nobody answers; VERIFICATION if it says too much.
        """
        url = path if isinstance(path, httpx.URL) else self.base.join(path)

        def asked() -> httpx.Response:
            with self.once(method, url, headers=headers, body=body) as answer:
                content = answers.read(answer, most)
                return httpx.Response(
                    answer.status_code, headers=answer.headers, content=content,
                    request=answer.request,
                )  # fmt: skip

        return self.persist(asked)

    def persist(self, attempt: Callable[[], httpx.Response]) -> httpx.Response:
        """Return what an attempt returns, which is made again while its answers are cut.

        Raises:
            RaveError: that of the last cut; as the attempt.
        """
        for count in range(1, TRIES + 1):
            try:
                return attempt()
            except CutError as cut:
                if count == TRIES:
                    raise cut.fault from cut
                self.rest(cut, count)
        raise AssertionError

    def rest(self, cut: CutError, count: int) -> None:
        """Wait as the registry says, else a random time that grows with each attempt."""
        wait = random.uniform(0, 2.0**count / 2) if cut.wait is None else cut.wait  # noqa: S311
        self.sleep(min(wait, LONGEST_WAIT))

    # --- one question ----------------------------------------------------------------------------

    @contextmanager
    def _sent(
        self, method: str, url: httpx.URL, headers: dict[str, str], body: Body | None
    ) -> Iterator[httpx.Response]:
        """Yield an answer, wherever it comes from: what only reads follows where it is led."""
        for _ in range(REDIRECTS):
            answer = self._send(method, url, headers, body)
            try:
                if answer.status_code not in _MOVED or method not in ("GET", "HEAD"):
                    with self._reading():
                        yield answer
                    return
                url = self._led(answer)
            finally:
                answer.close()
        raise faults.strange(self.reference, "it leads from one address to the next without end")

    def _send(
        self, method: str, url: httpx.URL, headers: dict[str, str], body: Body | None
    ) -> httpx.Response:
        shown = {"Authorization": self._shown} if self._shown and self._own(url) else {}
        with self._reading():
            content = None if body is None else body()
            request = self.http.build_request(
                method, url, headers={**headers, **shown}, content=content
            )
            return self.http.send(request, stream=True)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except httpx.TransportError as error:
            if answers.distrusted(error):
                raise faults.distrusted(self.reference, str(error)) from error
            why = str(error) or type(error).__name__
            raise CutError(faults.silent(self.reference, why)) from error
        except (httpx.HTTPError, httpx.InvalidURL, UnicodeError) as error:
            raise faults.strange(self.reference, str(error)) from error

    def _led(self, answer: httpx.Response) -> httpx.URL:
        return self.location(answer, "it leads elsewhere and does not say where")

    def location(self, answer: httpx.Response, without: str) -> httpx.URL:
        """Return where an answer leads to.

        Raises:
            RaveError: VERIFICATION if nowhere (`without` says so), or from TLS to none.
        """
        said = answer.headers.get("location", "")
        try:
            found = answer.url.join(said) if said else None
        except (httpx.InvalidURL, UnicodeError):
            found = None
        if found is None or not found.host or found.userinfo:
            raise faults.strange(self.reference, without)
        if found.scheme not in ("https", self.http.base_url.scheme):
            raise faults.strange(self.reference, f"it leads from TLS to {found.scheme}")
        return found

    def _own(self, url: httpx.URL) -> bool:
        """Return whether an address is the registry's own: scheme, host and port."""
        own = self.http.base_url
        return _origin(url) == _origin(own)

    def _fit(self, answer: httpx.Response) -> httpx.Response:
        """Return an answer, unless it is one for another time.

        Raises:
            CutError: it is.
        """
        if answer.status_code in PASSING:
            fault = faults.refused(self.reference, answer, answers.said(answer))
            raise CutError(fault, answers.wait(answer))
        return answer

    # --- what is shown ---------------------------------------------------------------------------

    def _introduce(self, answer: httpx.Response) -> None:
        """Have what the registry wants to see from now on.

        Raises:
            RaveError: SECRETS if there is none, or it is not enough.
        """
        said = answers.said(answer)
        wanted = challenges.parse(answer.headers.get_list("www-authenticate"))
        found = {one.scheme: one.parameters for one in reversed(wanted)}
        before, self._shown = self._shown, None
        if "bearer" in found:
            self._shown = f"Bearer {self._token(found['bearer'])}"
        elif "basic" in found and (known := self.credentials()) is not None and known.password:
            self._shown = known.basic
        if self._shown is None or (self._shown == before and "bearer" not in found):
            raise faults.refused(self.reference, answer, said)

    def _token(self, asked: Mapping[str, str]) -> str:
        realm, known = self._realm(asked.get("realm", "")), self.credentials()
        # Its own scope, whatever the registry asks for: a token for more would be of no use here.
        scope = f"repository:{self.reference.repository}:{'pull,push' if self.writes else 'pull'}"
        words = {"service": asked["service"]} if "service" in asked else {}
        words |= {"scope": scope, "client_id": "rave"}
        if known is not None and known.identity_token:
            words |= {"grant_type": "refresh_token", "refresh_token": known.identity_token}
            form = urlencode(words).encode()
            answer = self._asked_for_token(
                "POST", realm, {"Content-Type": "application/x-www-form-urlencoded"}, form
            )
        else:
            headers = {"Authorization": known.basic} if known is not None else {}
            answer = self._asked_for_token("GET", realm.copy_merge_params(words), headers, None)
        match parse_json(answer.content, "the token"):
            case {"token": str(token)} | {"access_token": str(token)} if (
                token and token.isascii() and token.isprintable()
            ):
                return token
        raise faults.strange(self.reference, "it gives no token")

    def _asked_for_token(
        self, method: str, url: httpx.URL, headers: dict[str, str], form: bytes | None
    ) -> httpx.Response:
        def asked() -> httpx.Response:
            with self._reading():
                request = self.http.build_request(method, url, headers=headers, content=form)
                answer = self.http.send(request, stream=True)
                try:
                    self._fit(answer)
                    if not answer.is_success:
                        raise faults.refused(self.reference, answer, answers.said(answer))
                    return httpx.Response(200, content=answers.read(answer, answers.MOST_SAID))
                finally:
                    answer.close()

        return self.persist(asked)

    def _realm(self, said: str) -> httpx.URL:
        """Return where tokens are given out: over TLS, unless the registry has none itself."""
        try:
            found = httpx.URL(said)
        except (httpx.InvalidURL, UnicodeError):
            found = httpx.URL("")
        fit = found.scheme == "https" or (found.scheme == self.http.base_url.scheme == "http")
        if not fit or not found.host or found.userinfo:
            raise faults.strange(self.reference, "it gives out tokens where none can be asked for")
        return found


@contextmanager
def opened(
    reference: Reference,
    credentials: Callable[[], Credentials | None],
    *,
    writes: bool = False,
    ca: str | None = None,
    plain: bool = False,
) -> Iterator[RegistrySession]:
    """Yield a session; nothing is asked yet. Proxies are those of the environment, but for a
    registry on this host.

    Args:
        reference: the repository.
        credentials: says what to show; asked if the registry wants to see something.
        writes: whether something is to be pushed.
        ca: certificates in PEM to trust instead of this host's.
        plain: without TLS, which is for registries on this host alone.

    Raises:
        RaveError: USAGE if the certificates are none, or `plain` is for another host.
    """
    if plain and not reference.loopback:
        raise RaveError(
            f"{reference.registry} is another host, and without TLS anybody between could answer",
            hint="give the registry a certificate; --ca FILE trusts one of your own",
            exit_code=ExitCode.USAGE,
        )
    with httpx.Client(
        base_url=f"{'http' if plain else 'https'}://{reference.api}",
        verify=_trusted(ca),
        timeout=httpx.Timeout(ANSWERS, connect=CONNECTS),
        follow_redirects=False,
        headers={"User-Agent": "rave", "Accept-Encoding": "identity"},
        # A registry on this host is asked by nobody else.
        trust_env=not reference.loopback,
    ) as http:
        yield RegistrySession(http, reference, credentials, writes)


@cache
def _trusted(ca: str | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cadata=ca)
    except (ssl.SSLError, ValueError) as error:
        raise RaveError(
            "--ca names no certificates in PEM",
            hint="openssl x509 -in FILE -noout -subject",
            exit_code=ExitCode.USAGE,
        ) from error


def _origin(url: httpx.URL) -> tuple[str, str, int]:
    return url.scheme, url.host, url.port or (443 if url.scheme == "https" else 80)
