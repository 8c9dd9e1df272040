"""A collector of traces that takes only what OTLP's own messages can be made of."""

from __future__ import annotations

import base64
import json
import ssl
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format  # type: ignore[import-untyped]
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from opentelemetry.proto.trace.v1.trace_pb2 import Span


def parsed(document: dict[str, Any]) -> ExportTraceServiceRequest:
    """Return a request as its message; what that does not know is refused. OTLP's JSON has ids in
    hex where protobuf's has base64 (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
    """
    for resource in document["resourceSpans"]:
        for scope in resource["scopeSpans"]:
            for span in scope["spans"]:
                for name, size in (("traceId", 16), ("spanId", 8), ("parentSpanId", 8)):
                    if name in span:
                        assert len(span[name]) == 2 * size
                        assert span[name] == span[name].lower()
                        span[name] = base64.b64encode(bytes.fromhex(span[name])).decode()
                # Numbers of 64 bits are strings.
                assert isinstance(span["startTimeUnixNano"], str)
    found: ExportTraceServiceRequest = json_format.ParseDict(document, ExportTraceServiceRequest())
    return found


class StrictCollector:
    """What it took, and what it is to answer: `answers` first, then that it took all."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.requests: list[ExportTraceServiceRequest] = []
        self.faults: list[str] = []
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.headers: list[dict[str, str]] = []
        # Set unless it is to hang.
        self.goes_on = threading.Event()
        self.goes_on.set()

    @property
    def spans(self) -> list[Span]:
        """All spans that it took."""
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]


@contextmanager
def collecting(port: int = 0, tls: tuple[Path, Path] | None = None) -> Iterator[StrictCollector]:
    """Serve one meanwhile; `tls` is a certificate and its key."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            found.goes_on.wait()
            status, headers, answer = found.answers.pop(0) if found.answers else (200, {}, b"{}")
            if status == 200:
                found.headers.append(dict(self.headers))
                try:
                    assert self.path == "/v1/traces"
                    assert self.headers["Content-Type"] == "application/json"
                    found.requests.append(parsed(json.loads(body)))
                except (AssertionError, ValueError, KeyError, json_format.Error) as error:
                    found.faults.append(repr(error))
                    status = 400
            self.send_response(status)
            for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_words: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    server.daemon_threads = True
    if tls is not None:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(*tls)
        server.socket = context.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    found = StrictCollector(f"{scheme}://127.0.0.1:{server.server_address[1]}")
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield found
    finally:
        found.goes_on.set()
        server.shutdown()
        thread.join()
        server.server_close()
