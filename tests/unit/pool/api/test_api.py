"""The API over real sockets: who may ask what, what is refused, and that nothing is a 5xx."""

from __future__ import annotations

import io
import json
import os
import pwd
import stat
import tarfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rave_cli import audit
from rave_cli.pool.access.wire import MOST_BODY
from rave_cli.pool.api import callers, openapi
from rave_cli.pool.api.endpoints import ENDPOINTS
from rave_cli.pool.api.tokens import ROLES, Tokens, may
from rave_cli.pool.files import artifacts
from rave_cli.pool.jobs import store as stores
from rave_cli.pool.jobs.job import AttemptFacts, Began, Ended, Printed
from rave_cli.pool.jobs.rows import facts_text
from rave_cli.pool.jobs.store import open_store
from rave_cli.pool.jobs.work import Work

if TYPE_CHECKING:
    from collections.abc import Iterator

    import httpx

    from rave_cli.pool.jobs.job import Happening

    from .conftest import ServedApi

JOB = {"command": ["true"]}
SUBMIT = {"jobs": [JOB]}
MANY = settings(max_examples=12, suppress_health_check=[HealthCheck.function_scoped_fixture])


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    found: dict[str, Any] = answer.json()
    assert found["status"] == status
    return found


def ended(printed: bytes = b"out\n") -> str:
    """Return the name of a job that is over and has printed something."""
    with open_store() as store:
        (job,) = store.accept([Work(("true",))])
        happened: list[Happening] = [
            Began(1, 1, "a"),
            Printed(1, 1, printed),
            Ended(2, 1, "failure", 3, "", 1, 0),
        ]
        store.record([(job.name, what) for what in happened])
    return job.name


def test_only_its_owner_can_open_the_socket(api: ServedApi) -> None:
    place = Path(api.unix.removeprefix("unix:"))
    assert stat.S_IMODE(place.stat().st_mode) == 0o600
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


def test_a_job_is_submitted_listed_shown_and_cancelled(api: ServedApi) -> None:
    with api.owner() as owner:
        (job,) = owner.post("/v1/jobs", json=SUBMIT).json()
        with open_store() as store:
            assert store.load(job["name"]).work == Work(("true",))
        assert owner.get("/v1/jobs").json() == [job]
        assert owner.get("/v1/jobs?state=running&state=success").json() == []
        assert owner.get(f"/v1/jobs/{job['name'][:6]}").json() == job
        assert owner.post(f"/v1/jobs/{job['name']}/cancel").json()["cancelling"] is True
        codes = [
            one["code"] for one in owner.get(f"/v1/jobs/{job['name']}/reasons").json()["reasons"]
        ]
        assert codes[0] == "cancelling"
        assert owner.get("/v1/standing").json()["counts"] == {"waiting": 1}


def test_whoever_hears_no_answer_asks_again_with_the_same_key(api: ServedApi) -> None:
    said = {"Idempotency-Key": '"8e03978e \\"x\\""'.replace(" ", "-")}
    with api.owner() as owner, api.holder("submitter") as holder:
        (job,) = owner.post("/v1/jobs", json=SUBMIT, headers=said).json()
        for _ in range(2):
            answer = owner.post("/v1/jobs", json=SUBMIT, headers=said)
            assert (answer.status_code, answer.json()) == (201, [job])
        other = owner.post("/v1/jobs", json={"jobs": [JOB, JOB]}, headers=said)
        assert "was used before" in problem(other, 422)["title"]
        (theirs,) = holder.post("/v1/jobs", json=SUBMIT, headers=said).json()
        assert theirs["name"] != job["name"]
        for bad in ("8e03978e", '""', '"a', '"a b"', '"\xe4"', '"' + "a" * 256 + '"'):
            said_so = [(b"Idempotency-Key", bad.encode("latin-1"))]
            refused = owner.post("/v1/jobs", json=SUBMIT, headers=said_so)
            problem(refused, 400)
        assert len(owner.get("/v1/jobs").json()) == 2


def test_a_job_is_whose_token_it_came_with(api: ServedApi) -> None:
    user = pwd.getpwuid(os.getuid()).pw_name
    with api.owner() as owner, api.holder("submitter") as holder:
        (mine,) = owner.post("/v1/jobs", json=SUBMIT).json()
        (theirs,) = holder.post("/v1/jobs", json=SUBMIT).json()
        assert (mine["owner"], theirs["owner"]) == (user, "token:somebody")
        name = ended()
        (again,) = holder.post("/v1/retries", json={"jobs": [name]}).json()
        assert again["again"]["owner"] == "token:somebody"
        # What is one's own one may cancel.
        problem(holder.post(f"/v1/jobs/{mine['name']}/cancel"), 403)
        assert holder.post(f"/v1/jobs/{theirs['name']}/cancel").json()["cancelling"] is True
        # Nobody says whose it is.
        problem(holder.post("/v1/jobs", json={"jobs": [JOB | {"owner": user}]}), 422)


def test_what_a_job_left_is_told_by_its_path_alone(api: ServedApi) -> None:
    name = ended()
    place = artifacts.place_of(name, 1)
    (place / "out").mkdir(parents=True)
    (place / "out/a.html").write_text("<p>")
    (place.parent / "secret").write_text("x")
    facts = AttemptFacts("1" * 64, artifacts=artifacts.found_in(place))
    with open_store() as store:
        store._db.execute("UPDATE jobs SET facts = ?", (facts_text(facts),))
    with api.holder("viewer") as viewer:
        answer = viewer.get(f"/v1/jobs/{name}/artifacts/out/a.html")
        assert (answer.text, answer.headers["content-type"]) == ("<p>", "application/octet-stream")
        assert answer.headers["content-disposition"] == 'attachment; filename="a.html"'
        for path in (
            "out",
            "../secret",
            "%2e%2e/secret",
            "out/..%2f..%2f..%2fsecret",
            "//etc/passwd",
        ):
            problem(viewer.get(f"/v1/jobs/{name}/artifacts/{path}"), 422 if path[0] != "." else 404)
        (place / "out/a.html").unlink()
        (place / "out/a.html").symlink_to("/etc/passwd")
        problem(viewer.get(f"/v1/jobs/{name}/artifacts/out/a.html"), 422)
        problem(viewer.get(f"/v1/jobs/{name}/proof"), 422)
    with api.other() as nobody:
        problem(nobody.get(f"/v1/jobs/{name}/proof"), 401)
        problem(nobody.get(f"/v1/jobs/{name}/artifacts/out/a.html"), 401)


def test_all_of_a_submission_is_taken_in_or_none(api: ServedApi) -> None:
    with api.owner() as owner:
        refused = problem(owner.post("/v1/jobs", json={"jobs": [JOB, {"command": []}]}), 422)
        assert "a command or a script" in refused["title"]
        assert owner.get("/v1/jobs").json() == []
        assert len(owner.post("/v1/jobs", json={"jobs": [JOB] * 100}).json()) == 100
        problem(owner.post("/v1/jobs", json={"jobs": [JOB] * 101}), 422)


def test_a_full_pool_says_when_to_ask_again(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stores.JobStore.accept_each, "__kwdefaults__", {"most": 2})
    with api.owner() as owner:
        assert owner.post("/v1/jobs", json={"jobs": [JOB] * 2}).status_code == 201
        answer = owner.post("/v1/jobs", json=SUBMIT)
        assert "the pool is full" in problem(answer, 503)["title"]
        assert int(answer.headers["retry-after"]) > 0


def test_what_was_printed_and_given_up_is_told(api: ServedApi) -> None:
    name = ended(b"\x00\xff out")
    with api.owner() as owner:
        (piece,) = owner.get(f"/v1/jobs/{name}/output?attempt=1").json()
        assert (piece["stream"], piece["data"]) == (1, "AP8gb3V0")
        assert owner.get(f"/v1/jobs/{name}/output?attempt=1&after={piece['number']}").json() == []
        (again,) = owner.post("/v1/retries", json={"jobs": [name, name[:8]]}).json()
        assert again["job"]["name"] == name
        problem(owner.post("/v1/retries", json={"jobs": [again["again"]["name"]]}), 422)
        assert owner.post("/v1/retries", json={}).json() == []
        assert owner.get("/v1/dead").json() == []
        assert owner.post("/v1/dead/drop", json={"jobs": [name]}).json() == []


def test_the_pool_is_scaled_and_drained(api: ServedApi) -> None:
    with api.owner() as owner:
        scaled = {"agents": 5, "draining": False, "standby": 0}
        assert owner.put("/v1/scale", json={"agents": 5}).json() == scaled
        assert owner.put("/v1/drain", json={"draining": True}).json()["draining"] is True
        assert owner.put("/v1/scale", json={}).json() == scaled | {"agents": None, "draining": True}
        problem(owner.put("/v1/scale", json={"agents": 65}), 422)


def packed(**files: bytes) -> bytes:
    found = io.BytesIO()
    with tarfile.open(fileobj=found, mode="w") as archive:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    return found.getvalue()


def test_a_job_is_given_an_archive_that_was_sent_before(api: ServedApi) -> None:
    with api.holder("submitter") as submitter:
        given = submitter.post("/v1/inputs", content=packed(a=b"x" * 300_000)).json()
        asked = {"jobs": [JOB | {"given": given}]}
        (job,) = submitter.post("/v1/jobs", json=asked).json()
        assert job["work"]["given"] == given
        refused = problem(submitter.post("/v1/inputs", content=b"no archive" * 99), 422)
        assert "no tar archive" in refused["title"]
        outside = {"jobs": [JOB | {"given": given | {"sha256": "../../../../etc/passwd"}}]}
        problem(submitter.post("/v1/jobs", json=outside), 422)


# --- who may ask ---------------------------------------------------------------------------------


def test_without_a_good_token_nothing_is_told_on_the_network(api: ServedApi) -> None:
    for token in ("", "x", "a.b.c"):
        with api.other(token) as other:
            assert other.get("/v1/health").status_code == 200
            for endpoint in ENDPOINTS:
                path = f"/v1{endpoint.path}".replace("{job}", "abc")
                answer = other.request(endpoint.method, path)
                assert answer.status_code in (401, 429), path
                assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize("role", ROLES)
def test_each_role_may_what_the_table_says_and_nothing_else(api: ServedApi, role: Any) -> None:
    name = ended()
    with api.holder(role) as holder:
        for endpoint in ENDPOINTS:
            path = f"/v1{endpoint.path}".replace("{job}", name)
            answer = holder.request(endpoint.method, path, json={} if endpoint.acts else None)
            let_in = answer.status_code not in (401, 403)
            assert let_in == may(role, endpoint.role), (endpoint, answer.text)
        assert (holder.post("/v1/jobs", json=SUBMIT).status_code == 201) == may(role, "submitter")
        assert (holder.post("/v1/inputs", content=packed(a=b"")).status_code == 201) == may(
            role, "submitter"
        )


def test_the_figures_are_told_to_whoever_may_look(api: ServedApi) -> None:
    with api.owner() as owner, api.other() as other, api.holder("viewer") as viewer:
        submitted = owner.post("/v1/jobs", json={"jobs": [{"command": ["true"]}]})
        assert submitted.status_code == 201
        mine = owner.get("/metrics")
        assert mine.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert 'cicd_pipeline_run_state="pending"} 1\n' in mine.text
        assert submitted.json()[0]["name"] not in mine.text
        assert viewer.get("/metrics").text.splitlines()[0] == mine.text.splitlines()[0]
        assert other.get("/metrics").status_code == 401


def test_a_job_belongs_to_the_trace_of_whoever_asks(
    api: ServedApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    header = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    other = header.replace("4bf9", "5bf9")
    with api.owner() as owner:
        jobs: list[dict[str, Any]] = [{"command": ["true"]}] * 2
        jobs[1] = jobs[1] | {"traceparent": other}
        answer = owner.post("/v1/jobs", json={"jobs": jobs}, headers={"traceparent": header})
        mine, its_own = answer.json()
        assert (mine["trace"], its_own["trace"]) == (header[3:35], other[3:35])
        told = owner.get(f"/v1/jobs/{mine['name']}/trace").json()
        assert told["spans"][0]["parent"] == header[36:52]
        # A header that is none is as if there were none; in a job it is refused.
        for bad in ("", "nonsense", header.upper()):
            answer = owner.post("/v1/jobs", json={"jobs": jobs[:1]}, headers={"traceparent": bad})
            assert answer.json()[0]["trace"] != header[3:35]
        jobs[1]["traceparent"] = "nonsense"
        assert owner.post("/v1/jobs", json={"jobs": jobs}).status_code == 422


def test_whoever_may_only_submit_gets_no_secret(api: ServedApi) -> None:
    asked = {"jobs": [JOB | {"secrets": ["registry/token"]}]}
    with api.holder("submitter") as submitter, api.holder("operator") as operator:
        assert "operator" in problem(submitter.post("/v1/jobs", json=asked), 403)["title"]
        assert operator.post("/v1/jobs", json=asked).status_code == 201


def test_a_token_that_is_revoked_or_over_is_refused_at_once(api: ServedApi) -> None:
    record, token = Tokens().create("ci", "viewer", 1, time.time())
    with api.other(token) as other:
        assert other.get("/v1/jobs").status_code == 200
        Tokens().revoke(record.number, time.time())
        answer = other.get("/v1/jobs")
        problem(answer, 401)
        assert answer.headers["www-authenticate"] == "Bearer"
    _, ending = Tokens().create("ci", "viewer", 1, time.time() - 3600)
    with api.other(ending) as other:
        problem(other.get("/v1/jobs"), 401)


def test_whoever_asks_too_often_or_guesses_is_told_to_wait(
    home: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    monkeypatch.setattr(callers, "ASKS_AT_ONCE", 5)
    monkeypatch.setattr(callers, "ASKS_PER_SECOND", 0.01)
    monkeypatch.setattr(callers, "GUESSES_AT_ONCE", 3)
    monkeypatch.setattr(callers, "GUESSES_PER_SECOND", 0.01)
    api: ServedApi = request.getfixturevalue("api")
    with api.holder("viewer") as holder, api.other("a.b.c") as guessing, api.owner() as owner:
        assert [holder.get("/v1/jobs").status_code for _ in range(7)] == [200] * 5 + [429] * 2
        found = [guessing.get("/v1/jobs") for _ in range(5)]
        assert [answer.status_code for answer in found] == [401] * 3 + [429] * 2
        assert int(found[-1].headers["retry-after"]) > 0
        assert all(owner.get("/v1/jobs").status_code == 200 for _ in range(9))


def test_the_audit_log_tells_who_did_what(api: ServedApi) -> None:
    name = ended()
    with api.holder("operator") as operator:
        operator.post("/v1/jobs", json={"jobs": [JOB] * 3})
        operator.post(f"/v1/jobs/{name}/cancel")
        operator.get("/v1/jobs")
        operator.put("/v1/scale", json={"agents": 65})
    told = [entry.told for entry in audit.read().entries if entry.kind == "end"]
    assert [(one.verb, one.subjects, one.options) for one in told] == [
        ("pool submit", ("3 by somebody",), ("api",)),
        ("pool cancel", (name, "by somebody"), ("api",)),
    ]


# --- what is not as it must be -------------------------------------------------------------------


def test_a_body_that_is_too_large_is_refused_before_it_is_there(api: ServedApi) -> None:
    def without_length() -> Iterator[bytes]:
        for _ in range(20):
            yield b" " * (MOST_BODY // 10)

    with api.owner() as owner:
        problem(owner.post("/v1/jobs", content=b" " * (MOST_BODY + 1)), 413)
    with api.owner() as owner:
        problem(owner.post("/v1/jobs", content=without_length()), 413)


UNFIT: tuple[tuple[str, str, bytes | None, int], ...] = (
    ("GET", "/v1/nothing", None, 404),
    ("DELETE", "/v1/jobs", None, 405),
    ("GET", "/v1/jobs/zz", None, 404),
    ("GET", "/v1/jobs/0123456789ab", None, 404),
    ("GET", "/v1/jobs?most=0", None, 422),
    ("GET", "/v1/jobs?most=1&most=2", None, 422),
    ("GET", "/v1/jobs?state=odd", None, 422),
    ("GET", "/v1/jobs?else=1", None, 422),
    ("GET", "/v1/jobs/ab/output?attempt=99999999999999999999", None, 422),
    ("POST", "/v1/jobs", b"{", 400),
    ("POST", "/v1/jobs", b"\xff\xfe", 400),
    ("POST", "/v1/jobs", b"[" * 100_000, 400),
    ("POST", "/v1/jobs", b"[]", 422),
    ("POST", "/v1/jobs", b'{"jobs": [{"command": ["\\ud800"]}]}', 422),
    ("POST", "/v1/jobs", b'{"jobs": [{"command": ["\\u0000"]}]}', 422),
    ("POST", "/v1/jobs", b'{"jobs": [{"command": ["x"], "timeout": NaN}]}', 422),
    ("POST", "/v1/jobs", b'{"jobs": [{"command": ["x"], "timeout": 1e999}]}', 422),
    ("POST", "/v1/jobs", b'{"jobs": [{"command": ["x"], "extra": 1}]}', 422),
    ("POST", "/v1/jobs/ab/cancel", b'{"job": "cd"}', 422),
    ("PUT", "/v1/drain", b"{}", 422),
)


def test_what_is_no_question_is_refused(api: ServedApi) -> None:
    with api.owner() as owner:
        for method, path, body, status in UNFIT:
            problem(owner.request(method, path, content=body), status)


values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=12,
)
works = st.dictionaries(
    st.sampled_from(["command", "script", "environment", "given", "artifacts", "timeout", "x"]),
    values | st.lists(st.text(max_size=9), max_size=3),
)


@MANY
@given(st.data())
def test_nothing_that_is_asked_is_a_fault_of_the_pool(api: ServedApi, data: st.DataObject) -> None:
    with api.owner() as owner:
        for endpoint in [one for one in ENDPOINTS if one.acts]:
            path = f"/v1{endpoint.path}".replace("{job}", "ab")
            said = data.draw(values | st.fixed_dictionaries({"jobs": values}))
            body = json.dumps(said).encode()
            assert owner.request(endpoint.method, path, content=body).status_code < 500
        asked = json.dumps({"jobs": data.draw(st.lists(works, max_size=3))}).encode()
        assert owner.post("/v1/jobs", content=asked).status_code < 500
        assert owner.post("/v1/jobs", content=data.draw(st.binary(max_size=60))).status_code < 500
        text = data.draw(st.text(max_size=20))
        assert owner.get(f"/v1/jobs/{quote(text, safe='')}").status_code < 500
        assert owner.get("/v1/jobs", params={"most": text}).status_code < 500


# --- what is documented --------------------------------------------------------------------------


def test_the_document_is_openapi() -> None:
    # Compiles grammars for seconds, as jsonschema does: for whoever runs these tests, not for each
    # process that only lists them.
    from openapi_spec_validator import validate

    validate(openapi.document())
    assert {one.verb for one in ENDPOINTS} >= {"list", "show", "logs", "explain", "status"}


def test_what_is_answered_is_what_the_document_says(api: ServedApi) -> None:
    import jsonschema

    name, document = ended(), openapi.document()
    with api.owner() as owner:
        for endpoint in ENDPOINTS:
            path = f"/v1{endpoint.path}".replace("{job}", name)
            body = {
                "NamesAsked": {"jobs": [name]},
                "DrainAsked": {"draining": False},
                "StandbyAsked": {"machines": 0},
            }
            asked = body.get(endpoint.asked.__name__, {})
            params = {"attempt": 1} if endpoint.verb == "logs" else None
            answer = owner.request(
                endpoint.method, path, params=params, json=asked if endpoint.acts else None
            )
            said = document["paths"][f"/v1{endpoint.path}"][endpoint.method.lower()]["responses"]
            schema = said[str(answer.status_code)]["content"]["application/json"]["schema"]
            jsonschema.validate(answer.json(), schema | {"components": document["components"]})
        # Two digits would be the beginning of one name in 256, which is as good as the name.
        nobody = name[:-1] + ("0" if name[-1] != "0" else "1")
        refused = owner.get(f"/v1/jobs/{nobody}").json()
        problem_schema = document["components"]["schemas"]["Problem"]
        jsonschema.validate(refused, problem_schema)
