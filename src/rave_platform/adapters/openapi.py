"""The dispatcher's HTTP as OpenAPI 3.1, for whoever writes a sender."""

from __future__ import annotations

from typing import Any

from rave_platform.domain.signatures import RefusalReason

# Of the interface, not of the program; what is only added changes the second number.
VERSION = "1.0"

ANSWERS = {
    "202": ("stored", ["accepted"]),
    "200": ("it had come before", ["duplicate"]),
    "400": ("proven, but no JSON object in UTF-8", ["malformed-body"]),
    "401": ("not proven", [reason.value for reason in RefusalReason]),
    "404": ("no such source", ["unknown-source"]),
    "408": ("the body was not there in time", ["too-slow"]),
    "413": ("the body is too large", ["too-large"]),
    "429": ("more than the source may send", ["too-many"]),
    "503": ("nothing was accepted", ["not-stored", "no-secrets"]),
}
RETRIED = {"429", "503"}
STORED = {"202", "200"}


def document() -> dict[str, Any]:
    """Return the document."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "rave webhook dispatcher",
            "version": VERSION,
            "description": "Takes webhooks in; how a source proves itself is in webhooks.md.",
        },
        "paths": {
            "/webhooks/{source}": {
                "post": {
                    "operationId": "webhook",
                    "summary": "Hand in a webhook; answered once it is on the disk",
                    "parameters": [_source()],
                    "requestBody": {
                        "required": True,
                        "content": {"application/json": {"schema": {"type": "object"}}},
                    },
                    "responses": {status: _answer(status) for status in ANSWERS},
                }
            },
            "/healthz": {"get": _plain("health", "How it is", "application/json")},
            "/metrics": {"get": _plain("metrics", "For Prometheus", "text/plain")},
            "/openapi.json": {"get": _plain("openapi", "This document", "application/json")},
        },
    }


def _source() -> dict[str, Any]:
    return {
        "name": "source",
        "in": "path",
        "required": True,
        "schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9-]{0,31}$"},
    }


def _answer(status: str) -> dict[str, Any]:
    description, words = ANSWERS[status]
    properties: dict[str, Any] = {"status": {"type": "string", "enum": words}}
    if status in STORED:
        properties["event_uuid"] = {"type": "string", "format": "uuid"}
    schema = {"type": "object", "required": sorted(properties), "properties": properties}
    answer: dict[str, Any] = {
        "description": description,
        "content": {"application/json": {"schema": schema}},
    }
    if status in RETRIED:
        answer["headers"] = {
            "Retry-After": {"description": "seconds", "schema": {"type": "integer"}}
        }
    return answer


def _plain(name: str, summary: str, media_type: str) -> dict[str, Any]:
    return {
        "operationId": name,
        "summary": summary,
        "responses": {"200": {"description": summary, "content": {media_type: {}}}},
    }
