"""Whatever a registry answers, the blob is there whole or it is said why not; and what is shown to
it is shown to nobody else.
"""

from __future__ import annotations

import base64
import hashlib
import ssl
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rave_cli.errors import ExitCode, RaveError
from rave_cli.registry.content import Content, Descriptor, of_bytes
from rave_cli.registry.credentials import Credentials
from rave_cli.registry.manifest import EMPTY, INDEX, Manifest, index_data
from rave_cli.registry.reference import parse
from rave_cli.registry.session import LONGEST_WAIT, TRIES, opened

from .scripted import HOST, REFERENCE, Faithful, answers, fault_of, repository

ME = Credentials("me", "pw")
BASIC = "Basic " + base64.b64encode(b"me:pw").decode()
FILE = "application/octet-stream"


def blob(data: bytes) -> tuple[Content, Descriptor]:
    content = of_bytes(data)
    return content, content.described(FILE)


def response(status: int, body: bytes = b"", **headers: str) -> httpx.Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.Response(status, headers=named, content=body)


def quiet(_there: int) -> None:
    pass


# --- cuts ----------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(
    st.binary(max_size=64),
    st.lists(st.none() | st.integers(-1, 12), max_size=12),
    st.sampled_from([(True, False), (True, True), (False, False)]),
)
def test_whatever_is_cut_what_is_there_in_the_end_is_the_blob_or_nothing(
    data: bytes, cuts: list[int | None], kind: tuple[bool, bool]
) -> None:
    registry = Faithful(iter(cuts), *kind)
    place, _ = repository(registry)
    content, descriptor = blob(data)
    fault = fault_of(lambda: place.push(content, descriptor, quiet))
    if fault is not None:
        assert fault.exit_code is ExitCode.NOT_READY
    assert registry.blobs == {descriptor.digest: data} or (fault is not None and not registry.blobs)


def test_an_upload_that_is_cut_goes_on_where_the_registry_has_it() -> None:
    # HEAD, POST, two pieces, and the third ends after four of its ten bytes.
    registry = Faithful(iter([None, None, None, None, 4]))
    place, _ = repository(registry)
    there: list[int] = []
    place.push(*blob(b"x" * 35), there.append)
    assert there == [10, 20, 34, 35]
    assert registry.asked.count("POST") == 1


def test_a_registry_that_counts_one_byte_more_gets_the_upload_anew() -> None:
    registry = Faithful(iter([None, None, None, None, 4]), vague=True)
    place, _ = repository(registry)
    content, descriptor = blob(b"x" * 35)
    place.push(content, descriptor, quiet)
    assert registry.blobs == {descriptor.digest: b"x" * 35}
    assert registry.asked.count("POST") == 2


@pytest.mark.parametrize("said", ["0-35", "0-" + "9" * 5000, "5-9", "0-x", "0-0", ""])
def test_a_registry_that_counts_what_cannot_be_gets_the_upload_anew(said: str) -> None:
    faithful = Faithful(iter([None, None, None, None, 4]))

    def answer(request: httpx.Request) -> httpx.Response:
        found = faithful(request)
        if request.method == "GET":
            found.headers["range"] = said
        return found

    place, _ = repository(answer)
    content, descriptor = blob(b"x" * 35)
    place.push(content, descriptor, quiet)
    assert faithful.blobs == {descriptor.digest: b"x" * 35}


def test_an_upload_that_the_registry_lost_begins_anew_but_not_without_end() -> None:
    registry = Faithful(iter([None, None, None, None, 4]), chunked=False)
    place, _ = repository(registry)
    place.push(*blob(b"x" * 35), quiet)
    assert registry.asked.count("POST") == 2
    # One piece, and then nothing any more, each time.
    never = Faithful(iter([*([None, None, None, 0, None, None] * 40)]), chunked=False)
    place, waited = repository(never)
    with pytest.raises(RaveError):
        place.push(*blob(b"x" * 35), quiet)
    assert len(waited) < 2 * TRIES


def test_a_file_that_became_shorter_is_not_sent(tmp_path: Any) -> None:
    file = tmp_path / "file"
    file.write_bytes(b"x" * 30)
    content = Content(((file, 30),))
    descriptor = content.described(FILE)
    file.write_bytes(b"x" * 25)
    place, _ = repository(Faithful(iter([])))
    with pytest.raises(RaveError, match="was changed while it was sent") as caught:
        place.push(content, descriptor, quiet)
    assert caught.value.exit_code is ExitCode.HOST


@settings(max_examples=40)
@given(st.binary(min_size=1, max_size=40), st.lists(st.integers(0, 20), max_size=4), st.booleans())
def test_a_download_that_is_cut_is_whole_in_the_end(
    data: bytes, cuts: list[int], ranges: bool
) -> None:
    left = iter(cuts)

    def answer(request: httpx.Request) -> httpx.Response:
        start = int(request.headers.get("range", "bytes=0-")[6:-1]) if ranges else 0
        rest, cut = data[start:], next(left, None)

        def pieces() -> Any:
            yield rest[:cut]
            if cut is not None and cut < len(rest):
                raise httpx.ReadError("cut")

        said = {"content-range": f"bytes {start}-{len(data) - 1}/{len(data)}"} if start else {}
        return httpx.Response(206 if start else 200, headers=said, content=pieces())

    place, _ = repository(answer)
    found = bytearray()
    place.pull(blob(data)[1], found.extend)
    assert bytes(found) == data


# --- what it has is another ----------------------------------------------------------------------


@pytest.mark.parametrize("said", [b"other", b"dat", b"data and more"])
def test_content_of_another_digest_is_refused(said: bytes) -> None:
    answer, _ = answers(response(200, said))
    place, _ = repository(answer)
    taken = bytearray()
    with pytest.raises(RaveError) as caught:
        place.pull(blob(b"data")[1], taken.extend)
    assert caught.value.exit_code in (ExitCode.VERIFICATION, ExitCode.NOT_READY)
    assert len(taken) <= 4


def test_content_that_is_not_there_is_not_asked_for_again_and_again() -> None:
    answer, asked = answers(response(404))
    place, _ = repository(answer)
    with pytest.raises(RaveError, match="has no"):
        place.pull(blob(b"data")[1], bytearray().extend)
    assert len(asked) == 1


def test_another_part_than_was_asked_for_is_refused() -> None:
    answer, _ = answers(response(200, b"da"), response(206, b"ta", content_range="bytes 0-1/4"))
    place, _ = repository(answer)
    with pytest.raises(RaveError, match="another part"):
        place.pull(blob(b"data")[1], bytearray().extend)


def test_a_registry_that_says_another_digest_of_what_it_got_is_refused() -> None:
    other = "sha256:" + "0" * 64
    answer, _ = answers(
        response(404), response(202, location="/u"), response(201, docker_content_digest=other)
    )
    place, _ = repository(answer)
    with pytest.raises(RaveError, match="where it should have") as caught:
        place.push(*blob(b"x"), quiet)
    assert caught.value.exit_code is ExitCode.VERIFICATION
    answer, _ = answers(response(201, docker_content_digest=other))
    place, _ = repository(answer)
    with pytest.raises(RaveError, match="where it should have"):
        place.put(Manifest(blob(b"{}")[1], ()))


def test_a_manifest_of_another_digest_is_refused() -> None:
    manifest = Manifest(blob(b"{}")[1], ()).data()
    answer, _ = answers(response(200, manifest))
    place, _ = repository(answer)
    assert place.manifest()[1].digest == f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    with pytest.raises(RaveError, match="where it should have"):
        place.manifest("sha256:" + "0" * 64)


def test_a_manifest_without_end_is_not_read_to_its_end() -> None:
    read: list[int] = []

    def endless() -> Any:
        while True:
            read.append(1 << 20)
            yield b" " * (1 << 20)

    place, _ = repository(lambda _request: httpx.Response(200, content=endless()))
    with pytest.raises(RaveError, match="says more than"):
        place.manifest()
    assert sum(read) <= 6 << 20


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "words"),
    [
        (403, ExitCode.SECRETS, "does not allow that for team/app: DENIED: no quota"),
        (404, ExitCode.USAGE, "has no"),
        (413, ExitCode.NOT_READY, "takes no request of that size"),
        (405, ExitCode.VERIFICATION, "answers as no registry does: 405"),
        (429, ExitCode.NOT_READY, "answers 429: DENIED: no quota"),
        (500, ExitCode.NOT_READY, "answers 500"),
        (503, ExitCode.NOT_READY, "answers 503"),
    ],
)
def test_a_refusal_is_told_with_the_registrys_words(
    status: int, code: ExitCode, words: str
) -> None:
    said = b'{"errors": [{"code": "DENIED", "message": "no\\u001b[31m quota"}]}'
    answer, asked = answers(response(404), response(status, said))
    place, _ = repository(answer)
    with pytest.raises(RaveError) as caught:
        place.push(*blob(b"x"), quiet)
    assert caught.value.exit_code is code
    assert words in caught.value.message
    assert "\x1b" not in caught.value.message
    assert len(asked) == (1 + TRIES if status in (429, 500, 503) else 2)


def test_it_is_waited_for_as_long_as_the_registry_says_within_reason() -> None:
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    answer, _ = answers(
        response(429, retry_after="7"),
        response(503, retry_after=later),
        response(429, retry_after="99999"),
        response(429, retry_after="nonsense"),
        response(200),
    )
    place, waited = repository(answer)
    assert place.has("sha256:" + "0" * 64)
    assert waited[0] == 7
    assert 20 < waited[1] <= 31
    assert waited[2] == LONGEST_WAIT
    assert 0 <= waited[3] <= 8


def test_a_certificate_that_is_not_trusted_is_not_asked_again() -> None:
    fault = httpx.ConnectError("bad")
    fault.__cause__ = ssl.SSLCertVerificationError("unknown authority")
    answer, asked = answers(fault)
    place, waited = repository(answer)
    with pytest.raises(RaveError, match="is not trusted") as caught:
        place.has("sha256:" + "0" * 64)
    assert "--ca" in str(caught.value.hint)
    assert (len(asked), waited) == (1, [])


def test_without_tls_only_this_host_is_asked() -> None:
    with (
        pytest.raises(RaveError, match="is another host") as caught,
        opened(REFERENCE, lambda: None, plain=True),
    ):
        pass
    assert caught.value.exit_code is ExitCode.USAGE
    with opened(parse("oci://localhost:5000/a"), lambda: None, plain=True) as session:
        assert str(session.base) == "http://localhost:5000/v2/a/"


def test_what_is_no_certificate_is_refused() -> None:
    with pytest.raises(RaveError, match="names no certificates"), opened(
        REFERENCE, lambda: None, ca="nonsense"
    ):  # fmt: skip
        pass


# --- who is shown what ---------------------------------------------------------------------------


def shown(request: httpx.Request) -> str | None:
    found: str | None = request.headers.get("authorization")
    return found


def test_credentials_are_not_taken_along_to_another_host() -> None:
    data = b"data"

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.host, request.url.port, shown(request)))
        if request.url.host == HOST and shown(request) != BASIC:
            return response(401, www_authenticate='Basic realm="x"')
        if request.url.host == HOST and request.url.port is None:
            return response(307, location=f"https://{HOST}:8443/blob")
        if request.url.port == 8443:
            return response(307, location="https://storage.example.net/blob?signed")
        return response(200, data)

    asked: list[Any] = []
    place, _ = repository(answer, ME)
    # The other port is another place, too: nothing is shown there, so it says 401.
    with pytest.raises(RaveError, match="wants other credentials"):
        place.pull(blob(data)[1], bytearray().extend)
    assert asked[-1] == (HOST, 8443, None)

    def straight(request: httpx.Request) -> httpx.Response:
        asked.append((request.url.host, request.url.port, shown(request)))
        if request.url.host != HOST:
            return response(200, data)
        if shown(request) != BASIC:
            return response(401, www_authenticate='Basic realm="x"')
        return response(307, location="https://storage.example.net/blob?signed")

    asked.clear()
    place, _ = repository(straight, ME)
    found = bytearray()
    place.pull(blob(data)[1], found.extend)
    assert bytes(found) == data
    assert asked == [
        (HOST, None, None), (HOST, None, BASIC), ("storage.example.net", None, None),
    ]  # fmt: skip


def test_an_upload_that_goes_to_another_host_goes_there_without_credentials() -> None:
    asked: list[Any] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append((request.method, request.url.host, shown(request)))
        if request.url.host != HOST:
            return response(201)
        if shown(request) != BASIC:
            return response(401, www_authenticate="Basic realm=x")
        if request.method == "HEAD":
            return response(404)
        return response(202, location="https://storage.example.net/put?x=1")

    place, _ = repository(answer, ME)
    place.push(*blob(b"x"), quiet)
    assert asked[-1] == ("PUT", "storage.example.net", None)


@pytest.mark.parametrize(
    "where",
    ["http://storage.example.net/blob", "ftp://x/y", "https://user:pw@x/y", "", "https://", "//"],
)
def test_it_follows_nowhere_without_tls_or_to_no_place(where: str) -> None:
    answer, asked = answers(response(302, location=where))
    place, _ = repository(answer, ME)
    with pytest.raises(RaveError, match="answers as no registry does"):
        place.pull(blob(b"x")[1], bytearray().extend)
    assert {request.url.host for request in asked} == {HOST}


def test_it_does_not_follow_without_end() -> None:
    answer, asked = answers(response(302, location="/elsewhere"))
    place, _ = repository(answer)
    with pytest.raises(RaveError, match="without end"):
        place.pull(blob(b"x")[1], bytearray().extend)
    assert len(asked) < 10


@pytest.mark.parametrize(
    "realm",
    ["http://tokens.example.org/", "ftp://x/", "", "/token", "https://me:pw@x/", "https://[::bad/"],
)
def test_tokens_are_not_asked_for_without_tls_or_nowhere(realm: str) -> None:
    answer, asked = answers(response(401, www_authenticate=f'Bearer realm="{realm}",service="x"'))
    place, _ = repository(answer, ME)
    with pytest.raises(RaveError, match="where none can be asked for"):
        place.has("sha256:" + "0" * 64)
    assert len(asked) == 1


def tokens(token: httpx.Response, asked: list[httpx.Request]) -> Any:
    def answer(request: httpx.Request) -> httpx.Response:
        request.read()
        asked.append(request)
        if request.url.host == "tokens.example.org":
            return httpx.Response(token.status_code, content=token.content)
        if shown(request) != "Bearer abc":
            challenge = 'Bearer realm="https://tokens.example.org/t?x=1",service="reg",scope="*"'
            return response(401, www_authenticate=challenge)
        return response(200)

    return answer


@pytest.mark.parametrize("member", ["token", "access_token"])
def test_a_token_is_for_this_repository_whatever_the_registry_asks_for(member: str) -> None:
    asked: list[httpx.Request] = []
    place, _ = repository(tokens(response(200, b'{"%s": "abc"}' % member.encode()), asked), ME)
    assert place.has("sha256:" + "0" * 64)
    assert place.has("sha256:" + "0" * 64)
    assert [shown(request) for request in asked] == [None, BASIC, "Bearer abc", "Bearer abc"]
    assert dict(asked[1].url.params) == {
        "x": "1", "service": "reg", "scope": "repository:team/app:pull,push", "client_id": "rave",
    }  # fmt: skip


def test_an_identity_token_is_exchanged_in_a_body() -> None:
    asked: list[httpx.Request] = []
    known = Credentials(identity_token="secret-token")
    place, _ = repository(tokens(response(200, b'{"access_token": "abc"}'), asked), known)
    assert place.has("sha256:" + "0" * 64)
    assert asked[1].method == "POST"
    assert b"refresh_token=secret-token" in asked[1].content
    assert "secret-token" not in str(asked[1].url)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token": 1}', b'{"token": "a\\nb"}', b'{"token": ""}', b"[" * 999],
)
def test_what_is_no_token_is_refused(body: bytes) -> None:
    place, _ = repository(tokens(response(200, body), []), ME)
    with pytest.raises(RaveError) as caught:
        place.has("sha256:" + "0" * 64)
    assert caught.value.exit_code is ExitCode.VERIFICATION


def test_credentials_that_are_refused_are_not_shown_again_and_again() -> None:
    answer, asked = answers(response(401, www_authenticate="Basic realm=x"))
    place, _ = repository(answer, ME)
    with pytest.raises(RaveError, match="wants other credentials for team/app") as caught:
        place.has("sha256:" + "0" * 64)
    assert caught.value.exit_code is ExitCode.SECRETS
    assert len(asked) == 2
    assert "pw" not in caught.value.message


# --- referrers -----------------------------------------------------------------------------------


def test_referrers_are_asked_for_where_the_registry_has_them() -> None:
    digest = "sha256:" + "0" * 64
    entries = [Descriptor("m", digest, 1, artifact_type=kind) for kind in ("a", "b")]
    answer, asked = answers(response(200, index_data(entries), content_type=INDEX))
    place, _ = repository(answer)
    assert place.referrers(digest, "b") == entries[1:]
    assert asked[0].url.path == f"/v2/team/app/referrers/{digest}"


def test_a_registry_that_keeps_the_list_itself_gets_no_tag() -> None:
    subject = Descriptor("m", "sha256:" + "0" * 64, 1)
    answer, asked = answers(response(201, oci_subject=subject.digest))
    place, _ = repository(answer)
    place.put(Manifest(Descriptor(EMPTY, subject.digest, 2), (), "x/y", subject))
    assert [request.method for request in asked] == ["PUT"]


def test_a_list_that_another_wrote_meanwhile_is_written_again() -> None:
    subject = "sha256:" + "0" * 64
    kept: list[bytes] = []
    theirs = Descriptor("m", "sha256:" + "1" * 64, 1, artifact_type="y")

    def answer(request: httpx.Request) -> httpx.Response:
        body, listed = request.read(), request.url.path.endswith(subject.replace(":", "-"))
        if request.method == "PUT" and listed:
            # The first time another comes in between.
            kept.append(body if kept else index_data([theirs]))
        if request.method == "GET":
            return response(200, kept[-1]) if kept and listed else response(404)
        return response(201)

    place, _ = repository(answer)
    about = Manifest(Descriptor(EMPTY, subject, 2), (), "x/y", Descriptor("m", subject, 1))
    mine = place.put(about)
    assert {entry.digest for entry in place.referrers(subject, "y")} == {theirs.digest}
    assert {entry.digest for entry in place.referrers(subject, "x/y")} == {mine.digest}
