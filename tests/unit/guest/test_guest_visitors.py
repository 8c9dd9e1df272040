"""What of the portal depends on who looks: sessions, sign-in, figures, and the server of it all."""

from __future__ import annotations

import json
import os
import re
import socket
import stat
import time
from contextlib import closing
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs, urlencode, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rave_guest.portal import figures, oidc, program, server
from rave_guest.portal.sessions import MOST, Sessions
from rave_guest.wire import http
from tests.unit.guest.test_guest_signin import public, token
from tests.waiting import CEILING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ORIGIN = "https://rave.localhost:23456"
ISSUER = "https://auth.rave.localhost:23456"
WANTED = {
    "name": "Canaille", "client": "portal", "scopes": ["openid", "profile"],
    "issuer": "{scheme}://auth.{place}", "authorize": "{scheme}://auth.{place}/oauth/authorize",
    "end": "{scheme}://auth.{place}/oauth/end_session",
    "token": "http://127.0.0.1:3040/oauth/token", "jwks": "http://127.0.0.1:3040/oauth/jwks.json",
}  # fmt: skip
LINKS = [{"title": "Prometheus", "path": "/prometheus/"}]


class Canaille:
    """Answers as the provider does; what it is asked is kept."""

    def __init__(self) -> None:
        self.claims: dict[str, Any] = {}
        self.signed_by = "one"
        self.forms: list[dict[str, list[str]]] = []
        self.headers: list[Any] = []

    def get(self, url: str, timeout: float) -> http.Response:
        assert (url, timeout) == (WANTED["jwks"], oidc.ANSWERS)
        return http.Response(200, json.dumps({"keys": [public("one")]}).encode(), None, None)

    def post(self, url: str, form: str, headers: Any, timeout: float) -> http.Response:
        assert (url, timeout) == (WANTED["token"], oidc.ANSWERS)
        self.forms.append(parse_qs(form))
        self.headers.append(headers)
        answer = {"id_token": token(self.claims, by=self.signed_by)}
        return http.Response(200, json.dumps(answer).encode(), None, None)


@pytest.fixture
def canaille(monkeypatch: pytest.MonkeyPatch) -> Canaille:
    found = Canaille()
    monkeypatch.setattr(http, "get", found.get)
    monkeypatch.setattr(http, "post", found.post)
    return found


@pytest.fixture
def portal(tmp_path: Path) -> program.Portal:
    (tmp_path / "secret").write_text("s" * 64)
    wanted = WANTED | {"secret": str(tmp_path / "secret")}
    settings = {"prometheus": None, "charts": True, "provider": wanted, "links": LINKS}
    return program.Portal(settings, str(tmp_path / "run"), ORIGIN)


class Visitor:
    """A browser at the portal, as far as cookies go."""

    def __init__(self, portal: program.Portal) -> None:
        self.portal = portal
        self.cookies: dict[str, str] = {}
        self.set: list[str] = []

    def ask(self, address: str, method: str = "GET", body: str = "", **headers: str) -> Any:
        path, _, query = address.partition("?")
        jar = "; ".join(f"{name}={value}" for name, value in self.cookies.items())
        known = {"host": ORIGIN.partition("://")[2], "cookie": jar, **headers}
        answer = self.portal(server.PageRequest(method, path, query, known, body))
        self.set = [value for name, value in answer.headers if name == "Set-Cookie"]
        for line in self.set:
            name, value = line.partition(";")[0].split("=", 1)
            self.cookies[name] = value
        return answer

    def begin(self, to: str = "") -> dict[str, str]:
        """Return the query with which somebody is sent to sign in."""
        answer = self.ask(f"/portal/sign-in?to={to}")
        assert answer.status == 303
        location = dict(answer.headers)["Location"]
        assert location.startswith(f"{ISSUER}/oauth/authorize?")
        return {name: values[0] for name, values in parse_qs(urlsplit(location).query).items()}

    def come_back(self, **query: str) -> Any:
        return self.ask(f"/portal/callback?{urlencode(query)}")

    def sign_in(self, canaille: Canaille, to: str = "", **claims: Any) -> Any:
        sent = self.begin(to)
        canaille.claims = right(sent) | claims
        return self.come_back(state=sent["state"], iss=ISSUER, code="c0de")

    def known(self) -> bool:
        return bool(self.ask("/portal/session").status == 204)


def right(sent: dict[str, str]) -> dict[str, Any]:
    return {
        "iss": ISSUER, "aud": ["portal"], "sub": "alice", "name": "Alice <L>",
        "nonce": sent["nonce"], "exp": time.time() + 60,
    }  # fmt: skip


@pytest.fixture
def alice(portal: program.Portal) -> Visitor:
    return Visitor(portal)


def test_somebody_signs_in_and_the_page_says_who_they_are(
    alice: Visitor, canaille: Canaille
) -> None:
    assert "/portal/sign-in" in alice.ask("/portal/part").body
    assert not alice.known()
    answer = alice.sign_in(canaille)
    assert (answer.status, dict(answer.headers)["Location"]) == (303, "/")
    assert alice.known()
    text = alice.ask("/portal/part").body
    assert "Alice &lt;L&gt;" in text
    assert 'title="alice"' in text
    assert '<a href="/prometheus/">Prometheus</a>' in text


def test_the_code_flow_is_that_of_a_confidential_client_with_pkce(
    alice: Visitor, canaille: Canaille
) -> None:
    sent = alice.begin()
    assert sent["response_type"] == "code"
    assert (sent["client_id"], sent["scope"]) == ("portal", "openid profile")
    assert sent["redirect_uri"] == f"{ORIGIN}/portal/callback"
    assert sent["code_challenge_method"] == "S256"
    canaille.claims = right(sent)
    assert alice.come_back(state=sent["state"], code="c0de").status == 303
    (form,) = canaille.forms
    assert form["redirect_uri"] == [sent["redirect_uri"]]
    assert form["code"] == ["c0de"]
    assert len(form["code_verifier"][0]) >= 43
    assert canaille.headers[0]["Authorization"].startswith("Basic ")
    assert "s" * 64 not in str(canaille.forms)


def test_its_cookies_are_for_this_host_over_tls_and_for_no_script(
    alice: Visitor, canaille: Canaille
) -> None:
    alice.begin()
    lines = list(alice.set)
    alice.sign_in(canaille)
    lines += alice.set
    assert len(lines) == 3
    for line in lines:
        name, *attributes = line.split("; ")
        assert name.startswith("__Host-")
        assert {"Path=/", "Secure", "HttpOnly", "SameSite=Lax"} < set(attributes)
        assert not [attribute for attribute in attributes if attribute.startswith("Domain")]


def test_what_is_kept_of_a_session_has_no_key_and_is_for_its_account_alone(
    alice: Visitor, canaille: Canaille, tmp_path: Path
) -> None:
    alice.sign_in(canaille)
    files = [path for path in (tmp_path / "run").rglob("*") if path.is_file()]
    assert len(files) == 1
    assert stat.S_IMODE(files[0].stat().st_mode) == 0o600
    assert stat.S_IMODE(files[0].parent.stat().st_mode) == 0o700
    assert alice.cookies[program.SESSION] not in files[0].read_text() + str(files[0])


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ({"state": "0" * 64}, "somebody else"), ({"state": "\u00e9"}, "somebody else"),
        ({"state": None}, "somebody else"), ({"iss": "https://elsewhere"}, "somebody else"),
        ({"code": None, "error": "access_denied"}, "did not sign you in"),
    ],
)  # fmt: skip
def test_an_answer_that_is_not_theirs_lets_nobody_in(
    alice: Visitor, canaille: Canaille, query: dict[str, str | None], said: str
) -> None:
    sent = alice.begin()
    canaille.claims = right(sent)
    whole = {"state": sent["state"], "iss": ISSUER, "code": "c0de", **query}
    answer = alice.come_back(**{name: value for name, value in whole.items() if value is not None})
    assert answer.status == 400
    assert said in answer.body
    assert not alice.known()
    assert canaille.forms == [], "a code was shown that is not theirs"


@pytest.mark.parametrize(
    "claims",
    [{"nonce": "another"}, {"nonce": None}, {"aud": "grafana"}, {"aud": ["grafana"]},
     {"iss": "https://elsewhere"}, {"exp": 1}, {"sub": ""}],
)  # fmt: skip
def test_a_token_that_is_not_for_this_sign_in_lets_nobody_in(
    alice: Visitor, canaille: Canaille, claims: dict[str, Any]
) -> None:
    assert alice.sign_in(canaille, **claims).status == 400
    assert not alice.known()


def test_a_token_that_somebody_else_signed_lets_nobody_in(
    alice: Visitor, canaille: Canaille
) -> None:
    canaille.signed_by = "two"
    assert alice.sign_in(canaille).status == 400
    assert not alice.known()


def test_what_somebody_comes_back_with_is_good_once_and_for_them(
    alice: Visitor, canaille: Canaille
) -> None:
    sent = alice.begin()
    canaille.claims = right(sent)
    answer = {"state": sent["state"], "iss": ISSUER, "code": "c0de"}
    stranger = Visitor(alice.portal)
    assert stranger.come_back(**answer).status == 400
    before = dict(alice.cookies)
    assert alice.come_back(**answer).status == 303
    again = Visitor(alice.portal)
    again.cookies = before
    assert again.come_back(**answer).status == 400
    assert len(canaille.forms) == 1


def test_a_session_is_new_with_each_sign_in_and_the_one_before_ends(
    alice: Visitor, canaille: Canaille
) -> None:
    alice.cookies[program.SESSION] = "f" * 64
    alice.sign_in(canaille)
    first = alice.cookies[program.SESSION]
    assert first != "f" * 64
    alice.sign_in(canaille)
    old = Visitor(alice.portal)
    old.cookies[program.SESSION] = first
    assert alice.known()
    assert not old.known()


def test_without_an_installed_secret_nobody_is_signed_in(
    alice: Visitor, canaille: Canaille, tmp_path: Path
) -> None:
    (tmp_path / "secret").unlink()
    assert alice.sign_in(canaille).status == 400
    (tmp_path / "secret").write_text("t" * 64)
    assert alice.sign_in(canaille).status == 303, "another secret takes a restart"


@pytest.mark.parametrize(
    ("to", "leads"),
    [("prometheus", "/prometheus/"), ("alertmanager", "/alertmanager/"),
     ("buildbot", "/buildbot/"), ("", "/"),
     ("https://elsewhere/", "/"), ("//elsewhere", "/"), ("%2F%2Felsewhere", "/")],
)  # fmt: skip
def test_whoever_has_signed_in_is_led_on_within_the_portal_alone(
    alice: Visitor, canaille: Canaille, to: str, leads: str
) -> None:
    assert dict(alice.sign_in(canaille, to).headers)["Location"] == leads


def test_whoever_comes_by_another_name_signs_in_under_the_machines_own(alice: Visitor) -> None:
    answer = alice.ask("/portal/sign-in?to=prometheus", host="127.0.0.1:3002")
    assert dict(answer.headers)["Location"] == f"{ORIGIN}/portal/sign-in?to=prometheus"
    answer = alice.ask("/portal/sign-in?to=%0d%0aX:y", host="127.0.0.1:3002")
    assert dict(answer.headers)["Location"] == f"{ORIGIN}/portal/sign-in?to="


def test_whoever_signs_out_is_nobody_here_and_led_to_sign_out_of_the_rest(
    alice: Visitor, canaille: Canaille
) -> None:
    alice.sign_in(canaille)
    key = alice.cookies[program.SESSION]
    answer = alice.ask("/portal/sign-out", "POST", origin=ORIGIN)
    assert answer.status == 200
    assert dict(answer.headers)["Refresh"].startswith(
        f"0; url={ISSUER}/oauth/end_session?id_token_hint=ey"
    )
    alice.cookies[program.SESSION] = key
    assert not alice.known()


@pytest.mark.parametrize("origin", ["https://matrix.rave.localhost:23456", "null", ""])
def test_no_other_page_signs_somebody_out(alice: Visitor, canaille: Canaille, origin: str) -> None:
    alice.sign_in(canaille)
    assert alice.ask("/portal/sign-out", "POST", origin=origin).status == 403
    assert alice.ask("/portal/sign-out").status == 405
    assert alice.known()


def ending(**more: Any) -> str:
    claims = {
        "iss": ISSUER, "aud": "portal", "sub": "alice", "exp": time.time() + 60,
        "events": {oidc.ENDED: {}}, **more,
    }  # fmt: skip
    return urlencode({"logout_token": token(claims)})


def test_all_sessions_of_somebody_end_when_the_provider_says_so(
    portal: program.Portal, canaille: Canaille
) -> None:
    alice, again, bob = Visitor(portal), Visitor(portal), Visitor(portal)
    alice.sign_in(canaille)
    again.sign_in(canaille)
    bob.sign_in(canaille, sub="bob")
    assert Visitor(portal).ask("/portal/ended", "POST", ending()).status == 200
    assert (alice.known(), again.known(), bob.known()) == (False, False, True)


@pytest.mark.parametrize(
    "body",
    ["", "logout_token=x", "logout_token=a.b.c", ending(aud="matrix"), ending(exp=1),
     ending(events={}), ending(nonce="n"), ending(iss="https://elsewhere")],
)  # fmt: skip
def test_nobody_else_ends_sessions(alice: Visitor, canaille: Canaille, body: str) -> None:
    alice.sign_in(canaille)
    assert alice.ask("/portal/ended", "POST", body).status == 400
    assert alice.known()


def test_a_machine_without_accounts_offers_no_sign_in(tmp_path: Path) -> None:
    settings: dict[str, Any] = {
        "prometheus": None, "charts": True, "provider": None, "links": [],
    }  # fmt: skip
    visitor = Visitor(program.Portal(settings, str(tmp_path), ORIGIN))
    assert "sign-in" not in visitor.ask("/portal/part").body
    assert visitor.ask("/portal/sign-in").status == 404
    assert visitor.ask("/portal/callback?code=x").status == 400
    assert visitor.ask("/portal/ended", "POST", "logout_token=x").status == 404
    assert visitor.ask("/portal/nosuch").status == 404


# --- sessions ------------------------------------------------------------------------------------


def test_a_session_ends_by_itself(tmp_path: Path) -> None:
    now = [1000.0]
    sessions = Sessions(str(tmp_path / "s"), 60, lambda: now[0])
    key = sessions.keep({"user": "alice"})
    now[0] += 59
    assert sessions.find(key) == {"user": "alice"}
    now[0] += 1
    assert sessions.find(key) is None
    assert sessions.take(key) is None
    sessions.keep({})
    assert len(list((tmp_path / "s").iterdir())) == 1


def test_a_clock_that_is_put_back_lets_no_session_last_longer(tmp_path: Path) -> None:
    now = [100_000.0]
    sessions = Sessions(str(tmp_path / "s"), 3600, lambda: now[0])
    key = sessions.keep({"user": "alice"})
    now[0] -= 60
    assert sessions.find(key) == {"user": "alice"}, "as a clock is put right"
    now[0] -= 86_400
    assert sessions.find(key) is None
    assert sessions.find(sessions.keep({"user": "bob"})) == {"user": "bob"}


def test_a_clock_that_jumps_between_signing_and_reading_lets_nobody_in(
    alice: Visitor, canaille: Canaille, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent = alice.begin()
    canaille.claims = right(sent)
    real = time.time
    with monkeypatch.context() as meanwhile:
        meanwhile.setattr(time, "time", lambda: real() + 3600)
        answer = alice.come_back(state=sent["state"], iss=ISSUER, code="c0de")
    assert answer.status == 400
    assert "does not confirm who you are" in answer.body
    assert not alice.known()


def test_there_are_never_more_than_so_many_and_the_oldest_makes_room(tmp_path: Path) -> None:
    sessions = Sessions(str(tmp_path), 60)
    first = sessions.keep({"user": "first"})
    place = next(iter(tmp_path.iterdir()))
    os.utime(place, (1, 1))
    for _ in range(MOST - 1):
        sessions.keep({})
    assert sessions.find(first) is not None
    sessions.keep({})
    assert sessions.find(first) is None
    assert len(list(tmp_path.iterdir())) == MOST


@given(st.text(max_size=80))
def test_a_key_that_was_not_given_out_opens_nothing(key: str) -> None:
    # Names of files follow from it by a hash, so that none leads elsewhere.
    assert re.fullmatch(r"x/[0-9a-f]{64}", Sessions._place(_folder("x"), key))


def _folder(name: str) -> Sessions:
    found = Sessions.__new__(Sessions)
    found._folder = name
    return found


# --- figures -------------------------------------------------------------------------------------


def curves(values: Any) -> dict[str, Any]:
    return {"data": {"result": [{"values": values}]}}


def test_the_values_of_a_curve_are_one_for_each_minute_and_none_where_there_is_none() -> None:
    answer = curves([[60, "0.5"], [120.0, "NaN"], [240, "2"]])
    assert figures.points(answer, 0, 240) == [None, 0.5, None, None, 2.0]
    assert figures.points({"data": {"result": []}}, 0, 60) == [None, None]


def test_the_latest_values_can_be_read_without_a_script() -> None:
    values = {
        "CPU": (0.123, "12 %"), "Memory": (0.5, "50 %"), "Requests": (0.0, "0 each second"),
        "Errors": (0.001, "less than 0.01 each second"), "Latency": (0.0123, "12 ms"),
    }  # fmt: skip
    found = [figures.Curve(one, [0.0, values[one.name][0]]) for one in figures.FIGURES]
    text = figures.section(found, drawn=False)
    assert "canvas" not in text
    for name, (_, said) in values.items():
        assert f"<h3>{name} " in text
        assert f'<p class="figure">{said}' in text
    assert figures.Curve(figures.FIGURES[4], [None, None]).latest == "none"


class Drawn(HTMLParser):
    """The curves that scripts find in a page."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[list[float | None]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "canvas":
            known = dict(attrs)
            assert "hidden" in known
            assert known["aria-label"]
            self.found.append(json.loads(known["data-values"] or ""))


def test_what_scripts_draw_is_what_can_be_read() -> None:
    found = [figures.Curve(one, [None, 0.0, 0.25]) for one in figures.FIGURES]
    scaled = [[None, 0.0, 0.25 * scale] for scale in (100, 100, 1, 1, 1000)]
    assert Drawn(figures.section(found, drawn=True)).found == scaled
    lonely = figures.Curve(figures.FIGURES[0], [None, 0.5])
    assert "canvas" not in figures.section([lonely], drawn=True)


class Prometheus:
    """Answers questions for curves, or does not."""

    def __init__(self) -> None:
        self.asked = 0
        self.away = False
        self.now = 100.0

    def get(self, url: str, timeout: float) -> http.Response:
        assert timeout == figures.ANSWERS
        self.asked += 1
        if self.away:
            raise OSError("refused")
        query = parse_qs(urlsplit(url).query)
        body = json.dumps(curves([[float(query["end"][0]), str(self.asked)]]))
        return http.Response(200, body.encode(), None, None)


@pytest.fixture
def prometheus(monkeypatch: pytest.MonkeyPatch) -> Prometheus:
    found = Prometheus()
    monkeypatch.setattr(http, "get", found.get)
    return found


def test_prometheus_is_asked_when_somebody_looks_and_not_again_for_a_while(
    prometheus: Prometheus,
) -> None:
    known = figures.Curves("http://127.0.0.1:9090", lambda: prometheus.now)
    assert prometheus.asked == 0
    first = known.current()
    assert prometheus.asked == len(figures.FIGURES)
    prometheus.now += figures.FRESH - 1
    assert known.current() is first
    assert prometheus.asked == len(figures.FIGURES)
    prometheus.now += 2
    assert known.current() is first, "whoever looks waits for Prometheus"
    _until(lambda: prometheus.asked == 2 * len(figures.FIGURES))
    with known._asking:
        assert known._curves is not first
    prometheus.now += figures.OLD
    assert known.current() is known._curves
    assert prometheus.asked == 3 * len(figures.FIGURES)


def test_a_prometheus_that_is_away_is_said_and_asked_again(prometheus: Prometheus) -> None:
    known = figures.Curves("http://127.0.0.1:9090", lambda: prometheus.now)
    prometheus.away = True
    assert known.current() is None
    assert figures.section(None, drawn=True) == "<p>Prometheus does not answer."
    prometheus.now += figures.FRESH
    prometheus.away = False
    assert known.current() is not None


@pytest.mark.parametrize(
    "body", ["", "[]", "{}", '{"data": null}', '{"data": {"result": [{"values": [[1, "x"]]}]}}']
)
def test_an_answer_of_prometheus_that_says_nothing_hides_the_page_from_nobody(
    monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    answer = http.Response(200, body.encode(), None, None)
    monkeypatch.setattr(http, "get", lambda *_: answer)
    assert figures.Curves("http://127.0.0.1:9090").current() is None


def _until(true: Any) -> None:
    until = time.monotonic() + CEILING
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)


# --- the server ----------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as found:
        yield found


def asking(listener: socket.socket, request: bytes) -> socket.socket:
    """Return a connection over which a request was sent; whether anybody serves it yet or not."""
    client = socket.create_connection(listener.getsockname(), CEILING)
    client.sendall(request)
    client.shutdown(socket.SHUT_WR)
    return client


def said(listener: socket.socket, request: bytes, answer: Any = None) -> bytes:
    """Return what is answered to a request; then nobody else comes, and it has ended."""
    with closing(asking(listener, request)) as client:
        server.serve(listener, answer or (lambda _: server.PageAnswer(204)), idle=0.01)
        pieces = []
        while piece := client.recv(1 << 16):
            pieces.append(piece)
        return b"".join(pieces)


def test_it_answers_and_ends_when_nobody_comes(listener: socket.socket) -> None:
    asked: list[server.PageRequest] = []

    def answer(request: server.PageRequest) -> server.PageAnswer:
        asked.append(request)
        return server.PageAnswer(200, "h\u00e9", (("X-One", "1"),))

    body = b"POST /a?b=1 HTTP/1.0\r\nHost: x\r\nCookie: a=1; b=2\r\nContent-Length: 4\r\n\r\nabcd"
    found = said(listener, body, answer)
    assert found.startswith(b"HTTP/1.1 200 OK\r\nX-One: 1\r\n")
    assert found.endswith("\r\n\r\nh\u00e9".encode())
    (request,) = asked
    assert (request.method, request.path, request.query, request.body) == (
        "POST", "/a", "b=1", "abcd",
    )  # fmt: skip
    assert (request.cookie("b"), request.cookie("c")) == ("2", "")


@pytest.mark.parametrize(
    "request_", [b"\r\n\r\n", b"GET\r\n\r\n", b"GET / HTTP/1.0 x\r\n\r\n",
                 b"GET / HTTP/1.0\r\nContent-Length: x\r\n\r\n",
                 b"GET / HTTP/1.0\r\nContent-Length: -1\r\n\r\n",
                 b"GET / HTTP/1.0\r\nContent-Length: 99999999\r\n\r\n"],
)  # fmt: skip
def test_what_is_no_request_is_refused(listener: socket.socket, request_: bytes) -> None:
    assert said(listener, request_).startswith(b"HTTP/1.1 400 ")


def test_who_leaves_early_keeps_it_from_nothing(listener: socket.socket) -> None:
    assert said(listener, b"GET / HTTP/1.0\r\n") == b""
    assert said(listener, b"GET / HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 204 ")


def test_a_header_never_becomes_two() -> None:
    with pytest.raises(ValueError, match="line break"):
        server.written(server.PageAnswer(303, "", (("Location", "/\r\nSet-Cookie: a=b"),)))


@given(st.binary(max_size=200))
def test_whatever_is_sent_is_heard_or_refused(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(CEILING)
        theirs.sendall(data)
        theirs.shutdown(socket.SHUT_WR)
        try:
            assert isinstance(server.hear(ours), server.PageRequest)
        except (ValueError, ConnectionError):
            return


def test_the_origin_and_settings_are_what_the_program_is_started_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listener: socket.socket
) -> None:
    settings = tmp_path / "portal.json"
    settings.write_text(
        json.dumps({"prometheus": None, "charts": False, "provider": None, "links": []})
    )
    monkeypatch.setattr(program, "HANDED", os.dup(listener.fileno()))
    monkeypatch.setattr(program, "IDLE", 0.01)
    monkeypatch.setattr(os, "umask", lambda _: 0)
    with closing(asking(listener, b"GET /portal/session HTTP/1.0\r\n\r\n")) as client:
        assert program.main([str(settings), str(tmp_path)]) == 0
        assert client.recv(1 << 16).startswith(b"HTTP/1.1 401 ")
