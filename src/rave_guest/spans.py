"""The spans that services of the platform keep (rave_platform/adapters/spans.py), each in a file of
its own beside what else it keeps: read as its user, and put together.
"""

from __future__ import annotations

import json
import os
from contextlib import closing
from glob import glob

from rave_guest import plan
from rave_guest.refusal import Refused

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    Rows = list[dict[str, Any]]

FILES = "*spans.db"
PATIENCE = 30.0  # seconds to wait for whoever writes
LATEST = 5000  # spans among which the newest traces of a service are looked for
MOST_SPANS = 5000  # of one trace
MOST_ANSWER = 7 << 20  # bytes: the door's own answer has 8 MiB at most

COLUMNS = (
    "trace_id", "span_id", "parent_span_id", "service_name", "name", "kind",
    "start_time_unix_nano", "end_time_unix_nano", "status_code", "status_message", "attributes",
)  # fmt: skip
NEWEST = f"""SELECT trace_id, name, service_name, min(start_time_unix_nano) AS start_time_unix_nano,
    max(end_time_unix_nano) AS end_time_unix_nano, count(*) AS spans,
    sum(status_code = 2) AS errors, sum(end_time_unix_nano IS NULL) AS going_on
  FROM spans WHERE trace_id IN (SELECT trace_id FROM
    (SELECT trace_id FROM spans ORDER BY start_time_unix_nano DESC LIMIT {LATEST}))
  GROUP BY trace_id ORDER BY 4 DESC LIMIT :most"""  # noqa: S608 - a number of ours
# By the id of the trace, or of what it is about: a span says `rave.task` or `rave.event` of it.
NAMED = """SELECT DISTINCT trace_id FROM spans WHERE trace_id LIKE :name || '%'
    OR replace(json_extract(attributes, '$."rave.task"'), '-', '') LIKE :name || '%'
    OR replace(json_extract(attributes, '$."rave.event"'), '-', '') LIKE :name || '%' LIMIT 20"""
ALL = f"""SELECT {", ".join(COLUMNS)} FROM spans WHERE trace_id = :trace
    ORDER BY start_time_unix_nano LIMIT {MOST_SPANS}"""  # noqa: S608 - words of ours


def traces(
    action: str, arguments: Mapping[str, Any], files: Iterable[str] | None = None
) -> dict[str, Any]:
    """Return the newest traces, or one with its spans.

    Raises:
        Refused: at stage `absent` if there is no such trace; `input` if several are; `provider` if
            what a service keeps cannot be read.
    """
    places = stores(plan.own()) if files is None else list(files)
    if action == "list":
        return {"traces": _newest(places, arguments["most"])}
    name = arguments["trace"].replace("-", "")
    ids = sorted({row["trace_id"] for row in _rows(places, NAMED, name=name)})
    if not ids:
        raise Refused("absent", f"there is no trace {arguments['trace']}, or it is no longer kept")
    if len(ids) > 1:
        raise Refused(
            "input", f"several traces are meant by {arguments['trace']}: {', '.join(ids)}"
        )
    spans = sorted(_rows(places, ALL, trace=ids[0]), key=lambda row: row["start_time_unix_nano"])
    return {"trace": {"trace_id": ids[0], "spans": [_document(row) for row in spans]}}


def stores(own: Mapping[str, Any]) -> list[str]:
    """Return the files of spans of this guest's services."""
    kept = (record.get("state") for record in own["services"].values())
    return sorted(place for state in kept if state for place in glob(f"{state['path']}/{FILES}"))


def _newest(places: Iterable[str], most: int) -> Rows:
    """Return the newest traces: each as all services together know it."""
    found: dict[str, dict[str, Any]] = {}
    for row in _rows(places, NEWEST, most=most):
        one = found.setdefault(row["trace_id"], {**row, "services": set(), "spans": 0, "errors": 0})
        if row["start_time_unix_nano"] < one["start_time_unix_nano"]:
            one.update({name: row[name] for name in ("name", "start_time_unix_nano")})
        ends = [end for end in (one["end_time_unix_nano"], row["end_time_unix_nano"]) if end]
        one["end_time_unix_nano"] = max(ends, default=None)
        one["going_on"] = bool(one["going_on"] or row["going_on"])
        one["spans"] += row["spans"]
        one["errors"] += row["errors"]
        one["services"].add(row["service_name"])
    newest = sorted(found.values(), key=lambda one: -one["start_time_unix_nano"])[:most]
    for one in newest:
        del one["service_name"]
        one["services"] = sorted(one["services"])
    return newest


def _document(row: dict[str, Any]) -> dict[str, Any]:
    """Return a span as OpenTelemetry calls its parts."""
    code, message = row.pop("status_code"), row.pop("status_message")
    return {
        **row,
        "status": {"code": code, "message": message},
        "attributes": json.loads(row["attributes"]),
    }


def _rows(places: Iterable[str], query: str, **values: object) -> Rows:
    return [row for place in places for row in _as_owner(place, lambda p: _asked(p, query, values))]


def _asked(place: str, query: str, values: Mapping[str, object]) -> Rows:
    import sqlite3

    with closing(sqlite3.connect(f"file:{place}?mode=rw", uri=True, timeout=PATIENCE)) as store:
        store.row_factory = sqlite3.Row
        store.execute("PRAGMA query_only = 1")
        return [dict(row) for row in store.execute(query, dict(values))]


def _as_owner(place: str, ask: Callable[[str], Rows]) -> Rows:
    """Ask as the user whose file it is: nothing that lies in a service's directory is to be read
    with root's rights, and what SQLite makes beside the file must be the service's.

    Raises:
        Refused: it cannot be read.
    """
    ours, theirs = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(ours)
        _answer(place, ask, theirs)
    os.close(theirs)
    with open(ours, "rb") as stream:
        said = stream.read(MOST_ANSWER + 1)
    os.waitpid(child, 0)
    if len(said) > MOST_ANSWER:
        raise Refused("input", "that is more than can be shown at once: ask for fewer traces")
    try:
        found = json.loads(said)
    except ValueError:
        found = "its reader ended"
    if isinstance(found, str):
        raise Refused("provider", f"the spans {place} cannot be read: {found}")
    rows: Rows = found
    return rows


def _answer(place: str, ask: Callable[[str], Rows], out: int) -> None:
    """Write what is there, or why it cannot be read, and end this process."""
    try:
        owner = os.lstat(place)
        if os.geteuid() == 0 and owner.st_uid != 0:
            os.setgroups([])
            os.setgid(owner.st_gid)
            os.setuid(owner.st_uid)
        said: object = ask(place)
    except Exception as error:  # noqa: BLE001 - whoever waits is told, whatever it is
        said = f"{type(error).__name__}: {error}"
    try:
        with open(out, "w", encoding="utf-8") as stream:
            json.dump(said, stream)
    finally:
        os._exit(0)
