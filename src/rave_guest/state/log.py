"""PostgreSQL's write-ahead log as one row of bytes, of which the host fetches what it has not yet.

A replication slot holds the log until the host says that it has it, and no more of it than
`max_slot_wal_keep_size`: a host that stays away costs that much of the disk, and PostgreSQL goes
on. The slot's name is that of a chain: bytes that follow each other without a gap. Where the log
does not go on from what the host has (the slot was given up, the cluster is another one or one of
before), a new chain begins.

The host asks with what it has: {"chain": "…", "end": "0/3000060", "tail": SHA-256 of the last TAIL
bytes}. The answer is a stream (wire.py) of two items: FACTS, as JSON, and BYTES.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets

from rave_guest import backups
from rave_guest import plan as plans
from rave_guest.refusal import Refused
from rave_guest.state import keeping
from rave_guest.state.pieces import PIECE
from rave_guest.wire import postgres

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from typing import Any

    from rave_guest.state import wire

FACTS, BYTES = "log.json", "log"
SERVICE = "postgresql"
SLOT = "rave_log_"
CHAIN = re.compile(r"[0-9a-f]{16}")
LSN = re.compile(r"([0-9A-F]{1,8})/([0-9A-F]{1,8})")
SEGMENT = re.compile(r"[0-9A-F]{24}")
SUM = re.compile(r"[0-9a-f]{64}")
MOMENT = re.compile(r"20\d\d-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z")
# Bytes before the end of what the host has, by which it is known to be of this log: the last of
# each fetch is a record with a word that was drawn for it.
TAIL = 64
LASTS = 300.0  # seconds for one statement
NOW = """to_char(clock_timestamp() at time zone 'utc', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')"""
# Kept apart from what people set there; taken away as soon as it was carried out.
BEGINS, ENDS = "# rave: recovery begins", "# rave: recovery ends"
CONF, SIGNAL = "postgresql.auto.conf", "recovery.signal"


def position(text: str) -> int:
    """Return a place in the log (an LSN) as the number of bytes before it.

    Raises:
        ValueError: it is none.
    """
    found = LSN.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no place in a log")
    return (int(found[1], 16) << 32) + int(found[2], 16)


def told(place: int) -> str:
    """Return a place in the log as PostgreSQL writes it."""
    return f"{place >> 32:X}/{place & 0xFFFFFFFF:X}"


def file_of(timeline: int, place: int, size: int) -> str:
    """Return the name of the file with a place, files having `size` bytes."""
    high, low = divmod(place // size, (1 << 32) // size)
    return f"{timeline:08X}{high:08X}{low:08X}"


def place_of(name: str, size: int) -> int:
    """Return the place at which a file of the log begins."""
    return (int(name[8:16], 16) << 32) + int(name[16:], 16) * size


def answer(
    plan: Mapping[str, Any], out: wire.Writer, wanted: Mapping[str, Any], instance: str
) -> None:
    """Send what the host has not yet; or with `stop` nothing, and hold nothing for it any more.

    Raises:
        Refused: this machine has no log, or it cannot be read.
    """
    state = keeping.kept(plan).get(SERVICE)
    if state is None:
        raise Refused("absent", "this machine has no PostgreSQL")
    try:
        with postgres.session(LASTS, port=plans.port_of(plan, SERVICE, SERVICE)) as ask:
            if wanted["stop"]:
                drop(ask)
                backups.forget_log()
                out.begin(instance)
                out.whole()
            else:
                send(state["path"], ask, out, wanted, instance)
    except (OSError, postgres.ServerError, ValueError) as error:
        raise Refused("provider", f"PostgreSQL: {error}") from error


def send(
    path: str, ask: Callable[[str], str], out: wire.Writer, wanted: Mapping[str, Any], instance: str
) -> None:
    """Send what the host has not yet of the log of the cluster in `path`, up to now.

    Raises:
        Refused: it is not there any more.
        OSError, ServerError, ValueError: as the server fails.
    """
    size = int(ask("select pg_size_bytes(current_setting('wal_segment_size'))"))
    timeline = int(ask("select pg_walfile_name(pg_current_wal_lsn())")[:8], 16)
    goes_on = _goes_on(path, ask, wanted, timeline, size)
    if goes_on:
        chain, start, since = wanted["chain"], position(wanted["end"]), None
        ask(f"select pg_replication_slot_advance('{SLOT}{chain}', '{told(start - TAIL)}')")
    else:
        chain, start, since = _begun(ask)
    until = ask(f"select {NOW}")
    # A recovery to a time needs a commit after it to know where to stop. All is flushed with it.
    ask(f"select pg_logical_emit_message(true, 'rave', '{secrets.token_hex(TAIL)}')")
    end = position(ask("select pg_current_wal_flush_lsn()"))
    facts = {
        "chain": chain, "timeline": timeline, "segment": size, "start": told(start),
        "end": told(end), "since": since, "until": until,
        "system": ask("select system_identifier from pg_control_system()"),
    }  # fmt: skip
    out.begin(instance)
    out.item(SERVICE, FACTS, [json.dumps(facts).encode()])
    out.item(SERVICE, BYTES, pieces(path, timeline, size, start, end))
    out.whole()
    if goes_on and wanted["allowed"]:
        backups.note_log(wanted["until"], wanted["allowed"])


def _goes_on(
    path: str, ask: Callable[[str], str], wanted: Mapping[str, Any], timeline: int, size: int
) -> bool:
    """Whether the log goes on from what the host has."""
    if not wanted["chain"]:
        return False
    slot = f"from pg_replication_slots where slot_name = '{SLOT}{wanted['chain']}'"
    held = ask(f"select coalesce((select restart_lsn::text {slot} and wal_status <> 'lost'), '')")
    end = position(wanted["end"])
    if not held or position(held) > end - TAIL:
        return False
    if end > position(ask("select pg_current_wal_flush_lsn()")):
        return False
    tail = b"".join(pieces(path, timeline, size, end - TAIL, end))
    return bool(hashlib.sha256(tail).hexdigest() == wanted["tail"])


def _begun(ask: Callable[[str], str]) -> tuple[str, int, str]:
    """Begin a chain; returns its name, its first place and the time."""
    drop(ask)
    chain = secrets.token_hex(8)
    since = ask(f"select {NOW}")
    ask(f"select pg_create_physical_replication_slot('{SLOT}{chain}', true)")
    slot = f"from pg_replication_slots where slot_name = '{SLOT}{chain}'"
    return chain, position(ask(f"select restart_lsn {slot}")), since


def drop(ask: Callable[[str], str]) -> None:
    """Hold nothing of the log any more."""
    ask(
        "select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots"  # noqa: S608
        f" where starts_with(slot_name, '{SLOT}') and not active"
    )


def pieces(path: str, timeline: int, size: int, start: int, end: int) -> Iterator[bytes]:
    """Yield the log from one place to another.

    Raises:
        Refused: it is not there any more.
        OSError: it cannot be read.
    """
    while start < end:
        name = file_of(timeline, start, size)
        upto = min(end, start - start % size + size)
        try:
            with open(f"{path}/pg_wal/{name}", "rb", buffering=0) as stream:
                stream.seek(start % size)
                while start < upto:
                    # Ends where pieces end that are counted from the beginning of the file.
                    data = stream.read(min(PIECE - start % PIECE, upto - start))
                    if not data:
                        raise Refused("provider", f"PostgreSQL's log breaks off in {name}")
                    start += len(data)
                    yield data
        except FileNotFoundError as error:
            raise Refused("provider", f"PostgreSQL has given up its log {name}") from error


def lay(folder: str, target: str) -> None:
    """Put what a host kept of the log behind a cluster of before, which then recovers to a time.

    Raises:
        Refused: it does not go on from there.
        OSError: there is no room.
    """
    with open(f"{folder}/{FACTS}", encoding="utf-8") as stream:
        facts = json.load(stream)
    try:
        start, end = position(facts["start"]), position(facts["end"])
        timeline, size, at = int(facts["timeline"]), int(facts["segment"]), str(facts["at"])
    except (KeyError, TypeError, ValueError) as error:
        raise Refused("input", f"the log is damaged: {error}") from error
    if size < PIECE or size & (size - 1) or not MOMENT.fullmatch(at):
        raise Refused("input", "the log is damaged: its facts are none")
    _demand_joined(target, timeline, size, start)
    with open(f"{folder}/{BYTES}", "rb") as given:
        while start < end:
            _lay_file(given, f"{target}/pg_wal/{file_of(timeline, start, size)}", start, end, size)
            start += size - start % size
        if given.read(1):
            raise Refused("input", "the log is damaged: it has more than it says")
    _recovering(target, at)


def _demand_joined(target: str, timeline: int, size: int, start: int) -> None:
    """Make sure that the log begins within what the cluster has of it.

    Raises:
        Refused: it does not.
    """
    own = [
        name
        for name in os.listdir(f"{target}/pg_wal")
        if SEGMENT.fullmatch(name) and int(name[:8], 16) == timeline
    ]
    if not own or start > place_of(max(own), size) + size:
        raise Refused("input", "the log does not go on from the backup: something between is lost")


def _lay_file(given: Any, place: str, start: int, end: int, size: int) -> None:
    left = min(end - start, size - start % size)
    with open(os.open(place, os.O_RDWR | os.O_CREAT, 0o600), "r+b") as out:
        out.truncate(size)
        out.seek(start % size)
        while left:
            data = given.read(min(left, 1 << 20))
            if not data:
                raise Refused("input", "the log is damaged: it lacks its end")
            out.write(data)
            left -= len(data)


def _recovering(target: str, at: str) -> None:
    settled(target)
    lines = [
        BEGINS,
        # All of the log is there already.
        "restore_command = 'false'",
        "recovery_target_timeline = 'current'",
        f"recovery_target_time = '{at.replace('T', ' ').replace('Z', '+00')}'",
        "recovery_target_action = 'promote'",
        ENDS,
    ]
    with open(f"{target}/{CONF}", "a", encoding="utf-8") as out:
        out.write("".join(f"{line}\n" for line in lines))
    with open(f"{target}/{SIGNAL}", "w", encoding="utf-8"):
        pass


def settled(path: str) -> None:
    """Take away what a recovery left among the settings."""
    place = f"{path}/{CONF}"
    if not os.path.exists(place):
        return
    with open(place, encoding="utf-8") as stream:
        before = stream.read()
    after = re.sub(rf"(?ms)^{BEGINS}$.*?^{ENDS}\n", "", before)
    if after != before:
        found = os.stat(place)
        with open(f"{place}.new", "w", encoding="utf-8") as out:
            out.write(after)
        os.chmod(f"{place}.new", found.st_mode & 0o777)
        os.chown(f"{place}.new", found.st_uid, found.st_gid)
        os.rename(f"{place}.new", place)
