"""Holds a document against its event log: both tell of one run, and whatever both say must agree.

A signature says who wrote a transcript, not that it makes sense. Here a well-signed record is
refused if its two halves differ in any field of any check, in what the run was about, or in its
times, or if its times cannot be: a negative duration, an event before the run, a check that took
longer than the run.

`differences` and `impossibilities` return one line for each fault; names that rave checked before
are all that they quote.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING, cast

from rave_cli.transcript.canonical import Json, line_bytes, same, to_json
from rave_cli.transcript.chain import ABORT, CHECK, DIGEST, FACTS, SUBJECT
from rave_cli.transcript.check import MEMBERS
from rave_cli.transcript.document import boot_id
from rave_cli.transcript.formats import FIRST
from rave_cli.transcript.parts import health_part, security_part

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from rave_cli.transcript.chain import Chain
    from rave_cli.transcript.check import CheckResult
    from rave_cli.transcript.document import Document

# How far two clocks may be apart: this host's and another's, or one host's two.
CLOCK_SKEW = timedelta(minutes=5)
# Times are rounded to milliseconds.
ROUNDING = 0.002
MOST_SHOWN = 20

SUBJECT_MEMBERS = ("profile", "base", "mode")
# The figures that are about the run itself; the others are those that checks found.
OF_THE_RUN = ("checks_seconds", "phase_seconds")
PARTS = ("authentication_tests", "agent_control_tests", "sandbox_tests")


def moment(text: str) -> datetime:
    """Return the time that `2026-01-24T14:30:52Z` means.

    Raises:
        ValueError: if the text is written in any other way.
    """
    found = datetime.strptime(text, "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    if found.strftime("%Y-%m-%dT%H:%M:%SZ") != text:
        raise ValueError("a time is not written as it must be")
    return found


def shown(faults: list[str]) -> tuple[str, ...]:
    """Return as many of the faults as a person reads."""
    more = len(faults) - MOST_SHOWN
    return tuple(faults if more <= 0 else [*faults[:MOST_SHOWN], f"and {more} more"])


def differences(document: Document, chain: Chain) -> list[str]:
    """Return where the document and its event log differ."""
    ends = (document.started, document.completed, document.status)
    found = []
    if ends != (chain.ends.started, chain.ends.completed, chain.ends.status):
        found.append("start, end or status: the document and the event log differ")
    if document.format is FIRST:
        return [*found, *_first_subject(document, chain)]
    return [
        *found,
        *_subject(document, chain),
        *_checks(document, chain),
        *_facts(document, chain),
        *_digests(document, chain),
        *_parts(document),
        *_copied_figures(document),
    ]


def impossibilities(document: Document, chain: Chain) -> list[str]:
    """Return which times and durations cannot be."""
    try:
        started, completed = moment(document.started), moment(document.completed)
        times = [moment(event.time) for event in chain.events]
    except ValueError:
        return ["a time cannot be read"]
    if not math.isfinite(document.seconds) or document.seconds < 0:
        return ["duration_seconds: no run takes that long"]
    if timedelta(seconds=_capped(document.seconds)) > completed - started + CLOCK_SKEW:
        return ["duration_seconds: longer than from start_time to completion_time"]
    if document.format is FIRST:
        return []
    return [
        *_times(document, chain, times),
        *_durations(document, chain),
        *_figures(document),
    ]


def _capped(seconds: float) -> float:
    """Return seconds that a timedelta can hold."""
    return min(seconds, 1e9)


# --- what the run was about


def _first_subject(document: Document, chain: Chain) -> Iterator[str]:
    """Compare what a log of the first format says of its subject, where it says anything."""
    for event in chain.of(SUBJECT):
        for name in SUBJECT_MEMBERS:
            if event.data.get(name) != document.members[name]:
                yield f"{name}: the event log names another"
        # The run had failed for this reason if it looked, and says so itself.
        if document.status != "FAILED" and (
            event.data.get("image") != document.members["image_digest"]
        ):
            yield "image: the event log names another"


def _subject(document: Document, chain: Chain) -> Iterator[str]:
    if [event.number for event in chain.of(SUBJECT)] != [2]:
        yield "subject: the event log does not say once, and first, what the run is about"
        return
    assert document.subject is not None  # noqa: S101 - a run that completed has one
    ours = cast("dict[str, Json]", to_json(document.subject.document()))
    theirs = chain.of(SUBJECT)[0].data
    for name in {**ours, **theirs}:
        if name not in ours or name not in theirs or not same(ours[name], theirs[name]):
            yield f"{name if name in ours else 'subject'}: the event log names another"
    if chain.of(ABORT):
        yield "abort: the event log says that the run was aborted"


def _facts(document: Document, chain: Chain) -> Iterator[str]:
    """Compare what the document says of the guest with what the guest said last."""
    said = [event.data for event in chain.of(FACTS)]
    facts = said[-1] if said else {}
    if document.guest_boot_id != boot_id(facts.get("boot_id")):
        yield "guest_boot_id: the guest said something else"
    system_info = cast("dict[str, Json]", document.members["system_info"])
    for name in system_info.keys() & facts.keys():
        if not same(system_info[name], facts[name]):
            yield f"system_info: the guest said something else of {name!r}"


def _digests(document: Document, chain: Chain) -> Iterator[str]:
    assert document.digests is not None  # noqa: S101 - a run that completed has them
    for when, digest in (("before", document.digests.before), ("after", document.digests.after)):
        read = [e.data.get("sha256") for e in chain.of(DIGEST) if e.data.get("moment") == when]
        if read != [digest]:
            yield f"image: another digest was read {when} the checks"


# --- the checks


def _checks(document: Document, chain: Chain) -> Iterator[str]:
    """Compare every field of every check, as it is written."""
    results = cast("list[dict[str, Json]]", document.members["validation_results"])
    told = dict(zip(document.checks, results, strict=True))
    logged: dict[str, dict[str, Json]] = {}
    for event in chain.of(CHECK):
        id_ = event.data.get("id")
        if not isinstance(id_, str) or id_ not in told:
            yield f"line {event.number}: a check that the document does not have"
        elif id_ in logged:
            yield f"{id_}: the event log has it twice"
        else:
            logged[id_] = event.data | {"phase": event.phase}
    for id_, result in told.items():
        if id_ not in logged:
            yield f"{id_}: the event log does not have it"
            continue
        entry = logged[id_]
        for name in MEMBERS:
            if name not in entry or not same(entry[name], result[name]):
                yield f"{id_}: {name} differs"
        if set(entry) != set(MEMBERS):
            yield f"{id_}: the event log says more of it"


def _parts(document: Document) -> Iterator[str]:
    """Derive again what is derived from checks."""
    members = document.members
    for name in PARTS:
        yield from _part(document, name, members[name], health_part)
    services = cast("dict[str, Json]", members["service_health"])
    for name, part in services.items():
        yield from _part(document, f"service_health of {name!r}", part, health_part)
    yield from _part(document, "security_validation", members["security_validation"], security_part)


def _part(
    document: Document,
    name: str,
    part: Json,
    derive: Callable[[Sequence[CheckResult]], dict[str, object]],
) -> Iterator[str]:
    if not isinstance(part, dict) or not isinstance(ids := part.get("checks"), dict):
        return
    if not set(ids) <= set(document.checks):
        yield f"{name}: it names a check that the document does not have"
    elif not same(part, to_json(derive([document.checks[id_] for id_ in ids]))):
        yield f"{name}: it does not follow from the checks"


# --- times


def _times(document: Document, chain: Chain, times: list[datetime]) -> Iterator[str]:
    """Look for events out of order, and for two clocks that cannot both be right."""
    if not re.fullmatch(f"spinup-{times[0]:%Y%m%d-%H%M%S}(-[0-9]{{1,2}})?", document.session):
        yield "test_session_id: it names another time than start_time"
    if any(later < earlier for earlier, later in pairwise(times)):
        yield "time: an event comes before the one in the line before it"
    for event, time in zip(chain.events, times, strict=True):
        if not math.isfinite(event.mono) or event.mono < 0:
            yield f"line {event.number}: no event comes then"
        elif abs(time - times[0] - timedelta(seconds=_capped(event.mono))) > CLOCK_SKEW:
            yield f"line {event.number}: the time of day and the time since the start disagree"
    if any(later.mono < earlier.mono for earlier, later in pairwise(chain.events)):
        yield "mono: an event comes before the one in the line before it"
    if not same(document.seconds, chain.ends.seconds):
        yield "duration_seconds: the event log ends at another time"


def _durations(document: Document, chain: Chain) -> Iterator[str]:
    """Look for checks that took longer than the run had been going on."""
    when = {str(event.data.get("id")): event.mono for event in chain.of(CHECK)}
    for check in document.checks.values():
        if check.seconds > when.get(check.id, 0.0) + ROUNDING:
            yield f"{check.id}: it took longer than the run had been going on"


def _figures(document: Document) -> Iterator[str]:
    """Look for figures below zero, and for times within the run that are longer than the run."""
    figures = cast("dict[str, Json]", document.members["performance_metrics"])
    for name, value in figures.items():
        if any(number < 0 for number in _numbers(value)):
            yield f"performance_metrics: {name!r} is negative"
    within = [figures.get(name) for name in OF_THE_RUN]
    if any(number > document.seconds + ROUNDING for number in _numbers(within)):
        yield "performance_metrics: a part of the run took longer than the run"


def _copied_figures(document: Document) -> Iterator[str]:
    """Look for figures that no check found."""
    found = {line_bytes(cast("Json", v)) for c in document.checks.values() for v in c.data.values()}
    figures = cast("dict[str, Json]", document.members["performance_metrics"])
    for name, value in figures.items():
        if name not in OF_THE_RUN and line_bytes(value) not in found:
            yield f"performance_metrics: {name!r} is not among the data of the checks"


def _numbers(value: Json) -> Iterator[float]:
    match value:
        case bool():
            return
        case int() | float():
            yield value
        case list():
            for item in value:
                yield from _numbers(item)
        case dict():
            for item in value.values():
                yield from _numbers(item)
        case _:
            return
