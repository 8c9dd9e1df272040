"""The API as OpenAPI 3.1, made of the table of endpoints and the types that go over it."""

from __future__ import annotations

from functools import cache
from typing import Any

from pydantic import TypeAdapter

from rave_cli.pool.access.wire import (
    ENVELOPE,
    IDEMPOTENCY_KEY,
    MEDIA_TYPE,
    PREFIX,
    PROBLEM,
    Problem,
    SubmitAsked,
    Told,
)
from rave_cli.pool.api.endpoints import ENDPOINTS, ApiEndpoint
from rave_cli.pool.jobs.job import Job
from rave_cli.pool.jobs.work import JobInput

# What is only added changes the second number.
VERSION = "1.0"

_SCHEMAS = "#/components/schemas/{model}"

# What can come of a question; those that say when to ask again.
REFUSALS = {
    "400": "The body is no JSON",
    "401": "There is no token, or none that may be used",
    "403": "The role of the token is too small",
    "404": "There is no such job",
    "408": "The body was not there in time",
    "413": "The body is too large",
    "422": "What is asked is not as it must be",
    "429": "More than the token may ask",
    "503": "The pool is full, or its host cannot do it now; nothing was done",
}
LATER = {"429", "503"}


@cache
def document() -> dict[str, Any]:
    """Return the document."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for one in ENDPOINTS:
        place = paths.setdefault(PREFIX + one.path, {})
        place[one.method.lower()] = _operation(one, schemas)
    paths[f"{PREFIX}/jobs"]["post"] = _submit(schemas)
    paths[f"{PREFIX}/jobs/{{job}}/proof"] = {"get": _kept("proof", "job", schemas)}
    paths[f"{PREFIX}/jobs/{{job}}/artifacts/{{path}}"] = {
        "get": _kept("artifact", "job path", schemas)
    }
    paths[f"{PREFIX}/inputs"] = {"post": _give(schemas)}
    paths[f"{PREFIX}/hooks/{{source}}"] = {"post": _hook()}
    paths[f"{PREFIX}/jobs/{{job}}/follow"] = {"get": _stream("follow", "Follow a job", schemas)}
    paths[f"{PREFIX}/events"] = {"get": _stream("events", "Hear of each job that changes", schemas)}
    for name in ("health", "openapi.json"):
        paths[f"{PREFIX}/{name}"] = {"get": _open(name)}
    paths["/metrics"] = {"get": _figures()}
    _schema(Problem, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rave pool",
            "version": VERSION,
            "description": "Asks a pool of sandboxes what `rave pool` asks its own.",
        },
        "paths": paths,
        "components": {
            "schemas": dict(sorted(schemas.items())),
            "securitySchemes": {
                "token": {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
            },
        },
        "security": [{"token": []}],
    }


def _operation(one: ApiEndpoint, schemas: dict[str, Any]) -> dict[str, Any]:
    asked = TypeAdapter(one.asked).json_schema(ref_template=_SCHEMAS)
    schemas.update(asked.pop("$defs", {}))
    members, needed = asked.get("properties", {}), asked.get("required", [])
    below = [name for name in members if f"{{{name}}}" in one.path]
    rest = {name: schema for name, schema in members.items() if name not in below}
    found = _head(one.verb.replace(" --", "-"), one.summary, one.role)
    parameters = [_parameter(name, "path", members[name], needed=True) for name in below]
    if not one.acts:
        parameters += [
            _parameter(name, "query", schema, needed=name in needed)
            for name, schema in rest.items()
        ]
    if parameters:
        found["parameters"] = parameters
    if one.acts:
        body = {"type": "object", "properties": rest, "additionalProperties": False}
        left = [name for name in needed if name in rest]
        found["requestBody"] = _content(body | ({"required": left} if left else {}))
    found["responses"] = _responses("200", _schema(one.told, schemas))
    return found


def _submit(schemas: dict[str, Any]) -> dict[str, Any]:
    summary = "Submit jobs: all of them or none; answered once they are on the disk"
    found = _head("submit", summary, "submitter")
    found["description"] = "Jobs that may read secrets take the role `operator`."
    key = {"type": "string", "pattern": '^".*"$'}
    found["parameters"] = [
        _parameter(IDEMPOTENCY_KEY, "header", key, needed=False)
        | {
            "description": "The same key with the same jobs answers what it did before; 422 with"
            " other jobs. A string of Structured Fields, of 1 to 255 characters."
        }
    ]
    found["requestBody"] = _content(_schema(SubmitAsked, schemas)) | {"required": True}
    found["responses"] = _responses("201", _schema(list[Job], schemas))
    return found


def _give(schemas: dict[str, Any]) -> dict[str, Any]:
    found = _head("give", "Send a tar archive that jobs may be given", "submitter")
    found["requestBody"] = {"required": True, "content": {"application/x-tar": {}}}
    found["responses"] = _responses("201", _schema(JobInput, schemas))
    return found


def _kept(name: str, below: str, schemas: dict[str, Any]) -> dict[str, Any]:
    what, media = {
        "proof": ("the signed statement about a job that is over", ENVELOPE),
        "artifact": ("a file that a job left", "application/octet-stream"),
    }[name]
    found = _head(name, f"Return {what}", "viewer")
    text = {"type": "string"}
    found["parameters"] = [_parameter(one, "path", text, needed=True) for one in below.split()]
    _schema(Problem, schemas)
    found["responses"] = {"200": {"description": what.capitalize(), "content": {media: {}}}} | {
        status: _refusal(status) for status in ("401", "403", "404", "422", "429", "503")
    }
    return found


def _hook() -> dict[str, Any]:
    summary = "Take in what a forge tells; answered once it is on the disk"
    schema = {"type": "object", "properties": {"status": {"type": "string"}}}
    source = {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,31}$"}
    answers = {
        "200": "It is known already, or tells of nothing that is built",
        "202": "It is new and kept",
        "400": "It is signed, and its body is no JSON object",
        "401": "It is not signed as a source's forge would, or there is no such source",
        "408": "The body was not there in time",
        "413": "The body is too large",
        "429": "There are too many",
    }
    return {
        "operationId": "hook", "summary": summary, "security": [],
        "description": "A signature as the forge's documentation describes it proves who asks.",
        "parameters": [_parameter("source", "path", source, needed=True)],
        "requestBody": {"required": True, "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}},
        "responses": {
            status: {"description": said} | _content(schema) for status, said in answers.items()
        } | {"503": _refusal("503")},
    }  # fmt: skip


def _stream(name: str, summary: str, schemas: dict[str, Any]) -> dict[str, Any]:
    found = _head(name, summary, "viewer")
    found["description"] = "A WebSocket (RFC 6455); each of its messages is a `Told`, in text."
    if name == "follow":
        job = {"type": "string", "maxLength": 64}
        found["parameters"] = [_parameter("job", "path", job, needed=True)]
    _schema(Told, schemas)
    switched = {"description": "It is a WebSocket now"}
    found["responses"] = {"101": switched} | {
        status: _refusal(status) for status in ("401", "404", "429", "503")
    }
    return found


def _figures() -> dict[str, Any]:
    found = _head("metrics", "Return the pool's figures, for Prometheus", "viewer")
    answer = {
        "description": "They follow",
        "content": {"text/plain": {"schema": {"type": "string"}}},
    }
    refusals = {status: _refusal(status) for status in ("401", "403", "429", "503")}
    found["responses"] = {"200": answer} | refusals
    return found


def _open(name: str) -> dict[str, Any]:
    summary = {"health": "Say that it answers", "openapi.json": "Return this document"}[name]
    answer = {"description": summary, "content": {MEDIA_TYPE: {"schema": {"type": "object"}}}}
    return {
        "operationId": name.partition(".")[0], "summary": summary, "security": [],
        "responses": {"200": answer},
    }  # fmt: skip


def _head(name: str, summary: str, role: str) -> dict[str, Any]:
    return {"operationId": name, "summary": summary, "x-role": role}


def _schema(kind: Any, schemas: dict[str, Any]) -> dict[str, Any]:  # noqa: ANN401 - types as values
    found = TypeAdapter(kind).json_schema(ref_template=_SCHEMAS)
    schemas.update(found.pop("$defs", {}))
    if "title" not in found:
        return found
    schemas[found["title"]] = found
    return {"$ref": _SCHEMAS.format(model=found["title"])}


def _parameter(name: str, place: str, schema: Any, *, needed: bool) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {"name": name, "in": place, "required": needed, "schema": schema}


def _content(schema: dict[str, Any]) -> dict[str, Any]:
    return {"content": {MEDIA_TYPE: {"schema": schema}}}


def _responses(good: str, schema: dict[str, Any]) -> dict[str, Any]:
    answer = {"description": "It was done" if good == "200" else "It is kept"} | _content(schema)
    return {good: answer} | {status: _refusal(status) for status in REFUSALS}


def _refusal(status: str) -> dict[str, Any]:
    problem = {"schema": {"$ref": _SCHEMAS.format(model="Problem")}}
    found: dict[str, Any] = {"description": REFUSALS[status], "content": {PROBLEM: problem}}
    if status in LATER:
        found["headers"] = {
            "Retry-After": {"description": "seconds", "schema": {"type": "integer"}}
        }
    return found
