"""Traces as OTLP/HTTP has them, in JSON, and what a collector says to them.

https://opentelemetry.io/docs/specs/otlp/#otlphttp: ids in hex, numbers of 64 bits as strings, a
failure of 429, 502, 503 and 504 is worth another try, any other is not.

By the standard library's client: a pool that has nothing to do has it in memory already.
"""

from __future__ import annotations

import json
import os
import re
import ssl
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import unquote, urlsplit

from rave_cli import __version__
from rave_cli.errors import ExitCode, RaveError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from http.client import HTTPResponse
    from urllib.parse import SplitResult

    from rave_cli.pool.jobs.spans import JobTrace, Span

# Headers that a collector asks for, `NAME=VALUE,…`, percent-encoded: none stands in a settings
# file or on a command line.
HEADERS = "RAVE_OTLP_HEADERS"

# Seconds to wait for a collector, and bytes of its answer that are read.
ANSWERS = 5.0
LONGEST_ANSWER = 64 << 10

AGAIN = (429, 502, 503, 504)

# Span kinds and status codes of opentelemetry/proto/trace/v1/trace.proto; flags of a span whose
# parent is known to be of another process, or of this one.
_SERVER, _INTERNAL, _ERROR = 2, 1, 2
_REMOTE, _LOCAL = 0x300, 0x100

_HEADER = re.compile(r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)=([^,]*)")


@dataclass(frozen=True)
class Collector:
    """Where traces go.

    Attributes:
        url: the address.
        headers: what it asks for, which may be secret.
        context: how TLS is done there; None without.
    """

    url: str
    headers: Mapping[str, str] = field(repr=False)
    context: ssl.SSLContext | None = None


@dataclass(frozen=True)
class ExportAnswer:
    """What a collector says: `later` is worth another try, after `wait` seconds if it says so."""

    came: Literal["taken", "refused", "later"]
    why: str = ""
    wait: float | None = None


def collector(endpoint: str) -> Collector:
    """Return the collector at an endpoint, as OTEL_EXPORTER_OTLP_ENDPOINT names one: `/v1/traces`
    is added.

    Raises:
        RaveError: USAGE if it is none, or headers would go over a network as they are.
    """
    found = _split(endpoint)
    if (
        found is None
        or found.scheme not in ("http", "https")
        or not found.hostname
        or found.query
        or found.username
    ):
        raise RaveError(
            "RAVE_OTLP_ENDPOINT names no collector",
            hint="RAVE_OTLP_ENDPOINT=https://HOST:4318",
            exit_code=ExitCode.USAGE,
        )
    headers = _headers(os.environ.get(HEADERS, ""))
    if headers and found.scheme == "http" and not _of_this_host(found.hostname):
        raise RaveError(
            f"{HEADERS} would go over the network as they are",
            hint="RAVE_OTLP_ENDPOINT=https://HOST:4318",
            exit_code=ExitCode.USAGE,
        )
    context = ssl.create_default_context() if found.scheme == "https" else None
    return Collector(f"{endpoint.rstrip('/')}/v1/traces", headers, context)


def _split(endpoint: str) -> SplitResult | None:
    """Return the parts of an address; None if it is none."""
    with suppress(ValueError):
        found = urlsplit(endpoint)
        if found.port != 0:
            return found
    return None


def document(traces: Iterable[JobTrace], pipeline: str) -> dict[str, Any]:
    """Return an ExportTraceServiceRequest of jobs that are over. `pipeline` is the profile of their
    machines.
    """
    resource = {
        "service.name": "rave-pool",
        "service.version": __version__,
        "cicd.pipeline.name": pipeline,
    }
    scope = {"name": "rave.pool", "version": __version__}
    spans = [_span(trace, span) for trace in traces for span in trace.spans]
    told = {"scope": scope, "spans": spans}
    return {
        "resourceSpans": [{"resource": {"attributes": _attributes(resource)}, "scopeSpans": [told]}]
    }


def send(to: Collector, traces: dict[str, Any]) -> ExportAnswer:
    """Send traces to a collector; return what it says."""
    said = {**to.headers, "Content-Type": "application/json"}
    connection = _connection(to)
    try:
        connection.request("POST", urlsplit(to.url).path, json.dumps(traces), said)
        answer = connection.getresponse()
        body = answer.read(LONGEST_ANSWER)
    except (OSError, HTTPException) as error:
        return ExportAnswer("later", str(error) or type(error).__name__)
    finally:
        connection.close()
    if answer.status in AGAIN:
        return ExportAnswer("later", f"it answers {answer.status}", _wait(answer))
    if not 200 <= answer.status < 300:
        return ExportAnswer("refused", f"it answers {answer.status}")
    return ExportAnswer("taken", _rejected(body))


def _connection(to: Collector) -> HTTPConnection:
    found = urlsplit(to.url)
    host = found.hostname or ""
    if to.context is None:
        return HTTPConnection(host, found.port, timeout=ANSWERS)
    return HTTPSConnection(host, found.port, timeout=ANSWERS, context=to.context)


def _span(trace: JobTrace, span: Span) -> dict[str, Any]:
    whole = span is trace.spans[0]
    ended = span.began if span.ended is None else span.ended
    attributes = dict(span.attributes) | ({"error.type": span.error} if span.error else {})
    context = trace.job.context
    found: dict[str, Any] = {
        "traceId": trace.trace,
        "spanId": span.id,
        "flags": context.flags | (_REMOTE if whole and span.parent else _LOCAL),
        "name": span.name,
        "kind": _SERVER if whole else _INTERNAL,
        "startTimeUnixNano": _nanoseconds(span.began),
        "endTimeUnixNano": _nanoseconds(ended),
        "attributes": _attributes(attributes),
        "status": {"code": _ERROR} if span.error else {},
    }
    return found | ({"parentSpanId": span.parent} if span.parent else {})


def _attributes(said: Mapping[str, str]) -> list[dict[str, Any]]:
    return [{"key": name, "value": {"stringValue": value}} for name, value in said.items()]


def _nanoseconds(at: float) -> str:
    # A float has microseconds of a time of now.
    return str(round(at * 1e6) * 1000)


def _headers(text: str) -> dict[str, str]:
    found = {}
    for part in filter(None, (word.strip() for word in text.split(","))):
        matched = _HEADER.fullmatch(part)
        value = unquote(matched[2].strip()) if matched else ""
        if matched is None or not value.isascii() or not value.isprintable():
            raise RaveError(
                f"{HEADERS} has a part that is no header",
                hint=f"{HEADERS}=NAME=VALUE,NAME=VALUE; percent-encode what is special",
                exit_code=ExitCode.USAGE,
            )
        found[matched[1]] = value
    return found


def _of_this_host(name: str) -> bool:
    try:
        return ip_address(name).is_loopback
    except ValueError:
        return name == "localhost"


def _wait(answer: HTTPResponse) -> float | None:
    said = answer.headers.get("Retry-After", "")
    return float(said) if re.fullmatch("[0-9]{1,5}", said) else None


def _rejected(body: bytes) -> str:
    """Return what a collector did not take of what it took."""
    try:
        partial = json.loads(body).get("partialSuccess", {})
        rejected = int(partial.get("rejectedSpans", 0))
    except (ValueError, TypeError, AttributeError):
        return ""
    return f"it rejected {rejected} spans" if rejected else ""
